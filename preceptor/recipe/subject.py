"""What a recipe's data are about, images or text: how models are made for it, fed and asked.

A run (`verbs`) trains cells without knowing what is in a batch. What differs between images and
text is said here once, and kept by `recipe/images.py` and `recipe/texts.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from preceptor.data.source import Source
from preceptor.evaluate.contamination import Contamination
from preceptor.evaluate.results import Losses, SeedResult, TrainPart
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.label_smoothing import LabelSmoothing
from preceptor.recipe.models import AnyModel
from preceptor.recipe.schema import Stage, Student
from preceptor.teachers.base import Teacher
from preceptor.train.plan import Plan
from preceptor.types import Inputs

Answers = Mapping[str, Tensor]
"""What a model answered to one part of the data, by name; what a report is made from."""

PARTS = ("validation", "test", "train")
"""What every finished model is asked about: the held-out parts, and some training examples."""

MOST_TRAINING = 512
"""Training examples that are asked about; no more than there are test items."""


class Subject(ABC):
    """One kind of data, loaded, with everything that is particular to its kind."""

    classes: tuple[str, ...] = ()
    """The classes' names; none where text is written."""

    primary: str
    """The measure that the verdict is about, of `evaluate.report.MEASURES`."""

    num_examples: int
    """How many training examples there are."""

    num_classes: int
    """How many classes a model answers with."""

    streams: bool = True
    """Whether a teacher's folder may be read a tensor at a time, without making the teacher."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """The test items' labels, or their numbers."""

    @property
    @abstractmethod
    def test_items(self) -> str:
        """A hash of the test items: runs with the same ones may be paired item by item."""

    @abstractmethod
    def describe(self) -> str:
        """How much of what there is, in a line."""

    def slices(self) -> dict[str, tuple[str, ...]]:
        """By a column's name, each test item's value in it; what the report shows part by part."""
        return {}

    def clusters(self) -> tuple[str, ...]:
        """Which test items belong together, one name an item; none where each stands alone."""
        return ()

    def remarks(self) -> tuple[str, ...]:
        """What a reader of the report must know of the data, in sentences."""
        return ()

    @abstractmethod
    def contamination(self) -> Contamination:
        """Test examples that stand among the training examples."""

    @abstractmethod
    def model(self, said: AnyModel, seed: int) -> TappedModel:
        """A model for this data; what is random in it comes from the seed."""

    @abstractmethod
    def loaded(self, said: AnyModel, place: str) -> TappedModel:
        """A model with the weights in a folder or file."""

    def saved(self, folder: Path) -> TappedModel:
        """A model that `save` wrote."""
        return load_model({"folder": str(folder)})

    @abstractmethod
    def save(self, model: TappedModel, folder: Path) -> None:
        """Write a model in the form that its ecosystem loads."""

    def student(self, said: Student, seed: int) -> TappedModel:
        """The student at its start: random, pretrained, or from a folder."""
        if said.folder is None:
            return self.model(said.model, seed)
        return self.loaded(said.model, said.folder)

    @abstractmethod
    def calibration(self, count: int) -> list[Inputs]:
        """Training examples, evenly spaced, in batches: what a student's start is fitted on."""

    @abstractmethod
    def loss(self, model: TappedModel) -> float:
        """How far a model is from some held-out examples; less is better."""

    def require_same_ids(self, place: Path | None) -> str:
        """Raise where a student could not take a teacher's embeddings over: ids mean other tokens.

        Args:
            place: the teacher's folder; the recipe's own teachers where None.

        Returns:
            A sentence where that cannot be known.
        """
        del place
        return ""

    @abstractmethod
    def source(self, stage: Stage, plan: Plan, seed: int, taught: "Taught | None" = None) -> Source:
        """Where the student's batches come from in a stage that a teacher may answer."""

    def observe(self, stage: Stage, source: Source, student: TappedModel, step: int) -> None:
        """Called after each optimiser step, before anything is saved."""
        del stage, source, student, step

    @abstractmethod
    def plain_source(self, plan: Plan, seed: int) -> Source:
        """The same labelled draws without what only a teacher gives access to."""

    @abstractmethod
    def teacher_source(self, said: AnyModel, plan: Plan, seed: int) -> Source:
        """What a teacher is trained on before: every label."""

    @abstractmethod
    def unlabelled(self, stage: Stage, plan: Plan, seed: int) -> int:
        """How many examples the student sees in a stage without their label."""

    def untaught(self, arm: str, smoothing: float) -> Objective[Any]:
        """What an arm without a teacher learns by: labels, or smoothed ones."""
        return LabelSmoothing(amount=smoothing) if arm == "smoothing" else CE()

    @abstractmethod
    def cached(self, folder: Path, teacher: Teacher, said: Any) -> Teacher:
        """The teacher's signals on disk, written where they are not yet."""

    @abstractmethod
    def check_teacher(self, teacher: Teacher) -> None:
        """Raise `TeacherFailure` where a teacher knows nothing of this data."""

    @abstractmethod
    def answers(
        self,
        model: TappedModel | Teacher,
        part: str,
        device: torch.device,
        beside: Callable[[], Teacher | None],
    ) -> Answers:
        """What a model answers to a held-out part; `beside` gives the run's teacher, if any.

        Of the part "train" the same few examples are asked about at every call.
        """

    def grades(self) -> np.ndarray | None:
        """Of graded pairs of sentences, how alike people find them; None where there are none."""
        return None

    def alike(self, model: TappedModel, other: Teacher) -> Mapping[str, np.ndarray]:
        """How alike the two answer each test item, where their answers alone do not tell."""
        del model, other
        return {}

    @abstractmethod
    def quality(self, answers: Answers) -> float:
        """How good answers to the validation part are; more is better."""

    @abstractmethod
    def seed_result(
        self,
        seed: int,
        answers: Mapping[str, Answers],
        steps: int,
        seconds: float,
        losses: Losses | None = None,
    ) -> SeedResult:
        """A model's answers as what the report is made from."""

    @abstractmethod
    def example(self) -> Any:
        """One example's inputs, to count operations and take times with."""

    def example_of_teacher(self) -> Any:
        """The same as a teacher reads it, where that differs."""
        return self.example()

    def runnable(self, model: TappedModel) -> nn.Module:
        """The model as whoever uses it runs it."""
        return model


def of_training(answers: Answers | None) -> TrainPart | None:
    """One number a training example and measure; None where none was asked about."""
    if not answers:
        return None
    items = {name: numbers.numpy() for name, numbers in answers.items()}
    return TrainPart(np.arange(len(next(iter(items.values())))), items=items)


class Taught:
    """What a source of written examples needs: the students as they are, and their teacher.

    In a rehearsal the teacher has not been trained, and nothing of it is kept.
    """

    def __init__(
        self, students: Sequence[TappedModel], teacher: Teacher, *, rehearsal: bool = False
    ) -> None:
        self.students, self.teacher, self.rehearsal = students, teacher, rehearsal
