"""What a cache keeps of each position: the largest probabilities, draws, or every logit.

A codec makes columns (one entry a position) of a teacher's distribution, and a distribution of
columns: `Lists` of ids, which are then coded as bits (`lists.py`), or logits as they are.

Dimension key: c positions of a slice, n positions, v classes, k entries.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, final

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor

from preceptor.errors import NeedsError, NonFiniteError
from preceptor.fields import Count, Positive, check_ranges
from preceptor.teachers.tokens.lists import Lists
from preceptor.teachers.tokens.selection import drawn, largest
from preceptor.types import (
    Dense,
    Distribution,
    Needs,
    Sampled,
    TopK,
    at_least_float32,
)

Columns = TypeVar("Columns", Lists, Tensor)

_TAIL_LEVELS = 65535
_ROOT = 8


class Codec(ABC, Generic[Columns]):
    """How a distribution at some positions becomes columns, and comes back."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    @abstractmethod
    def at(self) -> float | None:
        """The only temperature that the answers exist at; None for any."""

    @abstractmethod
    def offers(self) -> Needs:
        """What a teacher that reads such a cache gives."""

    @abstractmethod
    def observed(
        self, teacher: Distribution, rows: Int[Tensor, " c"], offsets: Int[Tensor, " c"]
    ) -> Columns:
        """What is kept of a slice of positions, each of which is a row's and has an offset in it.

        Raises:
            NeedsError: the teacher's distribution does not hold what is to be kept.
            NonFiniteError: it is no distribution; the rows are named.
        """

    @abstractmethod
    def shown(self, columns: Columns, classes: int) -> Distribution:
        """The distribution at all positions, flat, on the CPU."""


@final
@dataclass(frozen=True)
class TopKCodec(Codec[Lists]):
    """The k largest probabilities at one temperature, and the mass of the rest.

    Log-probabilities are kept as the eighth root of the probability in even steps: a likely token
    to a few percent, one of 1e-4 to a fifth, so that KL(decoded || exact) spreads over all. What
    is read back is scaled to add up to 1.

    Args:
        k: how many; all where there are fewer classes.
        temperature: what they are taken at, and can be read at.
        levels: steps of the eighth root between 0 and 1. At 96 the divergence is below 1e-3 nats
            for up to 50 entries, however the mass lies; it falls with the square.
    """

    kind: ClassVar[str] = "top-k"
    k: Count = 50
    temperature: Positive = 1.0
    levels: Annotated[int, Ge(2), Le(65535)] = 96

    @property
    def largest_number(self) -> int:
        """The largest number in its lists."""
        return self.levels - 1

    @property
    def at(self) -> float:
        """The one temperature."""
        return self.temperature

    def offers(self) -> Needs:
        """Bins at the one temperature."""
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({self.temperature}))

    def observed(
        self, teacher: Distribution, rows: Int[Tensor, " c"], offsets: Int[Tensor, " c"]
    ) -> Lists:
        """The largest, as levels; a `TopK` of more entries is cut."""
        found = largest(teacher, self.k, self.temperature)
        _check_numbers(found.log_p.isnan().any(dim=-1), rows, offsets)
        levels = (self.levels * (found.log_p / _ROOT).exp()).round_().clamp_(1, self.levels)
        tail = (_TAIL_LEVELS * (found.log_tail / _ROOT).exp()).round_().clamp_(1, _TAIL_LEVELS)
        none = found.log_tail == -torch.inf if found.ids.shape[-1] == found.classes else False
        tail = tail.masked_fill(torch.as_tensor(none), 0)
        there = found.ids >= 0
        ids, order = torch.where(there, found.ids, found.classes).sort(dim=-1)
        numbers = (levels.long() - 1).masked_fill(~there, 0).gather(-1, order)
        return Lists(
            ids.masked_fill(ids == found.classes, -1).cpu().numpy(),
            numbers.cpu().numpy(),
            tail.cpu().numpy().astype(np.uint16),
        )

    def shown(self, columns: Lists, classes: int) -> TopK:
        """Bins that add up to 1."""
        ids = torch.from_numpy(columns.ids)
        of_level = (_ROOT * (torch.arange(1, self.levels + 1) / self.levels).log()).float()
        log_p = of_level[torch.from_numpy(columns.numbers)].masked_fill_(ids < 0, -torch.inf)
        heads = torch.from_numpy(columns.heads.astype(np.float32))
        log_tail = _ROOT * (heads / _TAIL_LEVELS).log()
        total = torch.logaddexp(log_p.logsumexp(dim=-1), log_tail)
        log_p, log_tail = log_p - total.unsqueeze(-1), log_tail - total
        return TopK(ids, log_p, log_tail, self.temperature, classes)


