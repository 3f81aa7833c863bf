"""A ranking's candidates and what they answer, each in its place in the run's folder.

    teachers/NAME/       teachers that are trained here
    texts/NAME/          what they wrote

What is there is never computed again.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import final

import numpy as np
import torch
from jaxtyping import Int64

from preceptor.data.chat import Rendering
from preceptor.data.client import Client
from preceptor.data.text import TextSet
from preceptor.errors import DataError, RecipeError
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.recipe.candidate_texts import Texts
from preceptor.recipe.candidates import Candidate, Prompted, Written, prompted
from preceptor.recipe.contest import (
    Asking,
    asks,
    asks_server,
    flatness,
    probabilities_of,
    require_room_for_answers,
    training_of,
)
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.ranked import ServedWrites, Writes, named
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.teachers import LiveTeacher
from preceptor.recipe.text_subject import TextSubject
from preceptor.recipe.texts import own_tokenizer, require_room
from preceptor.selection.splits import shuffled
from preceptor.selection.store import FeatureStore
from preceptor.selection.white_space import white_space
from preceptor.synthesis.served_text import Voice
from preceptor.teachers.live import Live
from preceptor.teachers.weights import fingerprint
from preceptor.verbs.cells import Cell
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.pupil import Pupil

_FEWEST = 10
"""Prompts that a ranking needs, whatever its folds."""

_CUT = 0.05
"""More answers than this that did not come to an end are told."""

_FLAT = 0.5
"""Probabilities of images with a larger share of the highest entropy than this are told."""

_SHOWN = 256
"""Images on which that is seen."""

Numbers = Int64[np.ndarray, " p"]


def require_enough(said: RankingRecipe, prompts: int) -> None:
    """Raise where the prompts that all candidates answer are too few for the folds, or a race.

    Raises:
        DataError: they are.
    """
    fewest = max(_FEWEST, said.grace.folds)
    if prompts < fewest:
        raise DataError(
            f"prompts that all candidates answer: {prompts}",
            f"the score cuts them into {said.grace.folds} folds, and needs {fewest}",
            f"Give at least {fewest} prompts, better some hundreds.",
        )
    if said.race is not None and said.race.first >= (asked := min(prompts, said.prompts)):
        raise DataError(
            f"a race that first looks after {said.race.first} prompts, of {asked} in all",
            "all are asked before the first look, and nobody is dropped",
            f"Say race.first of at most {asked // 2}, or leave race out.",
        )


@final
@dataclass(frozen=True)
class Contest:
    """A ranking's recipe with its folder.

    Args:
        said: the recipe.
        experiment: what trains its models, in the same folder, as the student reads the data.
        texts: what files hold.
        device: where teachers compute.
    """

    said: RankingRecipe
    experiment: Experiment
    texts: Texts
    device: torch.device

    def cells(self) -> tuple[Cell, ...]:
        """The teachers that are trained."""
        return tuple(
            self._whose(name).teacher_cell(live, name)
            for name, live in self.said.models()
            if live.train is not None
        )

    def ready(self) -> None:
        """Train them: all processes together."""
        for name, live in self.said.models():
            if live.train is not None:
                self._whose(name).trained(live, name)

    def require_fit(self) -> None:
        """Raise, before anything is trained, where it can be known that nothing comes of it."""
        require_enough(self.said, len(self.every_prompt))
        self._require_small_ones()
        if isinstance(self.experiment.subject, TextSubject):
            for name, said in self.said.candidates.teachers.items():
                rendering = self.experiment.subject.rendering
                require_room_for_answers(self.prompted.pool, rendering, name, said.most)
                if isinstance(said, Writes) and said.train is not None:
                    self._require_room(name, self._whose(name).subject.model(said.model, 0), said)

    def _require_small_ones(self) -> None:
        """Raise where every candidate has more parameters than the limit admits.

        Raises:
            RecipeError: so it is.
        """
        limit = self.said.choose.limit
        if limit is None or self.said.choose.cost != "parameters":
            return
        counted = self.parameters()
        smallest = min(counted, key=lambda name: counted[name])
        if counted[smallest] > limit:
            raise RecipeError(
                f"the best candidate of at most {limit:g} parameters",
                f"the smallest, {smallest}, has {counted[smallest]:g}",
                f"Give a limit of at least {counted[smallest]:g}, or name smaller candidates.",
            )

    def _require_room(self, name: str, model: TappedModel, said: Writes) -> None:
        prompts = TextSet(self.prompted.pool, self._reading(name), name="prompts")
        require_room(model, prompts, said.most)

    def _reading(self, name: str) -> Rendering:
        """How a model reads prompts."""
        subject = self._subject(name)
        return subject.voice.reading or subject.rendering

    def _whose(self, name: str) -> Experiment:
        """What trains and reads for a candidate: one with a tokenizer of its own has its own."""
        live = dict(self.said.models()).get(name)
        alone = live is not None and own_tokenizer(live.model) is not None
        if not alone or isinstance(self.experiment.subject, ImageSubject):
            return self.experiment
        if name not in self._own:
            self._own[name] = replace(self.experiment, recipe=training_of(self.said, (name,)))
        return self._own[name]

    @cached_property
    def _own(self) -> dict[str, Experiment]:
        return {}

    def _subject(self, name: str) -> TextSubject:
        subject = self._whose(name).subject
        assert isinstance(subject, TextSubject)
        return subject

    @cached_property
    def prompted(self) -> Prompted:
        """The prompts, where they are text."""
        subject = self.experiment.subject
        assert isinstance(subject, TextSubject)
        return prompted(
            self.texts.rows, subject.parts.train, subject.rendering, self.said.responses
        )

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
        told = list(self.texts.cautions)
        if self.speakers and (out := self.prompted.left_out):
            whose = ", ".join(sorted({name for names in out.values() for name in names}))
            are = "is" if len(out) == 1 else "are"
            told.append(
                f"{len(out)} of {len(self.prompted.pool)} prompts {are} left out for all, because "
                f"the student's context holds no whole answer of {whose}."
            )
        for name, candidate in self.speakers.items():
            if (share := candidate.cut()) > _CUT:
                told.append(
                    f"{name}: {100 * share:.0f} % of its answers were cut before their end; "
                    "allow longer ones (most)."
                )
        texts = {name: candidate.answers() for name, candidate in self.speakers.items()}
        spaced = white_space(texts, self.texts.rows) if texts else ()
        beyond = self.texts.beyond(self.said.responses)
        return (*told, *self.texts.same(), *beyond, *spaced, *self._flat.values())

    @property
    def guessing(self) -> tuple[str, ...]:
        """Image teachers whose answers are nearly a guess, of those that were asked."""
        return tuple(self._flat)

    def stores(self, pupil: Pupil) -> dict[str, FeatureStore]:
        """What each candidate's answers are to a student; taken when they are asked for."""
        if isinstance(self.experiment.subject, ImageSubject):
            return {name: self._of_images(name, live, pupil) for name, live in self.said.models()}
        pool = self.prompted.pool
        return {name: pupil.of_text(name, each, pool) for name, each in self.speakers.items()}

    def parameters(self) -> dict[str, float]:
        """How many each model has; one that is to be trained is made as it starts."""
        return {
            name: float(sum(each.numel() for each in self._made(name, live).module.parameters()))
            for name, live in self.said.models()
        }

    def _made(self, name: str, live: LiveTeacher) -> TappedModel:
        if live.train is None:
            return self.model(name, live)
        return self._whose(name).subject.model(live.model, 0)

    @cached_property
    def speakers(self) -> dict[str, Candidate]:
        """Who answers with text, by name."""
        if isinstance(self.experiment.subject, ImageSubject):
            return {}
        found: dict[str, Candidate] = dict(self.prompted.files)
        for name, said in self.said.candidates.teachers.items():
            found |= self._served(name, said) if isinstance(said, ServedWrites) else {}
            found |= self._writing(name, said) if isinstance(said, Writes) else {}
        return found

    def _writing(self, name: str, said: Writes) -> dict[str, Candidate]:
        """A model here, at its temperatures."""
        reading = self._reading(name)
        model = partial(self.model, name, said.teacher())
        self._require_room(name, model(), said)
        whose = fingerprint(model())[:16]
        found: dict[str, Candidate] = {}
        for at, temperature in named(name, said).items():
            sampling = Sampling(said.most, temperature, said.top_p)
            who = f"{whose}, {sampling}, seed {self.said.seed}"
            found[at] = self._written(at, who, asks(model, reading, sampling, self.said.seed))
        return found

    def _served(self, name: str, said: ServedWrites) -> dict[str, Candidate]:
        """A server, at its temperatures."""
        client, system = Client(said.served.endpoint()), self._subject(name).rendering.system
        found: dict[str, Candidate] = {}
        for at, temperature in named(name, said).items():
            sampling = Sampling(said.most, temperature, said.top_p)
            voice = Voice(sampling, said.api, system, self.said.seed)
            who = f"{said.served.url}, {voice.describe(said.served.model)}"
            found[at] = self._written(at, who, asks_server(client, voice))
        return found

    def ask_servers(self) -> None:
        """Let each server answer one prompt; raises where it does not."""
        for name, said in self.said.candidates.teachers.items():
            if isinstance(said, ServedWrites):
                first = next(iter(self._served(name, said).values()))
                first.rows([int(self.every_prompt[0])])

    def _written(self, at: str, who: str, asked: Asking) -> Written:
        folder = self.experiment.folder / "texts" / at
        return Written(at, folder, self.prompted.pool, who, asked, self.said.responses)

    def model(self, name: str, live: LiveTeacher) -> TappedModel:
        """A teacher with its weights; the last one asked for stays in memory."""
        if name not in self._held:
            self._held.clear()
            teacher = self._whose(name).trained(live, name)
            assert isinstance(teacher, Live)
            self._held[name] = teacher.model.to(self.device)
        return self._held[name]

    @cached_property
    def _held(self) -> dict[str, TappedModel]:
        return {}

    @cached_property
    def _flat(self) -> dict[str, str]:
        """What is to be said of image teachers that say little."""
        return {}

    def _of_images(self, name: str, live: LiveTeacher, pupil: Pupil) -> FeatureStore:
        subject = self.experiment.subject
        assert isinstance(subject, ImageSubject)
        images, teacher = subject.data.train, self.model(name, live)
        shown = images.batch(torch.arange(min(_SHOWN, len(images)))).to(self.device)
        soft = probabilities_of(Live(teacher))
        if (share := flatness(soft(shown))) > _FLAT:
            self._flat[name] = (
                f"{name}: its answers have {100 * share:.0f} % of the entropy of a guess; "
                "a student that knows little nearly agrees with them, so that its gradients "
                "are small, which lowers GRACE without teaching."
            )
        return pupil.of_images(name, soft, fingerprint(teacher))
