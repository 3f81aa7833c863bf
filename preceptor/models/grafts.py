"""A model with another end: what a method leaves in the student that is saved."""

import copy
from typing import Any, final

from torch import Tensor, nn

from preceptor.models.taps import parsed, reading


@final
class Grafted(nn.Module):
    """Logits = graft(a tensor read inside the trunk)."""

    def __init__(self, trunk: nn.Module, graft: nn.Module, tap: str) -> None:
        super().__init__()
        self.trunk, self.graft, self.tap = trunk, graft, tap

    @classmethod
    def onto(cls, trunk: nn.Module, graft: nn.Module, tap: str, *, head: str) -> "Grafted":
        """On a copy of a trunk, without its classifier unless the tap lies behind it."""
        trunk, place = copy.deepcopy(trunk), parsed(tap)
        behind = f"{head}.".startswith(f"{place.module}.") or not place.module
        if head and (place.side == "input" or not behind):
            trunk.set_submodule(head, nn.Identity())
        return cls(trunk, graft, tap)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Whatever the trunk takes, to logits."""
        with reading(self.trunk, frozenset({self.tap})) as taps:
            self.trunk(*args, **kwargs)
        return self.graft(taps[self.tap])
