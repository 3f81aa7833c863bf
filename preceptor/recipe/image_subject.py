"""Images as a recipe's subject: see `recipe.subject`."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from preceptor.data.image_source import ImageSource
from preceptor.data.images import ImageSet
from preceptor.errors import TeacherFailure
from preceptor.evaluate.contamination import Contamination
from preceptor.evaluate.diagnosis import label_order
from preceptor.evaluate.resemblance import of_images
from preceptor.evaluate.results import Losses, SeedResult, TrainPart, Validation
from preceptor.models.load import save_model
from preceptor.models.predict import predict
from preceptor.models.tapped import TappedModel
from preceptor.recipe.images import image_data, loaded, model, source, student
from preceptor.recipe.models import AnyModel
from preceptor.recipe.schema import Data, Stage, Student
from preceptor.recipe.stores import cached
from preceptor.recipe.subject import MOST_TRAINING, Answers, Subject, Taught
from preceptor.students.bases import evenly
from preceptor.teachers.base import Teacher
from preceptor.train.checks import check_teacher_knows
from preceptor.train.plan import Plan
from preceptor.types import Batch, Dense, Inputs

EVALUATION_BATCH = 256

_LOOKED_THROUGH = 200_000
"""Training images among which test images are looked for."""

_CHECKED = 512
"""Held-out images on which a teacher shows that it knows anything."""

_ENOUGH = 64
"""With fewer, chance could explain what a fair teacher knows."""


@final
class ImageSubject(Subject):
    """Images with labels."""

    primary = "accuracy"
    streams = False

    def __init__(self, said: Data) -> None:
        self.said = said
        self.data = image_data(said)
        self.classes = self.data.class_names
        self.num_classes = self.data.num_classes
        self.num_examples = len(self.data.train)

    @property
    def labels(self) -> np.ndarray:
        """The test images' classes."""
        return self.data.test.labels.numpy()

    @property
    def test_items(self) -> str:
        """Of pixels and classes."""
        return self.data.test.fingerprint()

    def describe(self) -> str:
        """Sizes of the three parts, classes, shape."""
        data = self.data
        sizes = f"{len(data.train)} train, {len(data.validation)} validation, {len(data.test)} test"
        shape = " x ".join(map(str, data.shape))
        return f"{sizes}, {data.num_classes} classes, images {shape}"

    def slices(self) -> dict[str, tuple[str, ...]]:
        """By the columns that the recipe names."""
        return {name: self.data.test.columns[name] for name in self.said.slices}

    def clusters(self) -> tuple[str, ...]:
        """By the column that says which images belong together."""
        return self.data.test.columns[self.said.clusters] if self.said.clusters else ()

    def contamination(self) -> Contamination:
        """By their pixels, the training images with a label and those without."""
        train, test = self.data.train, self.data.test
        names = {"trained_name": partial(_name, train), "tested_name": partial(_name, test)}
        return of_images(_pixels(train), _pixels(test), **names)

    def model(self, said: AnyModel, seed: int) -> TappedModel:
        """Normalised by the training pixels where it brings no weights."""
        return model(said, self.data, seed)

    def loaded(self, said: AnyModel, place: str) -> TappedModel:
        """With weights from elsewhere, its classes checked."""
        return loaded(said, place, self.data)

    def save(self, model: TappedModel, folder: Path) -> None:
        """Safetensors and a card."""
        save_model(model, folder)

    def student(self, said: Student, seed: int) -> TappedModel:
        """Random, or from a folder."""
        return student(said, self.data, seed)

    def calibration(self, count: int) -> list[Inputs]:
        """Images of the training part; their labels are not looked at."""
        rows = evenly(len(self.data.train), min(count, len(self.data.train)))
        return [self.data.train.batch(part).inputs for part in rows.split(EVALUATION_BATCH)]

    def loss(self, model: TappedModel) -> float:
        """Cross-entropy of held-out images, in nats."""
        batch, _ = self._chunk()
        found = predict(model, [batch])
        logits, labels = torch.from_numpy(found.logits), torch.from_numpy(found.labels)
        return cross_entropy(logits, labels).item()

    def source(
        self, stage: Stage, plan: Plan, seed: int, taught: Taught | None = None
    ) -> ImageSource:
        """Labelled images, and unlabelled ones beside them; a stage may have data of its own."""
        del taught
        assert stage.data is None or isinstance(stage.data, Data)
        said = stage.data or self.said
        data = self.data if stage.data is None else image_data(said)
        return source(said, data, plan, seed)

    def plain_source(self, plan: Plan, seed: int) -> ImageSource:
        """The labelled images alone."""
        return source(self.said, self.data, plan, seed).labelled_only()

    def teacher_source(self, said: AnyModel, plan: Plan, seed: int) -> ImageSource:
        """Every label of the training part, nothing omitted."""
        del said
        return source(self.said, self.data, plan, seed, every_label=True)

    def unlabelled(self, stage: Stage, plan: Plan, seed: int) -> int:
        """Images without a label that the student sees."""
        return len(self.source(stage, plan, seed).unlabelled)

    def cached(self, folder: Path, teacher: Teacher, said: Any) -> Teacher:
        """Logits of every training image in every view."""
        del said
        return cached(folder, teacher, self.data, self.said.augment)

    def check_teacher(self, teacher: Teacher) -> None:
        """Its accuracy on held-out images is better than chance."""
        chunk, kind = self._chunk()
        try:
            check_teacher_knows(teacher, chunk, kind, self.num_classes)
        except TeacherFailure:
            logits = _logits(teacher, chunk).cpu().numpy()
            found = label_order(logits, chunk.labels.numpy(), self.classes)
            if found is None:
                raise
            why = "no better than chance under the names that the data gives"
            raise TeacherFailure(found.seen.rstrip("."), why, found.advice) from None

    def _chunk(self) -> tuple[Batch, str]:
        """Held-out images; where they are too few to tell anything, training ones beside them."""
        rows = torch.arange(min(_CHECKED, len(self.data.validation)))
        held = self.data.validation.batch(rows)
        if len(held) >= _ENOUGH:
            return held, "held-out"
        more = self.data.train.batch(self.data.train.labelled[: _ENOUGH - len(held)])
        assert isinstance(held.inputs, Tensor)
        assert isinstance(more.inputs, Tensor)
        inputs = torch.cat([held.inputs, more.inputs])
        return Batch(inputs, labels=torch.cat([held.labels, more.labels])), "held-out and training"

    def answers(
        self,
        model: TappedModel | Teacher,
        part: str,
        device: torch.device,
        beside: Callable[[], Teacher | None],
    ) -> Answers:
        """Logits [n, v], or log-probabilities where a teacher has no logits; nameless."""
        del beside
        images: ImageSet = getattr(self.data, part)
        batches = images.batches(EVALUATION_BATCH) if part != "train" else self._trained_on()
        if isinstance(model, TappedModel):
            found = predict(model.to(device), batches, device)
            return {"": torch.from_numpy(found.logits)}
        each = [_logits(model, batch) for batch in batches]
        return {"": torch.cat(each).float().cpu()}

    @cached_property
    def _training_rows(self) -> Tensor:
        """Labelled training images, evenly spaced."""
        labelled = self.data.train.labelled
        count = min(len(labelled), len(self.data.test), MOST_TRAINING)
        return labelled[evenly(len(labelled), count)]

    def _trained_on(self) -> Iterator[Batch]:
        for rows in self._training_rows.split(EVALUATION_BATCH):
            yield self.data.train.batch(rows)

    def quality(self, answers: Answers) -> float:
        """The accuracy."""
        right = answers[""].argmax(dim=-1) == self.data.validation.labels
        return float(right.double().mean())

    def seed_result(
        self,
        seed: int,
        answers: Mapping[str, Answers],
        steps: int,
        seconds: float,
        losses: Losses | None = None,
    ) -> SeedResult:
        """Logits of all parts."""
        held = Validation(answers["validation"][""].numpy(), self.data.validation.labels.numpy())
        train = None
        if "train" in answers:
            labels = self.data.train.labels[self._training_rows]
            train = TrainPart(labels.numpy(), answers["train"][""].numpy())
        logits = answers["test"][""].numpy()
        return SeedResult(seed, logits, steps, seconds, held, losses, train=train)

    def example(self) -> Tensor:
        """One test image."""
        inputs = self.data.test.batch(torch.arange(1)).inputs
        assert isinstance(inputs, Tensor)
        return inputs


def _logits(teacher: Teacher, batch: Batch) -> Tensor:
    """A teacher's logits, or its log-probabilities where it has none."""
    distribution = teacher.signal(batch).whole
    if isinstance(distribution, Dense) and distribution.temperature is None:
        return distribution.logits
    return distribution.log_probs(1.0)


def _pixels(images: ImageSet) -> Iterator[Tensor]:
    """Its first images, as many as can be looked through in a minute or so."""
    for rows in torch.arange(min(len(images), _LOOKED_THROUGH)).split(1024):
        yield images.pixels[rows]


def _name(images: ImageSet, row: int) -> str:
    """An image's file with its folder's and the set's, or its number where it has none."""
    return "/".join(Path(images.files[row]).parts[-3:]) if images.files else str(row)
