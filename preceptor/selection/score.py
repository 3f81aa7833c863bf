"""What every score of a candidate is: a pure function of its features with a better side.

Dimension key: p prompts.
"""

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from preceptor.selection.directions import Weights
from preceptor.selection.features import Features

Better = Literal["lower", "higher"]


@runtime_checkable
class Score(Protocol):
    """One number of a candidate's features, computed in float64.

    Scores are frozen dataclasses of their settings. Prompts are the unit that is drawn, so each
    score says what it is where prompts count differently, and where each is left out.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def better(self) -> Better:
        """Which side a good teacher is on."""
        ...

    def value(self, features: Features, weights: Weights | None = None) -> float:
        """The score, with each prompt (ascending) counted `weights` times."""
        ...

    def left_out(self, features: Features) -> Float64[np.ndarray, " p"]:
        """The score without each prompt in turn, ascending: what the jackknife reads."""
        ...
