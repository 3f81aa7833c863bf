"""Linear maps to few numbers that keep inner products on average, drawn from names alone.

Each map S is isometric: E |S x|^2 = |x|^2 and E <S x, S y> = <x, y> over its random signs, and no
map is ever held as a matrix that is as long as what it maps, but for `Side`'s.

Signs: Dimitris Achlioptas. "Database-friendly random projections". PODS, 2001.
Buckets: Moses Charikar, Kevin Chen, Martin Farach-Colton. "Finding frequent items in data
streams". ICALP, 2002; here each bucket gets equally many coordinates.

Dimension key: *n leading axes, n coordinates, d of a sketch, k of a side, b examples, t rows of
each, a and o in- and outputs of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.ops.counter import signs, words
from preceptor.ops.products import product

_ADD_ALL = torch._foreach_addcmul_  # pyright: ignore[reportPrivateImportUsage]
PIECE = 1 << 16
"""Coordinates of a long vector whose map is made at once."""
_FEW = 4
"""Vectors at once, of which long ones are gone through once more rather than lap by lap."""
_NARROW = 8
"""Columns that a product of matrices is not made for."""
_SHORT = 16
"""Runs that are soon added one by one."""


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

    @cached_property
    def turned(self) -> Float[Tensor, "{self.k} {self.n}"]:
        """The table, a row for each of its numbers."""
        assert self.table is not None, "what is left whole has no table"
        return self.table.T.contiguous()

    @property
    def scale(self) -> float:
        """What `raw` is to be multiplied by."""
        return 1.0 if self.table is None else self.k**-0.5

    def raw(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The sums of signed coordinates, in x's precision."""
        return x if self.table is None else product(x, self.table.T.to(x.dtype))

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

    Coordinates are taken k at a time, and each such run is turned by an offset of its own: two
    coordinates meet in a bucket with probability 1/k at most, and a run is added as it lies. Of a
    longer vector those that are 4 k - 1 apart have the same bucket: the sums of these are taken
    first, so that few runs are left. That many is odd, and no two numbers of a matrix' column are
    as far apart before a good part of its rows is between them.

    Args:
        n, k: from how many to how many.
        offsets: below k, of each run.
        sign: of each coordinate [n].
    """

    n: int
    k: int
    offsets: tuple[int, ...]
    sign: Float[Tensor, " n"]

    @classmethod
    def drawn(cls, n: int, k: int, *keys: int, device: torch.device | str = "cpu") -> "CountSketch":
        """The sketch of these keys."""
        offsets = words(*keys, 0, torch.arange(-(-_lap(n, k) // k))) % k
        return cls(n, k, tuple(offsets.tolist()), signs(1, n, *keys, 1, device=device).squeeze(0))

    @property
    def scale(self) -> float:
        """1: no number is lost in `raw`."""
        return 1.0

    def raw(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The map itself."""
        return self(x)

    def __call__(self, x: Float[Tensor, "*n {self.n}"]) -> Float[Tensor, "*n {self.k}"]:
        """The sums of signed coordinates by bucket."""
        room = x.new_zeros(*x.shape[:-1], 2 * self.k)
        self.add(x, room)
        return turned(room)

    def scaled(self, scale: Float[Tensor, " r"]) -> "CountSketch":
        """The map of a matrix of r rows whose rows are brought to a scale before."""
        every = scale.repeat_interleave(self.n // len(scale))
        return replace(self, sign=self.sign.to(scale.dtype) * every)

    def add(self, x: Float[Tensor, "*n {self.n}"], room: Float[Tensor, "*n 2*{self.k}"]) -> None:
        """Add to a `room` of twice as many buckets, the second half of which `turned` brings in."""
        lap = _lap(self.n, self.k)
        if lap == self.n:
            add_terms(*self.terms(x, room))
            return
        found = self._lapped(x, lap, room.dtype)
        for offset, run in zip(self.offsets, found.split(self.k, dim=-1), strict=True):
            room.narrow(-1, offset, run.shape[-1]).add_(run)

    @property
    def is_short(self) -> bool:
        """Whether `terms` are all that it adds."""
        return self.n <= _SHORT * self.k

    def terms(self, x: Tensor, room: Tensor) -> "Terms":
        """What `add` adds where: one sum a run."""
        return _signed(room, self.offsets, x, self._signs(room.dtype, self.k))

    def _lapped(self, x: Float[Tensor, "*n {self.n}"], lap: int, dtype: torch.dtype) -> Tensor:
        """Signed coordinates [*n, lap], those added that are a multiple of `lap` apart."""
        found = torch.zeros(*x.shape[:-1], lap, dtype=dtype, device=x.device)
        if found.numel() > _FEW * lap:
            signs = self._signs(dtype, lap)
            add_terms(*_signed(found, [0] * len(signs), x, signs))
            return found
        signed = x * self._signs(dtype, self.n)[0]  # Calls cost more than numbers then.
        laps, rest = signed.split((self.n - self.n % lap, self.n % lap), dim=-1)
        found += laps.unflatten(-1, (-1, lap)).sum(dim=-2)
        found.narrow(-1, 0, rest.shape[-1]).add_(rest)
        return found

    def _signs(self, dtype: torch.dtype, size: int) -> list[Float[Tensor, " length"]]:
        """Of each run of a size."""
        if (dtype, size) not in self._known:
            self._known[dtype, size] = list(self.sign.to(dtype).split(size))
        return self._known[dtype, size]

    @cached_property
    def _known(self) -> dict[tuple[torch.dtype, int], list[Tensor]]:
        return {}

    @cached_property
    def bucket(self) -> Int[Tensor, " {self.n}"]:
        """Of each coordinate."""
        place = torch.arange(self.n, device=self.sign.device) % _lap(self.n, self.k)
        offsets = torch.tensor(self.offsets, device=place.device)
        return (place + offsets[place // self.k]) % self.k

    def matrix(self) -> Float[Tensor, "{self.n} {self.k}"]:
        """C, so that `self(x)` is x @ C."""
        return self(torch.eye(self.n))


Terms = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""Parts of rooms, and the two factors of what is to be added to each."""


def _signed(
    room: Float[Tensor, "*n d"],
    offsets: Sequence[int],
    x: Float[Tensor, "*n k"],
    signs: list[Tensor],
) -> Terms:
    """x for a room, run by run, each from an offset on and with signs as long as it is."""
    if len(signs) == 1:
        return [room.narrow(-1, offsets[0], x.shape[-1])], [x], signs
    *shape, _ = room.shape
    strides, start = room.stride(), room.storage_offset()
    apart, size = strides[-1], signs[0].shape[0]
    there = [
        room.as_strided((*shape, sign.shape[0]), strides, start + offset * apart)
        for offset, sign in zip(offsets, signs, strict=True)
    ]
    return there, list(x.split(size, dim=-1)), signs


def add_terms(there: list[Tensor], runs: list[Tensor], signs: list[Tensor]) -> None:
    """Add the products of runs and signs to parts of rooms."""
    if there[0].device.type == "cpu":  # One call; elsewhere runs that overlap may meet in it.
        _ADD_ALL(there, runs, signs)
        return
    for each, run, sign in zip(there, runs, signs, strict=True):
        each.addcmul_(run, sign)


def _lap(n: int, k: int) -> int:
    """How far apart those of n coordinates are that always meet in one of k buckets."""
    return n if n <= _SHORT * k else 4 * k - 1


def turned(room: Float[Tensor, "*n two_k"]) -> Float[Tensor, "*n k"]:
    """The sums of k buckets, of a room to which `CountSketch.add` added."""
    first, second = room.chunk(2, dim=-1)
    return first + second


def contracted(
    out: Float[Tensor, "b *g t o"], given: Float[Tensor, "b *g t a"], scale: float | Tensor
) -> Float[Tensor, "b n"]:
    """scale sum_t out_t given_t^T of each example's groups, flat, in float32 or better.

    `scale` is one number, or one an output [*g, o, 1].
    """
    if not out.dtype == given.dtype == torch.float32:
        wide = torch.promote_types(out.dtype, torch.float32)
        out, given = out.to(wide), given.to(wide)
    # Few columns are slow to write to, few rows are not.
    narrow = given.shape[-1] < _NARROW < out.shape[-1]
    found = (given.mT @ out).mT if narrow else out.mT @ given
    is_one = not isinstance(scale, Tensor) and scale == 1.0
    return (found if is_one else found.mul_(scale)).flatten(1)


def two_sided(
    matrix: Float[Tensor, "*n o a"],
    out: Side | CountSketch,
    given: Side,
) -> Float[Tensor, "*n ko ka"]:
    """P_out^T G P_in of an explicit matrix G."""
    found = given(matrix)
    is_whole = isinstance(out, Side) and out.table is None
    return found if is_whole else out(found.mT).mT


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