@final
@dataclass(frozen=True)
class SampledCodec(Codec[Lists]):
    """Classes drawn with replacement, how often each was, and the whole distribution's entropy.

    Anshumann et al. "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs". ACL
    2025. arXiv:2503.16870. What is drawn depends on the seed, the row and the offset alone, not
    on how capture was cut into batches.

    Args:
        draws: how many a position.
        temperature: what they are drawn at, and can be read at.
        seed: of the draws.
    """

    kind: ClassVar[str] = "sampled"
    draws: Count = 50
    temperature: Positive = 1.0
    seed: int = 0

    @property
    def largest_number(self) -> int:
        """The largest number in its lists."""
        return self.draws - 1

    @property
    def at(self) -> float:
        """The one temperature."""
        return self.temperature

    def offers(self) -> Needs:
        """Draws at the one temperature."""
        return Needs(kinds=frozenset({"draws"}), temperatures=frozenset({self.temperature}))

    def observed(
        self, teacher: Distribution, rows: Int[Tensor, " c"], offsets: Int[Tensor, " c"]
    ) -> Lists:
        """Draws with counts."""
        found = drawn(
            teacher, self.draws, self.temperature, seed=self.seed, rows=rows, offsets=offsets
        )
        _check_numbers(found.entropy.isnan(), rows, offsets)
        heads = found.entropy.cpu().numpy().astype(np.float16).view(np.uint16)
        numbers = (found.counts - 1).clamp_min(0).cpu().numpy()
        return Lists(found.ids.cpu().numpy(), numbers, heads)

    def shown(self, columns: Lists, classes: int) -> Sampled:
        """Draws as they fell; the entropy to three digits."""
        ids = torch.from_numpy(columns.ids)
        counts = (torch.from_numpy(columns.numbers) + 1).masked_fill(ids < 0, 0)
        entropy = torch.from_numpy(columns.heads.view(np.float16).astype(np.float32))
        return Sampled(ids, counts, entropy, self.temperature, classes)


@final
@dataclass(frozen=True)
class DenseCodec(Codec[Tensor]):
    """Every logit, less the position's largest: for small vocabularies.

    Args:
        dtype: "float16" keeps three digits, "bfloat16" two, "float32" all.
    """

    kind: ClassVar[str] = "dense"
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"

    @property
    def at(self) -> None:
        """Any."""
        return

    def offers(self) -> Needs:
        """Raw logits, at any temperature."""
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def observed(
        self, teacher: Distribution, rows: Int[Tensor, " c"], offsets: Int[Tensor, " c"]
    ) -> Float[Tensor, "c v"]:
        """Logits whose largest is 0."""
        if not isinstance(teacher, Dense) or teacher.temperature is not None:
            raise NeedsError(
                f"a dense cache of a teacher that answers with a {type(teacher).__name__}",
                "it gives no raw logits, which alone can be read at any temperature",
                "Write a top-k or sampled cache, at the temperature of the objective.",
            )
        logits = at_least_float32(teacher.logits)
        kept = (logits - logits.amax(dim=-1, keepdim=True)).to(getattr(torch, self.dtype))
        _check_numbers(~kept.isfinite().all(dim=-1), rows, offsets)
        return kept.cpu()

    def shown(self, columns: Tensor, classes: int) -> Dense:
        """The logits, in the stored dtype."""
        del classes
        return Dense(columns)


def _check_numbers(
    broken: Bool[Tensor, " c"], rows: Int[Tensor, " c"], offsets: Int[Tensor, " c"]
) -> None:
    if broken.any():
        broken = broken.cpu()
        names = [f"{r} (token {o})" for r, o in zip(rows[broken], offsets[broken], strict=True)]
        raise NonFiniteError(
            f"the teacher's answer to rows {', '.join(names[:5])}",
            "it is NaN or infinite, or its logits do not fit the stored precision",
            "Look at these rows and at the teacher; what was written before them is kept.",
        )


AnyCodec = TopKCodec | SampledCodec | DenseCodec

_KINDS: dict[str, type[AnyCodec]] = {
    each.kind: each for each in (TopKCodec, SampledCodec, DenseCodec)
}


def codec_text(codec: AnyCodec) -> dict[str, Any]:
    """As JSON."""
    return {"kind": codec.kind, **asdict(codec)}


def codec_told(text: dict[str, Any]) -> AnyCodec:
    """From what `codec_text` gave; raises `KeyError` or `TypeError` for anything else."""
    rest = dict(text)
    return _KINDS[rest.pop("kind")](**rest)
