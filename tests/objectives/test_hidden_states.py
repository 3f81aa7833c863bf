import pytest
import torch
from torch import Tensor

from preceptor.errors import DataError, ModelError
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.types import Batch
from tests.objectives.feature_taps import (
    PAIR,
    context,
    example_means,
    outputs,
    plain_batch,
    random_tensor,
    signal,
)


def value(ours: Tensor, theirs: Tensor, batch: Batch | None = None) -> Tensor:
    objective = HiddenStates(PAIR)
    taps, hints = {"s": ours}, {"t": theirs}
    torch.manual_seed(0)
    aux = objective.auxiliary(context(taps, hints))
    batch = batch or plain_batch(len(ours))
    term = objective.terms(outputs(taps), signal(hints), batch, aux)["hidden_states"]
    return example_means(term, batch).detach()


def test_the_value_is_a_mean_over_valid_tokens_and_width_after_the_linear_map() -> None:
    ours, theirs = random_tensor(2, 4, 3), random_tensor(2, 4, 5, seed=1)
    lengths = (4, 2)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    torch.manual_seed(0)
    weight = torch.nn.Linear(3, 5, bias=False).weight.detach()
    expected = []
    for b, length in enumerate(lengths):
        squares = [((weight @ ours[b, t] - theirs[b, t]) ** 2).sum() / 5 for t in range(length)]
        expected.append(torch.stack(squares).mean())
    found = value(ours, theirs, plain_batch(2, mask))
    torch.testing.assert_close(found, torch.stack(expected))


def test_padding_changes_nothing_be_it_nan() -> None:
    ours, theirs = random_tensor(2, 4, 3), random_tensor(2, 4, 5, seed=1)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    plain = value(ours, theirs, plain_batch(2, mask))
    ours[1, 2:], theirs[1, 3] = torch.nan, torch.inf
    assert torch.equal(value(ours, theirs, plain_batch(2, mask)), plain)


def test_a_classifier_of_sentences_reads_its_attention_mask() -> None:
    ours, theirs = random_tensor(2, 4, 3), random_tensor(2, 4, 3, seed=1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    tokens = Batch({"attention_mask": mask}, labels=torch.tensor([0, 1]))
    expected = value(ours, theirs, plain_batch(2, mask.bool()))
    assert torch.equal(value(ours, theirs, tokens), expected)


def test_tokens_of_images_all_count() -> None:
    ours, theirs = random_tensor(2, 4, 3), random_tensor(2, 4, 3, seed=1)
    torch.testing.assert_close(value(ours, theirs), (ours - theirs).square().mean((1, 2)))


def test_equal_widths_are_compared_as_they_are() -> None:
    ours = random_tensor(2, 4, 3)
    assert torch.equal(value(ours, ours), torch.zeros(2))


def test_another_number_of_tokens_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="same tokens"):
        value(random_tensor(2, 4, 3), random_tensor(2, 5, 3))


def test_a_mask_of_another_length_is_refused_in_words() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(DataError, match=r"\(2, 4, 3\).*\(2, 3\)"):
        value(random_tensor(2, 4, 3), random_tensor(2, 4, 3), plain_batch(2, mask))
