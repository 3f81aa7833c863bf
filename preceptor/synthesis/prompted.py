"""What all sources of written text share: prompts of a `TextSource`, and seeds that are functions.

Dimension key: b rows of this rank.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from preceptor.data.collate import Origin
from preceptor.data.counter import words
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.errors import DataError, RecipeError
from preceptor.types import Batch, Progress

_COIN, _WRITE = 5, 6


@runtime_checkable
class Schedule(Protocol):
    """A number that moves with training, as a ramp does."""

    def at(self, progress: Progress) -> float:
        """Its value at a moment."""
        ...


class Prompted(Source):
    """A source around a `TextSource` whose responses somebody else may write.

    What is drawn, and every seed, is a function of the seed, the step and the row's place in the
    global batch, so a resumed run and another number of processes draw the same.

    Args:
        source: gives prompts, and the batches of data.
        seed: of coins and of what is written.
    """

    def __init__(self, source: TextSource, seed: int) -> None:
        self.source, self.texts, self.seed = source, source.texts, seed
        self.num_classes, self.num_examples = source.num_classes, source.num_examples

    @property
    def labels(self) -> Int[Tensor, " b"]:
        """None: a text has no class."""
        return self.source.labels

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every prompt is drawn at least once."""
        return self.source.steps_per_epoch

    def sample(self, count: int = 2) -> Batch:
        """A few examples of the data; nothing is written for them."""
        return self.source.sample(count)

    def state(self) -> dict[str, Any]:
        """The inner source's state, what the draws depend on, and what is held; as JSON.

        The same on every rank.
        """
        return {"source": self.source.state(), "draws": self._identity, "held": self._held()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave; refuses the state of a source that draws otherwise."""
        if state["draws"] != self._identity:
            raise DataError(
                "the checkpoint's source mixes or writes responses otherwise",
                "going on from it would train on other text than the run began with",
                "Start in a new folder, or restore the shares and the seed.",
            )
        self.source.load_state(state["source"])
        self._take_back(state["held"])

    @property
    def _identity(self) -> str:
        said = repr((type(self).__name__, self.seed, self._settings()))
        return hashlib.sha256(said.encode()).hexdigest()

    @abstractmethod
    def _settings(self) -> object:
        """What draws depend on beside the seed, as a value whose `repr` says it all."""

    def _held(self) -> Any:
        """What a resumed run needs beside the inner source's state."""
        return None

    def _take_back(self, held: Any) -> None:
        """Takes back what `_held` gave."""

    def _coin(self, step: int) -> float:
        """A number in [0, 1), the same on every rank."""
        return float(words(self.seed, _COIN, step)[0]) / 2.0**64

    def _seeds(self, step: int, places: NDArray[np.int64]) -> list[int]:
        """A seed for each place of the step's global batch."""
        return words(self.seed, _WRITE, step, places).tolist()


def mine(values: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """This rank's rows of a global batch.

    Raises:
        DataError: they cannot be shared out evenly.
    """
    if len(values) % world:
        raise DataError(
            f"{len(values)} rows on {world} processes",
            "every process takes the same number of rows",
            f"Choose a batch that is a multiple of {world}.",
        )
    return values[rank::world]


def composed(
    texts: TextSet,
    ids: NDArray[np.int64],
    responses: Sequence[ArrayLike],
    origin: Origin | Sequence[Origin],
    extra: Mapping[str, Sequence[ArrayLike]] | None = None,
) -> Batch:
    """A batch of written responses, padded to the same length on every rank."""
    batch = texts.compose(ids, responses, origin, extra=extra)
    if not several_ranks():
        return batch
    theirs = batch.teacher_inputs
    seen = 0 if texts.teacher_lengths is None else _width(theirs)
    length, teacher_length = largest((_width(batch.inputs), seen))
    return texts.compose(
        ids,
        responses,
        origin,
        extra=extra,
        length=length,
        teacher_length=teacher_length or None,
    )


def several_ranks() -> bool:
    """Whether other processes take part."""
    return dist.is_initialized() and dist.get_world_size() > 1


def largest(numbers: Sequence[int]) -> list[int]:
    """The largest of each number on any rank."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    found = torch.tensor(numbers, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def interleaved(rows: list[Any]) -> list[Any]:
    """Every rank's rows in the order of the global batch; where there is one process, `rows`."""
    if not several_ranks():
        return rows
    each: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(each, rows)
    return [row for together in zip(*each, strict=True) for row in together]


def settled(share: float | Schedule, step: int, steps: int, per_epoch: int) -> float:
    """A share at a step, between 0 and 1."""
    if isinstance(share, int | float):
        value = float(share)
    else:
        value = share.at(Progress(step, steps, step / per_epoch))
    if not 0 <= value <= 1:
        raise RecipeError(
            f"a share of {value:g} at step {step}",
            "it is the probability that somebody writes a step's responses",
            "Keep it between 0 and 1.",
        )
    return value


def _width(inputs: Any) -> int:
    return inputs["input_ids"].shape[1]
