"""What a study's cells hand over: one trained model's answers, and the trials they stand in.

Dimension key: n test items.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Int

from preceptor.errors import StorageError

State = Literal["done", "collapsed", "failed"]


@final
@dataclass(frozen=True)
class Answered:
    """One model's outcome.

    Args:
        state: "done"; "collapsed", its numbers were not finite; "failed", it has no outcome.
        why: a sentence, where it is not done.
        answers: its class for each test item; empty where it is not done.
        labels: the test items' classes; likewise.
        validation: its accuracy on validation items.
        parameters: how many it has.
        seconds: of processor time.
    """

    state: State
    why: str
    answers: tuple[int, ...]
    labels: tuple[int, ...]
    validation: float
    parameters: int
    seconds: float

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Answered":
        """Read what `to_json` wrote."""
        try:
            plain = json.loads(text)
            sides = {name: tuple(plain[name]) for name in ("answers", "labels")}
            return Answered(**{**plain, **sides})
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"a cell's file does not hold a cell ({error!r})",
                "it was changed after it was written",
                "Remove it: the study trains that cell again.",
            ) from None


@final
@dataclass(frozen=True)
class Compared:
    """One comparison: a place in the grid, under one seed.

    Args:
        place: task, student, teacher, method.
        signal: "true", or how the teacher's answers were altered.
        option: what was chosen among, in words; empty where nothing is.
        seed: of all models.
        taught, control, teacher, rival: the models; `rival` is the same teacher from another seed.
    """

    place: tuple[str, str, str, str]
    signal: str
    option: str
    seed: int
    taught: Answered
    control: Answered
    teacher: Answered
    rival: Answered | None

    @property
    def whole(self) -> bool:
        """Whether there is something to compare: a collapse counts, a failure does not."""
        models = (self.taught, self.control, self.teacher)
        return all(model.state != "failed" for model in models) and any(m.labels for m in models)

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The test items' classes."""
        models = (self.teacher, self.control, self.taught)
        return np.array(next(model.labels for model in models if model.labels))


def answers(model: Answered, labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A model's classes; a collapsed one is taken to always answer the commonest class."""
    if model.answers:
        return np.array(model.answers)
    return np.full_like(labels, np.bincount(labels).argmax())


def hits(model: Answered, labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Where it is right."""
    return answers(model, labels) == labels


def commonest(labels: Int[np.ndarray, " n"]) -> float:
    """The accuracy of always answering the commonest class."""
    return float(np.bincount(labels).max() / len(labels))


def by_place(
    trials: tuple[Compared, ...],
) -> Mapping[tuple[str, str, str, str], list[Compared]]:
    """Trials of each place, in order."""
    found: dict[tuple[str, str, str, str], list[Compared]] = {}
    for trial in trials:
        found.setdefault(trial.place, []).append(trial)
    return found
