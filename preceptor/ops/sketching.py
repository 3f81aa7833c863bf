"""Linear maps to few numbers that keep inner products on average, drawn from names alone.

Each map S is isometric: E |S x|^2 = |x|^2 and E <S x, S y> = <x, y> over its random signs, and no
map is ever held as a matrix that is as long as what it maps, but for `Side`'s.

Signs: Dimitris Achlioptas. "Database-friendly random projections". PODS, 2001.
Buckets: Moses Charikar, Kevin Chen, Martin Farach-Colton. "Finding frequent items in data
streams". ICALP, 2002; here each bucket gets equally many coordinates.

Dimension key: *n leading axes, n coordinates, d of a sketch, k of a side, b examples, t rows of
each, a and o in- and outputs of a layer.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.ops.counter import shuffle, signs

PIECE = 1 << 16
"""Coordinates of a long vector whose map is made at once."""

_AT_ONCE = 1 << 13
"""Coordinates that are brought into their order at once, so that they stay in the cache."""


@final
@dataclass(frozen=True)
class Side:
    """One side of a matrix, n to k by dense signs over sqrt(k); left whole where n is at most k.

    `table` is [n, k] of +1 and -1, which every precision holds exactly; None for the whole.
    """

    n: int
    k: int
    table: Tensor | None

    @classmethod
    def drawn(cls, n: int, k: int, *keys: int, device: torch.device | str = "cpu") -> "Side":
        """The side of these keys; `k` of n at most n."""
        if n <= k:
            return cls(n, n, None)
        return cls(n, k, signs(n, k, *keys, device=device))

    @property
    def scale(self) -> float:
        """What `raw` is to be multiplied by."""
        return 1.0 if self.table is None else self.k**-0.5

    def raw(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The sums of signed coordinates, in x's precision."""
        return x if self.table is None else x @ self.table.to(x.dtype)

    def __call__(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The map itself."""
        return x if self.table is None else self.raw(x) * self.scale

    def matrix(self) -> Float[Tensor, "{self.n} {self.k}"]:
        """P, so that `self(x)` is x @ P."""
        return self(torch.eye(self.n))


@final
@dataclass(frozen=True)
class CountSketch:
    """n coordinates to k buckets: each coordinate has one bucket and one sign.

    Args:
        n, k: from how many to how many.
        order: coordinates [n]; the one at place i has the bucket i mod k.
        sign: of the coordinate at each place [n].
    """

    n: int
    k: int
    order: Int[Tensor, " n"]
    sign: Float[Tensor, " n"]

    @classmethod
    def drawn(cls, n: int, k: int, *keys: int, device: torch.device | str = "cpu") -> "CountSketch":
        """The sketch of these keys."""
        order = shuffle(n, *keys, 0, device=device)
        sign = signs(1, n, *keys, 1, device=device).squeeze(0)
        return cls(n, k, order.int(), sign)

    @property
    def scale(self) -> float:
        """1: no number is lost in `raw`."""
        return 1.0

    def raw(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The map itself."""
        return self(x)

    def __call__(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The sums of signed coordinates by bucket."""
        rows = x.reshape(-1, self.n)
        found = rows.new_zeros(len(rows), self.k)
        step = max(1, _AT_ONCE // self.k) * self.k
        for start in range(0, self.n, step):
            there = slice(start, min(start + step, self.n))
            signed = rows.index_select(1, self.order[there]).mul_(self.sign[there].to(x.dtype))
            each, rest = divmod(signed.shape[1], self.k)
            if each:
                found += signed[:, : each * self.k].view(len(rows), each, self.k).sum(dim=1)
            found[:, :rest] += signed[:, each * self.k :]
        return found.view(*x.shape[:-1], self.k)

    def places(self) -> tuple[Int[Tensor, " {self.n}"], Float[Tensor, " {self.n}"]]:
        """Each coordinate's bucket, and its sign."""
        inverse = torch.empty_like(self.order, dtype=torch.int64)
        place = torch.arange(self.n, device=self.order.device)
        inverse[self.order.long()] = place
        return inverse % self.k, self.sign[inverse]

    def matrix(self) -> Float[Tensor, "{self.n} {self.k}"]:
        """C, so that `self(x)` is x @ C."""
        return self(torch.eye(self.n))


def contracted(
    out: Float[Tensor, "b t o"], given: Float[Tensor, "b t a"], scale: float
) -> Float[Tensor, "b o*a"]:
    """scale sum_t out_t given_t^T of each example, flat, in float32 or better."""
    wide = torch.promote_types(out.dtype, torch.float32)
    product = torch.bmm(out.to(wide).mT, given.to(wide))
    return product.mul_(scale).flatten(1)


def two_sided(
    matrix: Float[Tensor, "*n o a"], out: Side | CountSketch, given: Side
) -> Float[Tensor, "*n ko ka"]:
    """P_out^T G P_in of an explicit matrix G."""
    return out(given(matrix).mT).mT


def pieces(n: int) -> list[slice]:
    """A long vector's coordinates, `PIECE` at a time."""
    return [slice(start, min(start + PIECE, n)) for start in range(0, n, PIECE)]


def signs_sketch(x: Float[Tensor, "b n"], d: int, *keys: int) -> Float[Tensor, "b d"]:
    """Dense signs over sqrt(d), made again for every piece: n d of them, and n d products a row."""
    found = x.new_zeros(len(x), d)
    step = max(1, PIECE // 16)  # So many rows of the table, of d numbers each, exist at once.
    for start in range(0, x.shape[1], step):
        part = x[:, start : start + step]
        table = signs(part.shape[1], d, *keys, start=start, device=x.device)
        found.addmm_(part, table.to(x.dtype))
    return found.mul_(d**-0.5)


def count_sketch(x: Float[Tensor, "b n"], d: int, *keys: int) -> Float[Tensor, "b d"]:
    """Buckets and signs, drawn for a piece at a time: n sums a row."""
    found = x.new_zeros(len(x), d)
    for number, part in enumerate(pieces(x.shape[1])):
        there = x[:, part]
        found += CountSketch.drawn(there.shape[1], d, *keys, number, device=x.device)(there)
    return found
