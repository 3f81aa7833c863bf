"""Whose gradients a ranking asks for: a student before any teacher, or as it stood later.

In its folder lie:

    student/             the student, where it is trained first
    features/NAME/       its gradients of a candidate's answers
    later/W/features/    the same of the student with later weights, W

What is there is never computed again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int64

from preceptor.batches import Batch
from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.errors import ModelError, RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.recipe.candidates import Candidate
from preceptor.recipe.contest import prompts_fingerprint, sketcher_of
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.models import CausalModel
from preceptor.recipe.ranked import FeatureFields
from preceptor.recipe.ranking import Learner
from preceptor.recipe.text_subject import TextSubject
from preceptor.selection.extraction import (
    Sketcher,
    image_features,
    probed,
    student_fingerprint,
    text_features,
)
from preceptor.selection.features import Features
from preceptor.selection.probe import Probe
from preceptor.selection.rows import Soft
from preceptor.selection.store import Extract, FeatureStore
from preceptor.train.checkpoint import is_checkpoint, student_in
from preceptor.verbs.cells import Cell, student_folder
from preceptor.verbs.experiment import Experiment

_TRIED = 8
"""Tokens of each of the examples that are tried."""

_TOLD_AFTER = 20.0
"""Seconds until it is said again how far a pass is."""

Numbers = Int64[np.ndarray, " p"]


@final
@dataclass(frozen=True)
class Pupil:
    """A student whose gradients are asked for.

    Args:
        said: the model, and how it is trained before.
        experiment: reads the data as it does, and trains it.
        folder: where its own files lie.
        features: how gradients are taken.
        seed: of its first weights, and of what it is trained on.
        say: tells whoever looks how far it is.
        at: a folder with its weights, or a checkpoint of its training, in place of the start.
    """

    said: Learner
    experiment: Experiment
    folder: Path
    features: FeatureFields
    seed: int
    say: Callable[[str], None]
    at: Path | None = None

    @cached_property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def model(self) -> TappedModel:
        """The student with its weights; trained on the data's labels where that is said."""
        subject = self.experiment.subject
        if self.at is not None:
            return self._later(self.at).to(self.device)
        if self.said.train is None:
            return subject.student(self.said, self.seed).to(self.device)
        return subject.saved(student_folder(self._trained())).to(self.device)

    def _later(self, place: Path) -> TappedModel:
        """With the weights of a run's student, or of a checkpoint of its training."""
        subject = self.experiment.subject
        if not is_checkpoint(place):
            try:
                return subject.loaded(self.said.model, str(place))
            except ModelError as error:
                raise ModelError(f"{place}: {error.seen}", error.why, error.do) from None
        model = subject.student(self.said, self.seed)
        try:
            model.load_state_dict(student_in(place))
        except RuntimeError as error:
            raise ModelError(
                f"the checkpoint {place}",
                f"it is of another model than the recipe's student ({str(error).splitlines()[-1]})",
                "Name checkpoints of this student's training.",
            ) from None
        return model

    def ready(self) -> None:
        """Train what is to be trained: all processes together."""
        if self.cells():
            self._trained()

    def cells(self) -> tuple[Cell, ...]:
        """What is trained."""
        return () if self.said.train is None or self.at is not None else (self._cell(),)

    def require_fit(self) -> None:
        """Raise where its gradients cannot be taken: two small examples' are tried.

        Raises:
            RecipeError: it had adapters, and is asked as it stood later.
            ModelError: nothing of it is learned, or its kind of features does not fit it.
        """
        model = self.said.model
        if self.at is not None and isinstance(model, CausalModel) and model.lora is not None:
            raise RecipeError(
                f"the student in {self.at}, which had adapters",
                "it is saved whole, and every weight's gradient would be asked",
                "Ask a student without adapters, or the adapters as they start.",
            )
        untrained = self.said.train is not None and self.at is None
        subject = self.experiment.subject
        asked = subject.student(self.said, self.seed) if untrained else self.model
        sketcher = sketcher_of(self.features, asked)
        if self.features.kind == "factored":  # The others take any student that they are made of.
            sketcher(self._examples().to("cpu" if untrained else self.device))

    def _examples(self) -> Batch:
        """Two of the kind that the student reads, with answers; what they say does not matter."""
        subject, two = self.experiment.subject, torch.arange(2)
        if isinstance(subject, ImageSubject):
            two = two[: len(subject.data.train)]
            inputs = subject.data.train.batch(two).inputs
            return Batch(inputs, labels=torch.zeros_like(two), ids=two)
        ids = two.unsqueeze(1).expand(2, _TRIED)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return Batch(inputs, labels=ids, mask=ids >= 0, ids=two)

    def of_text(self, name: str, candidate: Candidate, pool: Sequence[Row]) -> FeatureStore:
        """What a candidate's text is to it; `pool` holds all prompts."""
        subject = self.experiment.subject
        assert isinstance(subject, TextSubject)
        sketcher, probe = self._sketching(pool)

        def extract(prompts: Numbers) -> Features:
            rows = candidate.rows(prompts.tolist())
            texts = TextSet(rows, subject.rendering, name=name)
            numbers = [texts.row(index).number for index in range(len(texts))]
            which, tokens = np.array(numbers, dtype=np.int64), self.features.tokens
            return text_features(sketcher, texts, which, probe, tokens=tokens, device=self.device)

        return self._store(name, probe, candidate.identity, extract)

    def of_images(self, name: str, soft: Soft, identity: str) -> FeatureStore:
        """What a candidate's probabilities of the training images are to it."""
        subject = self.experiment.subject
        assert isinstance(subject, ImageSubject)
        images = subject.data.train
        sketcher = sketcher_of(self.features, self.model, soft)
        probe = probed(self.model, sketcher, images.fingerprint())
        place = {number: row for row, number in enumerate(images.ids.tolist())}

        def extract(prompts: Numbers) -> Features:
            rows = [place[number] for number in prompts.tolist()]
            return image_features(sketcher, images, probe, rows=rows, device=self.device)

        return self._store(name, probe, identity, extract)

    def _cell(self) -> Cell:
        plain = self.experiment.plain("student", self.seed)
        return replace(plain, folder=self.folder / "student", alone=True)

    def _trained(self) -> Cell:
        cell = self._cell()
        if not cell.done():
            self.experiment.run(cell)
        return cell

    @cached_property
    def _probes(self) -> dict[str, tuple[Sketcher, Probe]]:
        return {}

    def _sketching(self, pool: Sequence[Row]) -> tuple[Sketcher, Probe]:
        """Its gradients of text, and how they are taken: the same for all candidates."""
        if not self._probes:
            subject = self.experiment.subject
            assert isinstance(subject, TextSubject)
            sketcher = sketcher_of(self.features, self.model)
            data = prompts_fingerprint(pool, subject.rendering)
            self._probes["text"] = sketcher, probed(self.model, sketcher, data)
        return self._probes["text"]

    def _store(self, name: str, probe: Probe, identity: str, extract: Extract) -> FeatureStore:
        started, told, seen = time.monotonic(), 0.0, 0

        def telling(prompts: Numbers) -> Features:
            nonlocal told, seen
            features = extract(prompts)
            seen += len(prompts)
            if (now := time.monotonic()) - max(told, started) > _TOLD_AFTER:
                told = now
                self.say(f"{name}: {seen} prompts")
            return features

        return FeatureStore(self.place / "features" / name, probe, identity, telling)

    @cached_property
    def place(self) -> Path:
        """Where its gradients lie: those of later weights by what they are."""
        if self.at is None:
            return self.folder
        return self.folder / "later" / student_fingerprint(self.model)[:16]
