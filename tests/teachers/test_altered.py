from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from preceptor.errors import NeedsError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.altered import (
    Alteration,
    Altered,
    noised,
    randomised,
    shuffled,
    shuffled_below_first,
    smoothed,
)
from preceptor.teachers.base import Teacher
from preceptor.teachers.contract import check_teacher
from preceptor.teachers.ema import EMA
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.train.training import fixed_models, moves
from preceptor.types import Batch, Changed, Dense, Head, Needs, Projected, Signal
from tests.teachers.small import batch_of, cnn

ALTERATIONS: dict[str, Alteration] = {
    "smoothed": partial(smoothed, amount=0.2),
    "noised": partial(noised, scale=2.0),
    "shuffled": shuffled,
    "shuffled below the first": shuffled_below_first,
    "random": randomised,
}


class Told(Teacher):
    """Logits as they are told, by id."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        return Signal(Dense(self.logits[batch.ids]))


def rows(count: int, classes: int = 5) -> torch.Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(0))


def answers(logits: torch.Tensor, alteration: Alteration, seed: int = 0) -> torch.Tensor:
    batch = Batch(torch.zeros(len(logits), 1), ids=torch.arange(len(logits)))
    return Altered(Told(logits), alteration, seed).signal(batch).logits


@pytest.mark.parametrize("name", ALTERATIONS)
def test_every_alteration_keeps_the_contract(name: str) -> None:
    check_teacher(Altered(Live(cnn(0)), ALTERATIONS[name]), [batch_of([1, 2, 3])])


@pytest.mark.parametrize("name", [name for name in ALTERATIONS if name != "smoothed"])
def test_an_answer_is_of_the_row_and_the_seed_alone(name: str) -> None:
    logits = rows(6)
    whole = answers(logits, ALTERATIONS[name])
    batch = Batch(torch.zeros(2, 1), ids=torch.tensor([4, 1]))
    some = Altered(Told(logits), ALTERATIONS[name]).signal(batch).logits
    assert torch.equal(some, whole[[4, 1]])
    assert not torch.equal(whole, answers(logits, ALTERATIONS[name], seed=1))


def test_smoothing_leaves_the_first_choice_and_spreads_the_rest_evenly() -> None:
    logits = rows(40)
    found = answers(logits, partial(smoothed, amount=0.2)).softmax(dim=-1)
    expected = torch.full_like(logits, 0.04)
    expected[torch.arange(40), logits.argmax(dim=-1)] = 0.84
    torch.testing.assert_close(found, expected)


def test_noise_has_its_standard_deviation_and_is_gaussian() -> None:
    logits = rows(4000)
    noise = (answers(logits, partial(noised, scale=3.0)) - logits).double().numpy().ravel()
    assert stats.kstest(noise / 3, "norm").pvalue > 0.01
    assert np.isfinite(noise).all()


@pytest.mark.parametrize("alteration", [shuffled, shuffled_below_first])
def test_a_shuffled_row_has_the_same_numbers(alteration: Callable[..., torch.Tensor]) -> None:
    logits = rows(50)
    found = answers(logits, alteration)
    assert torch.equal(found.sort(dim=-1).values, logits.sort(dim=-1).values)


def test_shuffling_all_makes_every_class_first_as_often() -> None:
    found = answers(rows(5000), shuffled).argmax(dim=-1)
    assert stats.chisquare(torch.bincount(found).numpy()).pvalue > 0.01


def test_shuffling_below_the_first_keeps_it_and_moves_the_others_evenly() -> None:
    logits = torch.tensor([9.0, 4.0, 3.0, 2.0, 1.0]).expand(5000, 5).contiguous()
    found = answers(logits, shuffled_below_first)
    assert (found.argmax(dim=-1) == 0).all()
    second = found[:, 1:].argmax(dim=-1)
    assert stats.chisquare(torch.bincount(second).numpy()).pvalue > 0.01


def test_random_answers_know_nothing_and_are_as_spread_as_the_true_ones() -> None:
    logits = 4 * rows(4000) + 7
    found = answers(logits, randomised)
    same = int((found.argmax(dim=-1) == logits.argmax(dim=-1)).sum())
    assert stats.binomtest(same, 4000, 1 / 5).pvalue > 0.01
    assert abs(float(found.std() / logits.std()) - 1) < 0.03


def test_two_classes_have_no_others_to_exchange() -> None:
    logits = rows(20, classes=2)
    assert torch.equal(answers(logits, shuffled_below_first), logits)


@pytest.mark.parametrize("name", ALTERATIONS)
def test_tokens_are_altered_by_their_row_and_place_however_they_are_batched(name: str) -> None:
    """Rows stand in another order, padded to another length; a slice is as the whole."""
    drawn = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*s, generator=drawn) for s in ((2, 3, 4), (7, 4)))

    class Telling(Teacher):
        def offers(self) -> Needs:
            return Needs(kinds=frozenset({"logits", "probabilities"}))

        def signal(self, batch: Batch) -> Signal:
            return Signal(Projected(batch.extra["hidden"], Head(weight)))

    def told(rows: list[int], pad: int) -> Changed:
        offset = torch.arange(3).expand(len(rows), 3)
        extra = {
            "row": torch.tensor(rows)[:, None].expand(-1, 3 + pad),
            "offset": nn.functional.pad(offset, (0, pad), value=-1),
            "hidden": nn.functional.pad(hidden[rows], (0, 0, 0, pad)),
        }
        batch = Batch(torch.zeros(len(rows), 3 + pad), ids=torch.tensor(rows), extra=extra)
        found = Altered(Telling(), ALTERATIONS[name], seed=3).signal(batch).distribution
        assert isinstance(found, Changed)
        return found

    first, other = told([0, 1], 0), told([1, 0], 2)
    torch.testing.assert_close(first.log_probs(2.0)[1, 2], other.log_probs(2.0)[0, 2])
    cut = first.at(torch.tensor([5, 0])).log_probs(2.0)
    torch.testing.assert_close(cut, first.log_probs(2.0)[[1, 0], [2, 0]])
    plain = Projected(hidden, Head(weight)).log_probs(2.0)
    assert not torch.isclose(first.log_probs(2.0), plain).all()


def test_it_moves_and_stands_still_with_the_teacher_behind_it() -> None:
    model: TappedModel = cnn(0)
    still, moving = Altered(Live(model), shuffled), Altered(EMA(cnn(1)), shuffled)
    assert not moves(still)
    assert fixed_models(still) == [model]
    assert moves(moving)


def test_a_teacher_without_logits_is_refused() -> None:
    with pytest.raises(NeedsError, match="it gives none"):
        Altered(Ensemble([Live(cnn(0)), Live(cnn(1))]), shuffled)
