import pytest
import torch
from torch import nn
from torch.nn import functional as F

from preceptor.errors import ModelError, RecipeError
from preceptor.objectives.attention_transfer import AttentionTransfer
from tests.objectives.feature_taps import PAIR, outputs, plain_batch, random_tensor, signal


def value(ours: torch.Tensor, theirs: torch.Tensor, exponent: float = 2.0) -> torch.Tensor:
    objective = AttentionTransfer(PAIR, exponent)
    batch = plain_batch(len(ours))
    terms = objective.terms(outputs({"s": ours}), signal({"t": theirs}), batch, nn.Module())
    return terms["attention_transfer"].values


def test_a_case_worked_by_hand() -> None:
    # Activities (9, 16) and (1, 0): lengths sqrt(337) and 1.
    ours = torch.tensor([[[[3.0, 4.0]]]])
    theirs = torch.tensor([[[[1.0, 0.0]]]])
    root = 337**0.5
    expected = ((9 / root - 1) ** 2 + (16 / root) ** 2) / 2
    assert value(ours, theirs).item() == pytest.approx(expected, rel=1e-6)


def test_the_value_is_the_authors_mean_over_batch_and_space() -> None:
    ours, theirs = random_tensor(4, 3, 5, 5), random_tensor(4, 7, 5, 5, seed=1)
    maps = [F.normalize(f.pow(2).mean(1).view(4, -1)) for f in (ours, theirs)]
    expected = (maps[0] - maps[1]).pow(2).mean()
    torch.testing.assert_close(value(ours, theirs).mean(), expected)


@pytest.mark.parametrize("swap", [False, True])
def test_the_larger_map_is_averaged_to_the_smaller(swap: bool) -> None:
    large, small = random_tensor(2, 3, 8, 8), random_tensor(2, 3, 4, 4, seed=1)
    expected = value(F.adaptive_avg_pool2d(large, 4), small)
    torch.testing.assert_close(value(small, large) if swap else value(large, small), expected)


def test_scaling_either_map_changes_nothing() -> None:
    ours, theirs = random_tensor(2, 3, 4, 4), random_tensor(2, 3, 4, 4, seed=1)
    torch.testing.assert_close(value(3 * ours, 0.1 * theirs), value(ours, theirs))
    assert torch.equal(value(ours, ours), torch.zeros(2))


def test_an_odd_exponent_reads_magnitudes() -> None:
    ours = random_tensor(2, 3, 4, 4)
    assert torch.equal(value(-ours, ours, exponent=1.0), torch.zeros(2))


def test_tokens_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="hidden_states"):
        value(random_tensor(2, 5, 3), random_tensor(2, 5, 3))


def test_a_single_position_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="one position"):
        value(random_tensor(2, 5, 1, 1), random_tensor(2, 5, 4, 4))


def test_an_exponent_of_zero_is_refused() -> None:
    with pytest.raises(RecipeError, match="exponent"):
        AttentionTransfer(exponent=0.0)
