from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from preceptor.models.tapped import TappedModel
from preceptor.teachers.altered import Altered, shuffled
from preceptor.teachers.base import Teacher
from preceptor.teachers.cached import Cached
from preceptor.teachers.contract import check_teacher
from preceptor.teachers.ema import EMA
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.teachers.past_predictions import PastPredictions
from preceptor.teachers.snapshots import Snapshots
from preceptor.teachers.store import Store
from preceptor.teachers.writing import write_store
from preceptor.types import Batch, Dense, Head, Mixture, Needs, Outputs, Signal

CLASSES, COUNT = 4, 12


def model(seed: int = 0) -> TappedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, CLASSES)
        )
    return TappedModel(module, head="4")


def batches() -> list[Batch]:
    pixels = torch.rand(COUNT, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    whole = Batch(pixels, labels=torch.arange(COUNT) % 5 - 1, ids=torch.arange(COUNT))
    return [whole.rows(0, 7), whole.rows(7, COUNT)]


def taught(teacher: Teacher) -> Teacher:
    """After three steps of a student that moves, BatchNorm included."""
    student = model()
    for _ in range(3):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.1)
        seen = [(batch, student(batch.inputs).detached()) for batch in batches()[:1]]
        teacher.learn(student, seen)
    return teacher


def stored(folder: Path) -> Teacher:
    write_store(folder, Live(model()), batches(), teacher_hash="t", data_hash="d")
    return Cached(Store.open(folder))


TEACHERS: dict[str, Callable[[Path], Teacher]] = {
    "nobody": lambda _: Nobody(),
    "live": lambda _: Live(model()),
    "live with taps": lambda _: Live(model()).reading(frozenset({"1", "2:input"})),
    "live in bfloat16": lambda _: Live(model().to(torch.bfloat16)),
    "live without a classifier": lambda _: Live(TappedModel(model().module)),
    "mean of probabilities": lambda _: Ensemble([Live(model(0)), Live(model(1))]),
    "mean of logits": lambda _: Ensemble([Live(model(0)), Live(model(1))], "logits"),
    "by confidence": lambda _: Ensemble([Live(model(k)) for k in range(3)], weights="confidence"),
    "by agreement": lambda _: Ensemble([Live(model(k)) for k in range(3)], weights="agreement"),
    "ensemble that moves": lambda _: taught(
        Ensemble([EMA(model()), PastPredictions(COUNT, CLASSES, 0.5)], weights=(0.3, 0.7))
    ),
    "ema at its start": lambda _: EMA(model()),
    "ema": lambda _: taught(EMA(model()).reading(frozenset({"1"}))),
    "snapshot": lambda _: taught(Snapshots(model(), at=2)),
    "snapshots": lambda _: taught(Snapshots(model(), at=1, last=2)),
    "past predictions, none yet": lambda _: PastPredictions(COUNT, CLASSES),
    "last predictions": lambda _: taught(PastPredictions(COUNT, CLASSES)),
    "temporal ensembling": lambda _: taught(PastPredictions(COUNT, CLASSES, momentum=0.6)),
    "cached": stored,
    "altered": lambda _: Altered(Live(model()), shuffled),
    "altered and moving": lambda _: taught(Altered(EMA(model()), shuffled)),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_every_teacher_keeps_the_contract(name: str, tmp_path: Path) -> None:
    check_teacher(TEACHERS[name](tmp_path), batches())


class Broken(Teacher):
    """Right in all but what a subclass breaks."""

    def __init__(self) -> None:
        self.asked, self.weight = 0, torch.ones(CLASSES)

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def logits(self, batch: Batch) -> Tensor:
        return batch.ids.unsqueeze(-1) * self.weight * torch.arange(CLASSES)

    def signal(self, batch: Batch) -> Signal:
        self.asked += 1
        return Signal(Dense(self.logits(batch)))

    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        raise NotImplementedError


class CarriesGradient(Broken):
    def logits(self, batch: Batch) -> Tensor:
        return super().logits(batch).requires_grad_()


class NeverTheSame(Broken):
    def logits(self, batch: Batch) -> Tensor:
        return super().logits(batch) + self.asked * torch.arange(CLASSES)


class KnowsItsPlace(Broken):
    def logits(self, batch: Batch) -> Tensor:
        return super().logits(batch) + torch.arange(len(batch)).unsqueeze(-1)


class OffersLess(Broken):
    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"probabilities"}))


class OffersMore(Broken):
    def signal(self, batch: Batch) -> Signal:
        dense = Dense(self.logits(batch))
        return Signal(Mixture((dense,), torch.full((1, len(batch)), 0.5)))

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"probabilities"}))


class AnswersEverywhere(OffersLess):
    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"probabilities"}), temperatures=frozenset({1.0}))

    def signal(self, batch: Batch) -> Signal:
        dense = Dense(self.logits(batch))
        return Signal(Mixture((dense,), torch.ones(1, len(batch))))


class HidesItsClassifier(Broken):
    def signal(self, batch: Batch) -> Signal:
        return Signal(Dense(self.logits(batch)), head=Head(torch.zeros(CLASSES, 2)))


class ShowsMore(Broken):
    def signal(self, batch: Batch) -> Signal:
        return Signal(Dense(self.logits(batch)), {"secret": self.logits(batch)})


class Forgets(Broken):
    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        del state


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (CarriesGradient(), "carries a gradient"),
        (NeverTheSame(), "asked twice"),
        (KnowsItsPlace(), "order is turned round"),
        (OffersLess(), "raw logits that it does not offer"),
        (OffersMore(), "do not add up to 1"),
        (AnswersEverywhere(), "temperature 2.5, which it does not offer"),
        (HidesItsClassifier(), "classifier that it does not offer"),
        (ShowsMore(), "taps that it does not offer"),
        (Forgets(), "state is loaded"),
    ],
)
def test_a_broken_promise_is_noticed(teacher: Teacher, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_teacher(teacher, batches())


def test_the_unbroken_one_passes() -> None:
    check_teacher(Broken(), batches())
