"""One row as a model reads it: ids, and which of them are responses.

Dimension key: n tokens.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
"""The first token or character, and one past the last."""


@final
@dataclass(frozen=True)
class Rendered:
    """One row as a model reads it.

    Args:
        ids: token ids [n].
        spans: the tokens of each response, first and one past the last; in order.
        sizes: UTF-8 bytes of the string that each token adds to those before it [n].
        responses: the string of each response, without its end-of-turn token.
    """

    ids: NDArray[np.int32]
    spans: tuple[Span, ...]
    sizes: NDArray[np.int32]
    responses: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which tokens are predicted and scored [n]: the responses', never the very first."""
        scored = np.zeros(len(self.ids), np.bool_)
        for start, stop in self.spans:
            scored[max(start, 1) : stop] = True
        return scored

    @property
    def prompt(self) -> NDArray[np.int32]:
        """What stands before the last response; everything where there is none."""
        return self.ids[: self.spans[-1][0]] if self.spans else self.ids

    @property
    def response(self) -> NDArray[np.int32]:
        """The last response, its end-of-turn token included."""
        start, stop = self.spans[-1] if self.spans else (len(self.ids), len(self.ids))
        return self.ids[start:stop]

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of what is scored."""
        return int(self.sizes[self.scored].sum())

    def cut(self, start: int, stop: int) -> "Rendered":
        """The tokens from `start` up to `stop`, and what of the responses lies among them."""
        inside = [(max(s, start) - start, min(e, stop) - start) for s, e in self.spans]
        spans = tuple((s, e) for s, e in inside if s < e)
        return Rendered(self.ids[start:stop], spans, self.sizes[start:stop])

    def last(self, count: int) -> "Rendered":
        """The last `count` tokens, and the responses that are whole among them."""
        begin = len(self) - count
        kept = [i for i, (start, _) in enumerate(self.spans) if start > begin]
        return Rendered(
            self.ids[begin:],
            tuple((self.spans[i][0] - begin, self.spans[i][1] - begin) for i in kept),
            self.sizes[begin:],
            tuple(self.responses[i] for i in kept),
        )


def sizes_of(text: str, ends: NDArray[np.int64]) -> NDArray[np.int32]:
    """UTF-8 bytes that each token adds; one that ends inside a character adds all or none of it."""
    reached = np.maximum.accumulate(ends) if len(ends) else ends
    if not text.isascii():
        widths = [len(character.encode("utf-8", "surrogatepass")) for character in text]
        reached = np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])[reached]
    return np.diff(reached, prepend=0).astype(np.int32)
