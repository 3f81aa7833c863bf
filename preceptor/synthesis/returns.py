"""What a token led to: rewards log p - log q, added up from each token to its response's end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import RecipeError

Rows = Sequence[NDArray[np.floating]]
"""One number for each token of each response."""


@final
@dataclass(frozen=True)
class Returns:
    """MiniLLM's advantages: what came after a token, per token that was left.

    A token's own reward is left to the single-step part of the gradient, which takes its whole
    expectation. The other defaults are those of the authors' released code, which also sets
    `own=True`; the paper's equation has `discount=1`, `scale=1` and `whiten=False`.

    Yuxian Gu, Li Dong, Furu Wei, Minlie Huang. "MiniLLM: Knowledge Distillation of Large Language
    Models". ICLR, 2024.

    Args:
        discount: what a reward loses a token, in [0, 1].
        scale: rewards are divided by it.
        clip: rewards are cut to [-clip, clip] after that.
        own: a token's return begins with its own reward, not with the next one's.
        normalise: divide by the number of rewards that the return adds up.
        whiten: shift and scale the returns of all tokens to mean 0 and variance 1.
    """

    discount: float = 0.95
    scale: float = 0.5
    clip: float = 100.0
    own: bool = False
    normalise: bool = True
    whiten: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.discount <= 1 and self.scale > 0 and self.clip > 0):
            raise RecipeError(
                f"{self}",
                "a discount lies between 0 and 1; scale and clip are positive",
                "Correct the number that is out of range.",
            )

    def of(self, log_p: Rows, log_q: Rows) -> list[NDArray[np.float32]]:
        """The advantage of each token of each response.

        Args:
            log_p: log-probabilities of the tokens to the teacher.
            log_q: the same to the student that wrote them.
        """
        returns = [self._returns(p, q) for p, q in zip(log_p, log_q, strict=True)]
        if self.whiten and any(map(len, returns)):
            flat = np.concatenate(returns)
            spread = np.sqrt(flat.var() + 1e-8)
            returns = [(each - flat.mean()) / spread for each in returns]
        return [each.astype(np.float32) for each in returns]

    def _returns(self, log_p: NDArray, log_q: NDArray) -> NDArray[np.float64]:
        rewards = (log_p.astype(np.float64) - log_q.astype(np.float64)) / self.scale
        rewards = np.clip(rewards, -self.clip, self.clip)
        counts = np.arange(len(rewards), 0, -1)
        if not self.own:
            rewards, counts = np.append(rewards[1:], 0.0)[: len(rewards)], counts - 1
        returns = np.empty_like(rewards)
        later = 0.0
        for place in range(len(rewards) - 1, -1, -1):
            later = rewards[place] + self.discount * later
            returns[place] = later
        return returns / np.maximum(counts, 1) if self.normalise else returns
