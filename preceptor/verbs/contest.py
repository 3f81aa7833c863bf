"""A ranking's models, texts and features, each in its place in the run's folder.

    student/             the student, where it is trained first
    teachers/NAME/       teachers that are trained here
    texts/NAME/          what they wrote
    features/NAME/       the student's gradients of a candidate's answers

What is there is never computed again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Int64

from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.errors import DataError
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.recipe.candidates import Candidate, Prompted, Written, prompted
from preceptor.recipe.contest import (
    flatness,
    probabilities_of,
    prompts_fingerprint,
    require_room_for_answers,
    sketcher_of,
    speaks,
)
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.ranking import RankingRecipe, Writes, named
from preceptor.recipe.teachers import LiveTeacher
from preceptor.recipe.text_subject import TextSubject
from preceptor.recipe.texts import require_room
from preceptor.selection.extraction import (
    Sketcher,
    image_features,
    probed,
    text_features,
)
from preceptor.selection.features import Features
from preceptor.selection.probe import Probe
from preceptor.selection.splits import shuffled
from preceptor.selection.store import Extract, FeatureStore
from preceptor.teachers.live import Live
from preceptor.teachers.weights import fingerprint
from preceptor.verbs.cells import Cell, student_folder
from preceptor.verbs.experiment import Experiment

_FEWEST = 10
"""Prompts that the folds of GRACE need."""

_CUT = 0.05
"""More answers than this that did not come to an end are told."""

_FLAT = 0.5
"""Probabilities of images with a larger share of the highest entropy than this are told."""

_SHOWN = 256
"""Images on which that is seen."""

_TOLD_AFTER = 20.0
"""Seconds until it is said again how far a pass is."""

Numbers = Int64[np.ndarray, " p"]
Texts = Mapping[str, Mapping[str, Sequence[Row]]]


@final
@dataclass(frozen=True)
class Contest:
    """A ranking's recipe with its folder.

    Args:
        said: the recipe.
        experiment: what trains its models, in the same folder.
        texts: what files hold.
        say: tells whoever looks how far it is.
    """

    said: RankingRecipe
    experiment: Experiment
    texts: Texts
    say: Callable[[str], None]

    @cached_property
    def device(self) -> torch.device:
        """Where the student computes."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def student(self) -> TappedModel:
        """As it is before any teacher; trained on the data's labels where that is said."""
        experiment, subject = self.experiment, self.experiment.subject
        if self.said.student.train is None:
            return subject.student(self.said.student, 0).to(self.device)
        cell = self.student_cell()
        if not cell.done():
            experiment.run(cell)
        return subject.saved(student_folder(cell)).to(self.device)

    def student_cell(self) -> Cell:
        """The student's training by labels alone."""
        plain = self.experiment.plain("student", 0)
        return replace(plain, folder=self.experiment.folder / "student", alone=True)

    def cells(self) -> tuple[Cell, ...]:
        """All that is trained."""
        own = () if self.said.student.train is None else (self.student_cell(),)
        trained = (
            self.experiment.teacher_cell(live, name)
            for name, live in self.said.models()
            if live.train is not None
        )
        return (*own, *trained)

    def require_fit(self) -> None:
        """Raise, before anything is trained, where it can be known that nothing comes of it."""
        subject = self.experiment.subject
        own = self.said.student
        sketcher_of(self.said.features, subject.student(own, 0) if own.train else self.student)
        count = len(self.every_prompt)
        if count < _FEWEST:
            raise DataError(
                f"{count} prompts are answered by all candidates",
                f"the score cuts them into {_FEWEST} folds",
                f"Give at least {_FEWEST} prompts, better some hundreds.",
            )
        if isinstance(subject, TextSubject):
            reading = subject.voice.reading or subject.rendering
            for name, said in self.said.candidates.teachers.items():
                require_room_for_answers(self.prompted.pool, subject.rendering, name, said.most)
                if said.train is not None:
                    prompts = TextSet(self.prompted.pool, reading, name="prompts")
                    require_room(subject.model(said.model, 0), prompts, said.most)

    @cached_property
    def prompted(self) -> Prompted:
        """The prompts, where they are text."""
        subject = self.experiment.subject
        assert isinstance(subject, TextSubject)
        return prompted(self.texts, subject.parts.train, subject.rendering, self.said.responses)

    @cached_property
    def every_prompt(self) -> Numbers:
        """The numbers of all that candidates may be compared on; of images their ids."""
        subject = self.experiment.subject
        if isinstance(subject, ImageSubject):
            return np.sort(subject.data.train.ids.numpy().astype(np.int64))
        return np.array(self.prompted.usable(), dtype=np.int64)

    def prompts(self) -> Numbers:
        """Those that are asked, ascending: with another number, more or fewer of the same order."""
        order = shuffled(self.every_prompt, self.said.seed)
        return np.sort(self.every_prompt[order[: self.said.prompts]])

    def cautions(self) -> tuple[str, ...]:
        """What there is to say of how text was made, and of what was left out."""
        told: list[str] = []
        if self.speakers and (out := self.prompted.left_out):
            whose = ", ".join(sorted(set(out.values())))
            told.append(
                f"{len(out)} of {len(self.prompted.pool)} prompts are left out for all, because "
                f"the student's context holds no whole answer of {whose}."
            )
        for name, candidate in self.speakers.items():
            if (share := candidate.cut()) > _CUT:
                told.append(
                    f"{name}: {100 * share:.0f} % of its answers were cut before their end; "
                    "allow longer ones (most)."
                )
        return (*told, *self._flat)

    def stores(self) -> dict[str, FeatureStore]:
        """Each candidate's features, which are taken when they are asked for."""
        if isinstance(self.experiment.subject, ImageSubject):
            return dict(self._of_images(self.experiment.subject))
        subject = self.experiment.subject
        assert isinstance(subject, TextSubject)
        return {name: self._of_text(subject, name, each) for name, each in self.speakers.items()}

    @cached_property
    def speakers(self) -> dict[str, Candidate]:
        """Who answers with text, by name."""
        subject = self.experiment.subject
        if not isinstance(subject, TextSubject):
            return {}
        found: dict[str, Candidate] = dict(self.prompted.files)
        for name, said in self.said.candidates.teachers.items():
            found |= self._writing(subject, name, said)
        return found

    def _writing(self, subject: TextSubject, name: str, said: Writes) -> dict[str, Candidate]:
        """A teacher at its temperatures."""
        pool, reading = self.prompted.pool, subject.voice.reading or subject.rendering

        def model() -> TappedModel:
            return self._model(name, said.live()).to(self.device)

        require_room(model(), TextSet(pool, reading, name="prompts"), said.most)
        whose = fingerprint(model())[:16]
        found: dict[str, Candidate] = {}
        for at, temperature in named(name, said).items():
            sampling = Sampling(said.most, temperature, said.top_p)
            found[at] = Written(
                self.experiment.folder / "texts" / at,
                pool,
                f"{whose}, {sampling}, seed {self.said.seed}",
                speaks(model, reading, sampling, self.said.seed),
                self.said.responses,
            )
        return found

    def _model(self, name: str, live: LiveTeacher) -> TappedModel:
        """A teacher with its weights; the last one asked for stays in memory."""
        if name not in self._held:
            self._held.clear()
            teacher = self.experiment.trained(live, name)
            assert isinstance(teacher, Live)
            self._held[name] = teacher.model
        return self._held[name]

    @cached_property
    def _held(self) -> dict[str, TappedModel]:
        return {}

    @cached_property
    def _flat(self) -> list[str]:
        """What is to be said of image teachers that say little."""
        return []

    @cached_property
    def _sketching(self) -> tuple[Sketcher, Probe]:
        """The student's gradients of text, and how they are taken."""
        subject = self.experiment.subject
        assert isinstance(subject, TextSubject)
        sketcher = sketcher_of(self.said.features, self.student)
        data = prompts_fingerprint(self.prompted.pool, subject.rendering)
        return sketcher, probed(self.student, sketcher, data)

    def _of_text(self, subject: TextSubject, name: str, candidate: Candidate) -> FeatureStore:
        sketcher, probe = self._sketching

        def extract(prompts: Numbers) -> Features:
            rows = candidate.rows(prompts.tolist())
            texts = TextSet(rows, subject.rendering, name=name)
            numbers = [texts.row(index).number for index in range(len(texts))]
            tokens = self.said.features.tokens
            which = np.array(numbers, dtype=np.int64)
            return text_features(sketcher, texts, which, probe, tokens=tokens, device=self.device)

        return self._store(name, probe, candidate.identity, extract)

    def _of_images(self, subject: ImageSubject) -> dict[str, FeatureStore]:
        images, found = subject.data.train, dict[str, FeatureStore]()
        shown = images.batch(torch.arange(min(_SHOWN, len(images)))).to(self.device)
        place = {number: row for row, number in enumerate(images.ids.tolist())}
        for name, live in self.said.models():
            teacher = self._model(name, live)
            soft = probabilities_of(Live(teacher.to(self.device)))
            if (share := flatness(soft(shown))) > _FLAT:
                self._flat.append(
                    f"{name}: its answers have {100 * share:.0f} % of the entropy of a guess; "
                    "a student that knows little nearly agrees with them, so that its gradients "
                    "are small, which lowers GRACE without teaching."
                )
            sketcher = sketcher_of(self.said.features, self.student, soft)
            probe = probed(self.student, sketcher, images.fingerprint())

            def extract(
                prompts: Numbers, sketcher: Sketcher = sketcher, probe: Probe = probe
            ) -> Features:
                rows = [place[number] for number in prompts.tolist()]
                return image_features(sketcher, images, probe, rows=rows, device=self.device)

            found[name] = self._store(name, probe, fingerprint(teacher), extract)
        return found

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

        folder = self.experiment.folder / "features" / name
        return FeatureStore(folder, probe, identity, telling)
