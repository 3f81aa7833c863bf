"""Who writes responses: the student as it is now, a teacher, both at once, or a server."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np

from preceptor.errors import DataError
from preceptor.models.generate import Generated, Prompt, generate, generate_mixed
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel


@runtime_checkable
class Writer(Protocol):
    """Anything that answers prompts with token ids; the same seeds give the same tokens."""

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Generated:
        """A response to each prompt, drawn from its own seed."""
        ...


@final
@dataclass(frozen=True)
class Local:
    """A model in this process.

    Args:
        model: a causal one; a student that is being trained writes with the weights of the moment.
        sampling: how tokens are drawn.
        ends: tokens that end a response.
        pad: what stands where nothing is.
        record: also record each token's log-probability.
    """

    model: TappedModel
    sampling: Sampling
    ends: Collection[int]
    pad: int = 0
    record: bool = False

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Generated:
        """A response to each prompt."""
        return generate(
            self.model,
            prompts,
            self.sampling,
            seeds=seeds,
            ends=self.ends,
            pad=self.pad,
            record=self.record,
        )


@final
@dataclass(frozen=True)
class Mixed:
    """Student and teacher together: each token from `teacher_share` p + (1 - `teacher_share`) q.

    Both log-probabilities and the mixture's are recorded. Temperature is 1, nothing is cut off.

    Args:
        student, teacher: causal models over the same tokens.
        ends: tokens that end a response.
        teacher_share: the teacher's part, between 0 and 1.
        max_new: the most tokens a response may have.
        pad: what stands where nothing is.
    """

    student: TappedModel
    teacher: TappedModel
    ends: Collection[int]
    teacher_share: float = 0.2
    max_new: int = 128
    pad: int = 0

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Generated:
        """A response to each prompt."""
        return generate_mixed(
            self.student,
            self.teacher,
            prompts,
            teacher_share=self.teacher_share,
            max_new=self.max_new,
            seeds=seeds,
            ends=self.ends,
            pad=self.pad,
        )


class Completion(NamedTuple):
    """What a server wrote: the ids it sampled (none where it gives text alone), and whether the
    model came to an end by itself."""

    ids: Sequence[int] | None
    ended: bool


@final
@dataclass(frozen=True)
class Served:
    """A server that holds the student's weights, or a teacher of the student's vocabulary.

    It must say which tokens it sampled (vLLM does with `return_token_ids`): text that is
    tokenised again gives other ids than those that were drawn, and the student would be scored on
    a response that it never wrote.

    Args:
        ask: answers prompts of token ids, given a seed for each.
        ends: tokens that end a response. A server that leaves the end token out gets it added
            where there is one alone.
        vocabulary: how many tokens the student knows.
    """

    ask: Callable[[Sequence[Prompt], Sequence[int]], Sequence[Completion]]
    ends: Collection[int]
    vocabulary: int
    _ends: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", frozenset(self.ends))

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Generated:
        """A response to each prompt.

        Raises:
            DataError: the server gave text alone, fewer answers than prompts, or unknown tokens.
        """
        answers = self.ask(prompts, seeds)
        if len(answers) != len(prompts):
            raise DataError(
                f"{len(prompts)} prompts were asked and {len(answers)} answers came",
                "each prompt has one response",
                "Check the server, or let the student write in this process.",
            )
        ids = tuple(np.asarray(self._whole(answer), dtype=np.int64) for answer in answers)
        return Generated(ids, np.array([answer.ended for answer in answers], dtype=np.bool_))

    def _whole(self, answer: Completion) -> list[int]:
        if answer.ids is None:
            raise DataError(
                "the server gave the text of a response without its token ids",
                "text that is tokenised again gives other tokens than those that were sampled",
                "Use a server that can say them (vLLM: return_token_ids), or let the student"
                " write in this process.",
            )
        ids = list(answer.ids)
        if answer.ended and (not ids or ids[-1] not in self._ends) and len(self._ends) == 1:
            ids.extend(self._ends)
        beyond = [token for token in ids if not 0 <= token < self.vocabulary]
        if beyond:
            raise DataError(
                f"the server sampled token {beyond[0]}",
                f"the student knows 0 to {self.vocabulary - 1}",
                "Serve the student that is being trained, or a teacher of its vocabulary.",
            )
        return ids
