from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.objectives.attention_maps import AttentionMaps
from tests.objectives.feature_taps import (
    PAIR,
    example_means,
    outputs,
    plain_batch,
    random_tensor,
    signal,
)

MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def value(
    ours: Tensor, theirs: Tensor, form: Literal["kl", "mse"], mask: Tensor | None = None
) -> Tensor:
    batch = plain_batch(len(ours), mask)
    student, teacher = outputs({"s": ours}), signal({"t": theirs})
    terms = AttentionMaps(PAIR, form).terms(student, teacher, batch, nn.Module())
    return example_means(terms["attention_maps"], batch)


def probabilities(heads: int, seed: int, mask: Tensor = MASK) -> Tensor:
    scores = random_tensor(2, heads, 4, 4, seed=seed)
    return scores.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(-1)


def test_kl_equals_scipys_over_heads_and_valid_rows() -> None:
    ours, theirs = probabilities(3, 0), probabilities(3, 1)
    expected = []
    for b, length in enumerate((4, 2)):
        rows = [
            entropy(theirs[b, h, t, :length].numpy(), ours[b, h, t, :length].numpy())
            for h in range(3)
            for t in range(length)
        ]
        expected.append(np.mean(rows))
    np.testing.assert_allclose(value(ours, theirs, "kl", MASK).numpy(), expected, rtol=1e-5)


def test_mse_is_a_mean_over_heads_and_valid_rows_and_columns() -> None:
    ours, theirs = random_tensor(2, 3, 4, 4), random_tensor(2, 3, 4, 4, seed=1)
    difference = (ours - theirs) ** 2
    expected = torch.stack([difference[0].mean(), difference[1, :, :2, :2].mean()])
    torch.testing.assert_close(value(ours, theirs, "mse", MASK), expected)


@pytest.mark.parametrize("form", ["kl", "mse"])
def test_rows_of_padding_change_nothing_be_they_nan(form: Literal["kl", "mse"]) -> None:
    ours, theirs = probabilities(2, 0), probabilities(2, 1)
    plain = value(ours, theirs, form, MASK)
    ours[1, :, 2:], theirs[1, :, 3] = torch.nan, torch.nan
    ours.requires_grad_()
    found = value(ours, theirs, form, MASK)
    assert torch.equal(found.detach(), plain)
    (gradient,) = torch.autograd.grad(found.sum(), ours)
    assert gradient.isfinite().all()


def test_scores_masked_with_infinity_are_compared_where_they_count() -> None:
    ours, theirs = random_tensor(2, 2, 4, 4), random_tensor(2, 2, 4, 4, seed=1)
    plain = value(ours, theirs, "mse", MASK)
    padding = ~MASK[:, None, None, :]
    masked, other = (scores.masked_fill(padding, -torch.inf) for scores in (ours, theirs))
    torch.testing.assert_close(value(masked, other, "mse", MASK), plain)


@pytest.mark.parametrize("form", ["kl", "mse"])
def test_equal_maps_have_no_distance_and_no_gradient(form: Literal["kl", "mse"]) -> None:
    scores = random_tensor(2, 2, 4, 4).requires_grad_()
    ours = scores.softmax(-1)
    found = value(ours, ours.detach(), form)
    torch.testing.assert_close(found, torch.zeros(2))
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)


def test_a_student_that_rules_out_what_the_teacher_attends_to_stays_finite() -> None:
    ours = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    assert value(ours, torch.full((1, 1, 2, 2), 0.5), "kl").isfinite().all()


@pytest.mark.parametrize("form", ["kl", "mse"])
def test_neighbouring_heads_are_averaged_to_the_smaller_number(form: Literal["kl", "mse"]) -> None:
    ours, theirs = probabilities(2, 0), probabilities(4, 1)
    grouped = torch.stack([theirs[:, :2].mean(1), theirs[:, 2:].mean(1)], dim=1)
    torch.testing.assert_close(value(ours, theirs, form), value(ours, grouped, form))
    torch.testing.assert_close(value(theirs, ours, form), value(grouped, ours, form))


def test_numbers_of_heads_that_do_not_divide_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="2 and 3 heads"):
        value(probabilities(2, 0), probabilities(3, 1), "kl")


def test_what_is_no_attention_map_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match=r"\[B, heads, T, T\]"):
        value(random_tensor(2, 4, 3), random_tensor(2, 4, 3), "mse")
