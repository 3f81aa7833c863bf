"""What a start did: where each of the student's tensors comes from, and how good that is."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

How = Literal["copied", "selected", "projected", "set", "tied", "random"]


WARNING = "warning: "
"""What a line of the text begins with that says what could not be carried over exactly."""


@dataclass(frozen=True)
class Origin:
    """Where a tensor of the student comes from.

    Args:
        name: the student's tensor.
        how: `copied` whole, `selected` along its axes, `projected` onto a dense basis, `set` to a
            constant that stands for a folded norm, `tied` to another tensor, left `random`.
        source: the teacher's tensor; empty where there is none.
    """

    name: str
    how: How
    source: str = ""


@dataclass(frozen=True)
class Repaired:
    """A writer that was fitted anew, and its mean squared error on the calibration before and
    after, as a share of what it had to write."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """A start in numbers.

    Args:
        basis: how the stream's directions were chosen.
        teacher_width, width: of the streams.
        gain: what norms before readers were multiplied by.
        depth: the teacher's block that each of the student's was taken from; empty where it
            has none.
        energy: place -> the share of the teacher's stream that the basis keeps there: the
            embedding table, and each block's inputs where there was calibration.
        origins: of each of the student's tensors.
        warnings: what could not be carried over exactly, by name.
        repaired: the writers that were fitted anew.
        loss, random_loss: before any training, of this start and of the student as it was drawn;
            None where no loss was given.
    """

    basis: str
    teacher_width: int
    width: int
    gain: float
    depth: tuple[int, ...]
    energy: Mapping[str, float]
    origins: tuple[Origin, ...]
    warnings: tuple[str, ...] = ()
    repaired: tuple[Repaired, ...] = field(default=())
    loss: float | None = None
    random_loss: float | None = None

    def count(self) -> dict[str, int]:
        """How many tensors came about in each way."""
        return dict(Counter(origin.how for origin in self.origins))

    def text(self) -> str:
        """For a reader."""
        lines = [f"basis {self.basis}: {self.width} of {self.teacher_width} directions"]
        lines[0] += f", gains times {self.gain:.4g}"
        if self.loss is not None and self.random_loss is not None:
            lines.append(f"loss before training: {self.loss:.4f}, at random {self.random_loss:.4f}")
        if self.depth:
            pairs = (f"{own} from {theirs}" for own, theirs in enumerate(self.depth))
            lines.append(f"blocks: {', '.join(pairs)}")
        for how, number in sorted(self.count().items()):
            lines.append(f"{how}: {number} tensor{'s' if number > 1 else ''}")
            names = [origin.name for origin in self.origins if origin.how == how]
            lines += [f"  {name}" for name in together(names)]
        if self.energy:
            lines.append("explained energy")
            lines += [f"  {share:.3f} {place}" for place, share in self.energy.items()]
        if self.depth and not any(place.startswith("block") for place in self.energy):
            lines.append("explained energy of blocks: unknown, the teacher was read and not run")
        if self.repaired:
            lines.append("repaired: error left, before and after")
            lines += [f"  {r.before:.4f} {r.after:.4f} {r.name}" for r in self.repaired]
        return "\n".join([*lines, *(f"{WARNING}{words}" for words in self.warnings)])


def together(names: Sequence[str]) -> list[str]:
    """Tensors by module, those of several blocks in a line.

    >>> together(["h.0.up.weight", "h.0.up.bias", "h.1.up.weight", "h.2.up.weight", "head.weight"])
    ['h.0-2.up', 'head']
    """
    found: dict[tuple[str, ...], list[int]] = {}
    for name in names:
        module = name.removesuffix(".weight").removesuffix(".bias")
        before, *rest = re.split(r"(?<=\.)(\d+)(?=\.|$)", module, maxsplit=1)
        numbers = found.setdefault((before, *rest[1:]), [])
        numbers += [int(number) for number in rest[:1] if int(number) not in numbers]
    return [_ranges(numbers).join(parts) for parts, numbers in found.items()]


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, those that follow one another as their first and last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs)
