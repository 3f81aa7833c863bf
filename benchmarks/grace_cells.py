"""What was trained, written and measured, a file each, so that a run that was killed goes on.

Weights of teachers and bases, teachers' texts and cells lie in one folder, made where they are
first asked for. A cell is one student: an architecture, a seed and a teacher.

Dimension key: n test problems, k samples of each.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from grace_models import model, rendering, responses, trained
from grace_problems import STYLES, answered, general, problems, right, solved
from grace_setting import Setting, Teacher

from preceptor.data.text import TextSet
from preceptor.errors import DataError
from preceptor.files import write_atomically, write_text
from preceptor.models.tapped import TappedModel
from preceptor.selection.cautions import cautions_about
from preceptor.selection.extraction import probed, text_features
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.features import Features
from preceptor.selection.ledger import Sketching
from preceptor.selection.ranking import EVERY_SCORE

TEACHERS_SEED = 1000
"""Of all teachers' weights and order; a run's students have 0, 1, ..., a pilot's 100 and more."""

Cell = dict[str, Any]


class Key(NamedTuple):
    """Which cell."""

    architecture: str
    seed: int
    teacher: str

    @property
    def file(self) -> str:
        """Where it lies."""
        return f"cells/{self.architecture}-{self.seed}/{self.teacher}.json"


class Work:
    """The folder of one setting.

    Args:
        folder: made where it is not there.
        setting: what is compared.
        part: "test", or "validation" for a pilot.

    Raises:
        DataError: the folder holds another setting's results.
    """

    def __init__(self, folder: Path, setting: Setting, part: Any = "test") -> None:
        self.folder, self.setting = folder, setting
        self._begin(f"{part}, {setting}")
        rows = problems(setting.solved + setting.prompts, "train")
        self.solved, self.prompts = rows[: setting.solved], rows[setting.solved :]
        self.asked = problems(setting.problems, part)

    def _begin(self, said: str) -> None:
        path = self.folder / "setting.txt"
        if path.exists() and path.read_text(encoding="utf-8") != said:
            raise DataError(
                f"{path} tells of another setting",
                "cells of two settings cannot be compared",
                "Name another folder, or delete that one.",
            )
        write_text(path, said)

    def keys(self, seeds: int, first: int = 0) -> Iterator[Key]:
        """All cells in the order in which they are made: two seeds of the compared teachers, then a
        seed of the other temperatures, and on in turns.
        """
        compared, every = self.setting.teachers, self.setting.settings
        turns = [(2 * at, at, compared) for at in range(seeds)]
        turns += [(2 * at + 3, at, every[len(compared) :]) for at in range(seeds)]
        for _, seed, teachers in sorted(turns, key=lambda turn: turn[0]):
            for architecture in self.setting.architectures:
                yield from (Key(architecture, first + seed, each.name) for each in teachers)

    def found(self, seeds: int, first: int = 0) -> dict[Key, Cell]:
        """The cells that are there."""
        paths = {key: self.folder / key.file for key in self.keys(seeds, first)}
        return {
            key: json.loads(path.read_text(encoding="utf-8"))
            for key, path in paths.items()
            if path.exists()
        }

    def cell(self, key: Key) -> Cell:
        """A cell, from its file or made."""

        def make() -> Cell:
            teacher = next(t for t in self.setting.settings if t.name == key.teacher)
            return self._made(key, self.texts(teacher, key.seed))

        return self._kept(key.file, make)

    def _made(self, key: Key, texts: list[list[str]]) -> Cell:
        """One student: scored before it is taught, taught, tested."""
        said, start = self.setting, time.process_time()
        student = self.base(key.architecture, said.width, key.seed)
        features = self._features(student, texts)
        scored = time.process_time()
        rows = answered(self.prompts, texts, said.each)
        trained(student, rows, said.taught, key.seed)
        taught = time.process_time()
        sampled = responses(student, self.asked, said.samples, 1.0, 1)
        greedy = responses(student, self.asked, 1, 0.0, 1)
        return {
            "accuracy": right(self.asked, sampled).mean(axis=1).round(6).tolist(),
            "greedy": right(self.asked, greedy)[:, 0].tolist(),
            "teacher_accuracy": float(right(self.prompts, texts).mean()),
            "scores": {score.name: score.value(features) for score in EVERY_SCORE},
            "better": {score.name: score.better for score in EVERY_SCORE},
            "cautions": list(cautions_about({key.teacher: features})),
            "seconds": [scored - start, taught - scored, time.process_time() - taught],
        }

    def _features(self, student: TappedModel, texts: list[list[str]]) -> Features:
        rows = answered(self.prompts, texts, self.setting.scored)
        sketcher = FactoredSketcher(student, Sketching(dimension=self.setting.dimension))
        prompts = np.array([row.number for row in rows], dtype=np.int64)
        seen = TextSet(rows, rendering())
        return text_features(sketcher, seen, prompts, probed(student, sketcher, "train"))

    def base(self, architecture: str, width: int, seed: int) -> TappedModel:
        """A model that has read general text and nothing else."""
        said, fresh = self.setting, model(architecture, width, seed)
        return self._weighed(
            f"bases/{architecture}-{width}-{seed}.pt",
            fresh,
            lambda: trained(fresh, general(said.general, seed), said.base, seed),
        )

    def teacher(self, said: Teacher) -> TappedModel:
        """A teacher with its weights, the same for all seeds of students."""
        path = f"teachers/{said.trained_as}.pt"
        if (self.folder / path).exists():
            return self._read(path, model("llama", said.width, 0))
        known = self.base("llama", said.width, TEACHERS_SEED)
        rows = solved(self.solved, STYLES[said.style], said.wrong, TEACHERS_SEED)
        how = self.setting.teaching.lasting(said.steps)
        return self._weighed(path, known, lambda: trained(known, rows, how, TEACHERS_SEED))

    def texts(self, said: Teacher, seed: int) -> list[list[str]]:
        """What a teacher answers to each prompt; the same for both architectures."""
        return self._kept(
            f"texts/{said.name}-{seed}.json",
            lambda: responses(
                self.teacher(said), self.prompts, self.setting.each, said.temperature, seed
            ),
        )

    def _weighed(
        self, name: str, fresh: TappedModel, make: Callable[[], TappedModel]
    ) -> TappedModel:
        path = self.folder / name
        if path.exists():
            return self._read(name, fresh)
        made = make()
        write_atomically(path, lambda draft: torch.save(made.module.state_dict(), draft))
        return made

    def _read(self, name: str, fresh: TappedModel) -> TappedModel:
        fresh.module.load_state_dict(torch.load(self.folder / name, weights_only=True))
        return fresh.eval()

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        path = self.folder / name
        if not path.exists():
            write_text(path, json.dumps(make()))
        return json.loads(path.read_text(encoding="utf-8"))
