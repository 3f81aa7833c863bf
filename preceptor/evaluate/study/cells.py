"""What a study's cells hand over: one trained model's answers, and the trials they stand in.

Dimension key: n test items, p scored tokens of them.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Shaped

from preceptor.errors import StorageError

State = Literal["done", "collapsed", "failed"]

Told = Shaped[np.ndarray, " n"]
"""One answer an item: classes' numbers, or words."""


@final
@dataclass(frozen=True)
class Answered:
    """One model's outcome.

    Args:
        state: "done"; "collapsed", its numbers were not finite; "failed", it has no outcome.
        why: a sentence, where it is not done.
        answers: its answer to each test item, a class's number or words; empty where it is not
            done.
        labels: what is right; likewise.
        validation: its accuracy on validation items.
        parameters: how many it has.
        seconds: of processor time.
        tokens: of text, the likeliest token at each place of the items' own responses.
        asked: a hash of the tokens that stand at these places.
    """

    state: State
    why: str
    answers: tuple[int, ...] | tuple[str, ...]
    labels: tuple[int, ...] | tuple[str, ...]
    validation: float
    parameters: int
    seconds: float
    tokens: tuple[int, ...] = ()
    asked: str = ""

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Answered":
        """Read what `to_json` wrote."""
        try:
            plain = json.loads(text)
            lists = {name: tuple(each) for name, each in plain.items() if isinstance(each, list)}
            return Answered(**{**plain, **lists})
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
    def labels(self) -> Told:
        """What is right of each test item."""
        models = (self.teacher, self.control, self.taught)
        return np.array(next(model.labels for model in models if model.labels))


def answers(model: Answered, labels: Told) -> Told:
    """A model's answers; a collapsed one is taken to always give the commonest."""
    if model.answers:
        return np.array(model.answers)
    named, counts = np.unique(labels, return_counts=True)
    return np.full_like(labels, named[counts.argmax()])


def hits(model: Answered, labels: Told) -> Bool[np.ndarray, " n"]:
    """Where it is right."""
    return answers(model, labels) == labels


def commonest(labels: Told) -> float:
    """The accuracy of always giving the commonest answer."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def same_tokens(first: Answered, second: Answered) -> float:
    """How often the likeliest token of both is one; NaN where they were not asked of the same."""
    if not first.tokens or first.asked != second.asked:
        return float("nan")
    return float(np.mean(np.array(first.tokens) == np.array(second.tokens)))


def by_place(
    trials: tuple[Compared, ...],
) -> Mapping[tuple[str, str, str, str], list[Compared]]:
    """Trials of each place, in order."""
    found: dict[tuple[str, str, str, str], list[Compared]] = {}
    for trial in trials:
        found.setdefault(trial.place, []).append(trial)
    return found
