"""How much of GRACE is not the size of the gradients.

Dimension key: p prompts.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Float64

from preceptor.selection.directions import Weights
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.means import GNorm
from preceptor.selection.score import Better


@final
@dataclass(frozen=True)
class LeverageRatio:
    """GRACE / (d G-Norm): near 1 / (1 - d / effective rows), where norms and directions are apart.

    It has no unit and does not change where all gradients are scaled, so that it may be compared
    between students, as GRACE may not. Near-duplicate responses to a prompt raise it.

    Args:
        grace: the score above the line; G-Norm has the same length factor.
    """

    grace: Grace = field(default_factory=Grace)

    @property
    def name(self) -> str:
        """What tables call it."""
        return "leverage_ratio"

    @property
    def better(self) -> Better:
        """Lower: other prompts span what a prompt asks for."""
        return "lower"

    def value(self, features: Features, weights: Weights | None = None) -> float:
        """The ratio."""
        below = GNorm(self.grace.length_factor).value(features, weights)
        return self.grace.value(features, weights) / (features.probe.dimension * below)

    def left_out(self, features: Features) -> Float64[np.ndarray, " p"]:
        """The ratio without each prompt."""
        below = GNorm(self.grace.length_factor).left_out(features)
        return self.grace.left_out(features) / (features.probe.dimension * below)
