import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.objectives.base import Choice
from preceptor.objectives.minilm import MiniLM
from preceptor.types import Batch
from tests.objectives.feature_taps import (
    example_means,
    outputs,
    plain_batch,
    random_tensor,
    signal,
)

THREE = (("q", "q"), ("k", "k"), ("v", "v"))
MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def shown(width: int, seed: int) -> dict[str, Tensor]:
    return {name: random_tensor(2, 4, width, seed=seed + i) for i, name in enumerate("qkv")}


def value(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], batch: Batch | None = None, heads: int = 2
) -> Tensor:
    batch = batch or plain_batch(2, MASK)
    objective = MiniLM(THREE, heads=heads)
    term = objective.terms(outputs(ours), signal(theirs), batch, nn.Module())["minilm"]
    return example_means(term, batch)


def relations(vectors: Tensor, heads: int) -> np.ndarray:
    """R_ij of equation 6, token by token: [heads, t, t]."""
    split = vectors.numpy().reshape(len(vectors), heads, -1)
    width = split.shape[-1]
    return np.stack(
        [softmax(split[:, a] @ split[:, a].T / width**0.5, axis=-1) for a in range(heads)]
    )


def test_the_value_is_the_papers_by_hand_over_real_tokens() -> None:
    ours, theirs = shown(6, 0), shown(8, 10)
    expected = []
    for b, length in enumerate((4, 2)):
        total = 0.0
        for name in "qkv":
            p = relations(theirs[name][b, :length], 2)
            q = relations(ours[name][b, :length], 2)
            rows = [entropy(p[a, t], q[a, t]) for a in range(2) for t in range(length)]
            total += float(np.sum(rows)) / (2 * length)
        expected.append(total)
    np.testing.assert_allclose(value(ours, theirs).numpy(), expected, rtol=1e-5)


def test_a_model_relates_as_itself_does() -> None:
    ours = {name: tensor.requires_grad_() for name, tensor in shown(6, 0).items()}
    found = value(ours, {name: tensor.detach() for name, tensor in ours.items()})
    torch.testing.assert_close(found.detach(), torch.zeros(2), atol=1e-6, rtol=0)
    for gradient in torch.autograd.grad(found.sum(), list(ours.values())):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)


def test_turning_each_relation_head_changes_nothing() -> None:
    ours, theirs = shown(6, 0), shown(8, 10)
    turn = torch.linalg.qr(random_tensor(3, 3, seed=5))[0]
    turned = {n: (t.unflatten(-1, (2, 3)) @ turn).flatten(2) for n, t in ours.items()}
    torch.testing.assert_close(value(turned, theirs), value(ours, theirs))


def test_padding_changes_nothing_be_it_nan() -> None:
    ours, theirs = shown(6, 0), shown(8, 10)
    plain = value(ours, theirs)
    ours["k"][1, 2:], theirs["v"][1, 3] = torch.nan, torch.inf
    leaf = ours["k"].requires_grad_()
    found = value(ours, theirs)
    assert torch.equal(found.detach(), plain)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert gradient.isfinite().all()
    assert not gradient[1, 2:].any()


def test_a_prompt_is_attended_to_and_does_not_count() -> None:
    ours, theirs = shown(6, 0), shown(8, 10)
    scored = torch.tensor([[False, False, True, True], [False, True, False, False]])
    inputs = {"input_ids": torch.zeros(2, 4), "attention_mask": MASK.long()}
    found = value(ours, theirs, Batch(inputs, mask=scored))
    expected = 0.0
    for name in "qkv":
        p, q = relations(theirs[name][1, :2], 2), relations(ours[name][1, :2], 2)
        expected += np.mean([entropy(p[a, 1], q[a, 1]) for a in range(2)])
    assert found[1].item() == pytest.approx(expected, rel=1e-5)


def test_widths_that_the_heads_do_not_divide_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="divisor of 2"):
        value(shown(6, 0), shown(8, 10), heads=4)


def test_states_of_other_tokens_are_refused_in_words() -> None:
    theirs = {name: random_tensor(2, 5, 8) for name in "qkv"}
    with pytest.raises(ModelError, match="the same tokens"):
        value(shown(6, 0), theirs)


def test_the_teachers_block_is_asked_for() -> None:
    asked: list[Choice] = []

    def pairs(choice: Choice) -> tuple[tuple[str, str], ...]:
        asked.append(choice)
        return THREE

    MiniLM(teacher_block=20).settled(pairs)
    assert asked == [Choice("relations", teacher_block=20)]
