"""Responses that student and teacher write together, scored by what they led to.

Yuxian Gu, Li Dong, Furu Wei, Minlie Huang. "MiniLLM: Knowledge Distillation of Large Language
Models". ICLR, 2024.
"""

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from preceptor.data.counter import shuffled
from preceptor.data.source import Source
from preceptor.data.text_source import TextSource
from preceptor.errors import DataError, RecipeError
from preceptor.synthesis.joining import beside, with_data_mask
from preceptor.synthesis.prompted import Prompted, composed, interleaved, mine
from preceptor.synthesis.returns import Returns
from preceptor.synthesis.writers import Writer
from preceptor.types import Batch

_ORDER = 8


@final
@dataclass(frozen=True)
class _Scored:
    """One response: its example, its tokens, and the numbers of each token."""

    example: int
    ids: list[int]
    sampled_log_q: list[float]
    sampled_log_p: list[float]
    importance: list[float]
    advantage: list[float]


_NUMBERS = ("sampled_log_q", "sampled_log_p", "importance", "advantage")


@final
class PolicyRollouts(Prompted):
    """Sets of responses, each learned from in one or more passes.

    At the first step of a set the responses to the prompts of `batches` of the source's batches
    are written at once; then `passes` times `batches` steps learn from them, in a new order every
    pass. A batch's `extra` holds, for each token, "sampled_log_q" and "sampled_log_p" (at
    temperature 1, of the whole vocabulary), "importance" (q over the distribution that it was
    drawn from, of this token alone) and "advantage". Padding is in none of them, and nothing has
    a gradient.

    Args:
        source: gives prompts.
        writer: one that records both log-probabilities: `writers.Mixed`.
        returns: how rewards become advantages; whitened over the whole set, over all ranks.
        batches: steps of the source whose prompts make a set.
        passes: how often a set is learned from.
        pretraining: rows that stand beside the rollouts in every batch, under the mask
            "data_written", for the term that keeps the student a language model.
        seed: of what is written, and of orders.
    """

    def __init__(
        self,
        source: TextSource,
        writer: Writer,
        *,
        returns: Returns | None = None,
        batches: int = 1,
        passes: int = 1,
        pretraining: Source | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(source, seed)
        if batches < 1 or passes < 1:
            raise RecipeError(
                f"batches={batches}, passes={passes}",
                "a set has a batch, and is learned from once at least",
                "Give 1 or more.",
            )
        if self.texts.teacher_lengths is not None:
            raise DataError(
                "the teacher sees other prompts than the student",
                "the two write one response token by token, each after its own prompt and up to "
                "its own end token, which these rollouts do not know how to do",
                "Give both the same template and prompts, or use rollouts of the student alone.",
            )
        self._writer, self._returns = writer, returns or Returns()
        self._batches, self._passes, self._pretraining = batches, passes, pretraining
        self._step = 0
        self._set: list[_Scored] = []
        # Rows of one set have one number, by which a cache of the teacher's answers knows them.
        same = isinstance(pretraining, TextSource) and pretraining.texts is self.texts
        self._offset = 0 if same or pretraining is None else source.num_examples
        if pretraining is not None and not same:
            self.num_examples += pretraining.num_examples

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every prompt is answered at least once and learned from every pass."""
        return self.source.steps_per_epoch * self._passes

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        """This rank's rows of the next step's batch; a new set is written where the last is done.

        Raises:
            DataError: the writer recorded no log-probabilities.
        """
        done, within = divmod(self._step, self._batches * self._passes)
        if within == 0:
            self._set = self._written(rank, world)
        turn, index = divmod(within, self._batches)
        self._step += 1
        order = shuffled(np.arange(len(self._set)), self.seed, _ORDER, done, turn)
        size = len(self._set) // self._batches
        chosen = [self._set[i] for i in mine(order[index * size : (index + 1) * size], rank, world)]
        numbers = {name: [getattr(each, name) for each in chosen] for name in _NUMBERS}
        examples = np.array([each.example for each in chosen], dtype=np.int64)
        responses = [each.ids for each in chosen]
        batch = with_data_mask(composed(self.texts, examples, responses, "student", numbers))
        if self._pretraining is None:
            return batch
        data = with_data_mask(self._pretraining.take(rank, world))
        return beside(batch, data, offset=self._offset)

    def sample(self, count: int = 2) -> Batch:
        """A few examples of the data, all numbers 0; nothing is written for them."""
        batch = with_data_mask(self.source.sample(count))
        zeros = torch.zeros(batch.labels.shape)
        fields = batch.fields()
        return Batch(**{**fields, "extra": {**batch.extra, **dict.fromkeys(_NUMBERS, zeros)}})

    def _written(self, rank: int, world: int) -> list[_Scored]:
        """A new set, the same on every rank."""
        first = self.source.step
        ids = np.concatenate([self.source.drawn(first + i) for i in range(self._batches)])
        for _ in range(self._batches):
            self.source.take(rank, world)
        own, places = mine(ids, rank, world), mine(np.arange(len(ids)), rank, world)
        found = self._writer(self.texts.prompts(own), self._seeds(first, places))
        if not (len(found.log_q) == len(found.log_p) == len(found.log_drawn) == len(own)):
            raise DataError(
                "the rollouts came without the log-probabilities of both models",
                "rewards and importance are made of them",
                "Let `writers.Mixed` write.",
            )
        each = zip(own, found.ids, found.log_q, found.log_p, found.log_drawn, strict=True)
        rows = interleaved([(int(i), *_plain(numbers)) for i, *numbers in each])
        log_q, log_p = ([np.array(row[k]) for row in rows] for k in (2, 3))
        advantages = self._returns.of(log_p, log_q)
        return [
            _Scored(i, tokens, q, p, _ratio(q, drawn), advantage.tolist())
            for (i, tokens, q, p, drawn), advantage in zip(rows, advantages, strict=True)
        ]

    def _settings(self) -> object:
        return (self._returns, self._batches, self._passes, self._pretraining is None)

    def _held(self) -> dict[str, Any]:
        others = None if self._pretraining is None else self._pretraining.state()
        rows = [asdict(each) for each in self._set]
        return {"step": self._step, "set": rows, "pretraining": others}

    def _take_back(self, held: dict[str, Any]) -> None:
        self._step = held["step"]
        self._set = [_Scored(**each) for each in held["set"]]
        if self._pretraining is not None:
            self._pretraining.load_state(held["pretraining"])


def _plain(numbers: list[NDArray]) -> list[list[Any]]:
    return [each.tolist() for each in numbers]


def _ratio(above: list[float], below: list[float]) -> list[float]:
    return np.exp(np.array(above) - np.array(below)).tolist()
