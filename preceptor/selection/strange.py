"""What is raised where a parameter is used in a way that is not known for many examples at once."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from preceptor.errors import ModelError

if TYPE_CHECKING:
    from preceptor.selection.entry import Entry
    from preceptor.selection.ledger import Ledger

Chain = tuple[str, ...]
"""The names of modules that run, each called by the one before it; the whole model's is ''."""


class Strange(ModelError):
    """No rule tells which example's gradient is which.

    `chains` are the modules that ran; to run one of them for each example apart is the way out.
    Empty where nobody noted who ran. `entry` is to be taken whole.
    """

    def __init__(
        self, seen: str, why: str, chains: Iterable[Chain] = (), entry: "Entry | None" = None
    ) -> None:
        super().__init__(seen, why, _DO)
        self.chains, self.entry = tuple(chain for chain in chains if chain), entry


_DO = (
    "Use exact features for this model (kind: exact, projection: counts), or freeze what cannot be "
    "sketched."
)


def refusal(entry: "Entry", how: str) -> Strange:
    """What is raised where a parameter is used in a way that is not known."""
    seen = f"the parameter {entry.name} is used {how}"
    return Strange(
        seen, "how each example's gradient comes about is not known there", [entry.chain]
    )


def misplaced(entry: "Entry", shape: Sequence[int]) -> Strange:
    """The same where the first axis is not the examples'."""
    return Strange(
        f"the parameter {entry.name} met a tensor of shape {list(shape)} in a batch of "
        f"{entry.ledger.examples} examples",
        "which rows belong to which example is read from the first axis",
        [entry.chain],
    )


def mixed_forms(entry: "Entry") -> Strange:
    """The same where a parameter has two maps."""
    return Strange(
        f"the parameter {entry.name} is used in products and outside of them",
        "the two parts of its gradient are sketched by different maps",
        [entry.chain],
        entry,
    )


def unfit(ledger: "Ledger", how: str, *, again: bool = False) -> Strange:
    """The same where a module that was to be run one example at a time cannot be.

    `again`: whether to look at its tensors again is all that is needed.
    """
    running = () if again else tuple(ledger.running or ())
    return Strange(
        f"a module that is run one example at a time {how}",
        "what belongs to which example is not known there",
        [running],
    )


def changed(entry: "Entry") -> ModelError:
    """The same where no way leads out: the parameter itself is written to."""
    return ModelError(
        f"the parameter {entry.name} is used as what is changed in place",
        "the model would be another one for the next example",
        _DO,
    )


def mixing(entry: "Entry") -> ModelError:
    """The same where examples are no longer apart."""
    return ModelError(
        f"the parameter {entry.name} is used in a norm over the batch, which mixes examples",
        "an example's gradient depends on those beside it",
        "Give the norm statistics that stand still, or use exact features.",
    )


def common(one: Chain, other: Chain) -> Chain:
    """The modules that both begin with."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return one[:count]
