"""Responses as token ids, and how they are gathered token by token.

Dimension key: n rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@final
@dataclass(frozen=True)
class Generated:
    """Responses as token ids, with what was recorded of each token.

    The log-probabilities are the models' own: at temperature 1, of the whole vocabulary.

    Args:
        ids: each row's new tokens, the one that ended it included.
        ended: whether a row came to an end by itself; the others were cut at `max_new` [n].
        log_q: log-probability of each token to the student; empty where not recorded.
        log_p: the same to the teacher; empty where it took no part.
        log_drawn: log-probability of each token in the mixture that it was drawn from; empty
            where there was no mixture.
    """

    ids: tuple[NDArray[np.int64], ...]
    ended: NDArray[np.bool_]
    log_q: tuple[NDArray[np.float32], ...] = ()
    log_p: tuple[NDArray[np.float32], ...] = ()
    log_drawn: tuple[NDArray[np.float32], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@final
class Growing:
    """The tokens of all rows, step by step, moved off the device once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._steps: list[tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]] = []

    def add(
        self, rows: Tensor, growing: Tensor, tokens: Tensor, recorded: dict[str, Tensor]
    ) -> None:
        """One step's tokens, of the rows that have not ended."""
        self._steps.append((rows, growing, tokens, recorded))

    def result(self, cut: Tensor | None = None) -> Generated:
        """Everything, row by row; `cut` are those that came to no end."""
        ended = np.ones(self._count, np.bool_)
        if cut is not None:
            ended[cut.cpu().numpy()] = False
        if not self._steps:
            return Generated((), ended)
        names = self._steps[0][3]
        rows = torch.cat([rows[growing] for rows, growing, _, _ in self._steps])
        order = torch.argsort(rows, stable=True).cpu()
        counts = torch.bincount(rows, minlength=self._count).tolist()

        def by_row(parts: Sequence[Tensor], dtype: type) -> tuple[NDArray[Any], ...]:
            kept = [part[step[1]] for part, step in zip(parts, self._steps, strict=True)]
            flat = torch.cat(kept).cpu()[order]
            return tuple(part.numpy().astype(dtype) for part in flat.split(counts))

        each = {
            name: by_row([recorded[name] for _, _, _, recorded in self._steps], np.float32)
            for name in names
        }
        return Generated(by_row([step[2] for step in self._steps], np.int64), ended, **each)
