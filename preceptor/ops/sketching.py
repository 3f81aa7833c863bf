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
Tensors = tuple[Tensor, ...] | list[Tensor]
"""As torch takes them where it takes many."""
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
        if self.table is None:
            return x
        turned = self.turned
        return product(x, turned if turned.dtype == x.dtype else turned.to(x.dtype))

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
        times: what all of them are multiplied by.
    """

    n: int
    k: int
    offsets: tuple[int, ...]
    sign: Float[Tensor, " n"]
    times: float = 1.0

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

    def scaled(self, scale: float | Float[Tensor, " r"]) -> "CountSketch":
        """The map of what is brought to a scale before: all of it, or each of a matrix' r rows."""
        if not isinstance(scale, Tensor):
            return self if scale == 1.0 else replace(self, times=self.times * scale)
        every = scale.repeat_interleave(self.n // len(scale))
        return replace(self, sign=self.sign.to(scale.dtype) * every)

    def add(self, x: Float[Tensor, "*n {self.n}"], room: Float[Tensor, "*n 2*{self.k}"]) -> None:
        """Add to a `room` of twice as many buckets, the second half of which `turned` brings in."""
        lap = _lap(self.n, self.k)
        if lap == self.n:
            add_terms(self.places(room), self.runs(x), self.factors(room.dtype))
            return
        found = self._lapped(x, lap, room.dtype)
        for offset, run in zip(self.offsets, found.split(self.k, dim=-1), strict=True):
            room.narrow(-1, offset, run.shape[-1]).add_(run)

    @property
    def is_short(self) -> bool:
        """Whether what it adds is no more than `runs` times `factors` to `places`."""
        return self.n <= _SHORT * self.k

    def places(self, room: Float[Tensor, "*n 2*{self.k}"]) -> list[Float[Tensor, "*n length"]]:
        """The parts of a room that runs are added to; few are kept, as it may be the next one."""
        kept = self._kept.get("room")
        if kept is not None and kept[0] is room:
            return kept[1]
        found = _parts(room, self.offsets, self.n, self.k)
        if len(found) <= _FEW:
            self._kept["room"] = room, found
        return found

    def runs(self, x: Float[Tensor, "*n {self.n}"]) -> Tensors:
        """What is added to each of them, but for its factors."""
        return (x,) if self.n <= self.k else x.split(self.k, dim=-1)

    def factors(self, dtype: torch.dtype) -> list[Float[Tensor, " length"]]:
        """Of each run."""
        return self._signs(dtype, self.k)

    def _lapped(self, x: Float[Tensor, "*n {self.n}"], lap: int, dtype: torch.dtype) -> Tensor:
        """Signed coordinates [*n, lap], those added that are a multiple of `lap` apart."""
        found = torch.zeros(*x.shape[:-1], lap, dtype=dtype, device=x.device)
        if found.numel() > _FEW * lap:
            signs = self._signs(dtype, lap)
            places = _parts(found, [0] * len(signs), self.n, lap)
            add_terms(places, x.split(lap, dim=-1), signs)
            return found
        signed = x * self._signs(dtype, self.n)[0]  # Calls cost more than numbers then.
        laps, rest = signed.split((self.n - self.n % lap, self.n % lap), dim=-1)
        found += laps.unflatten(-1, (-1, lap)).sum(dim=-2)
        found.narrow(-1, 0, rest.shape[-1]).add_(rest)
        return found

    def _signs(self, dtype: torch.dtype, size: int) -> list[Float[Tensor, " length"]]:
        """Of each run of a size, times what all are multiplied by."""
        if (dtype, size) not in self._known:
            every = self.sign.to(dtype)
            every = every if self.times == 1.0 else every * self.times
            self._known[dtype, size] = list(every.split(size))
        return self._known[dtype, size]

    @cached_property
    def _kept(self) -> dict[str, tuple[Tensor, list[Tensor]]]:
        return {}

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


def _parts(
    room: Float[Tensor, "*n d"], offsets: Sequence[int], count: int, size: int
) -> list[Float[Tensor, "*n length"]]:
    """Those of a room that runs of `count` numbers are added to, each from an offset on."""
    *shape, _ = room.shape
    strides, start = room.stride(), room.storage_offset()
    return [
        room.as_strided((*shape, min(size, count - i * size)), strides, start + o * strides[-1])
        for i, o in enumerate(offsets)
    ]


def add_terms(there: list[Tensor], runs: Tensors, signs: list[Tensor]) -> None:
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
    out: Float[Tensor, "b *g t o"], given: Float[Tensor, "b *g t a"]
) -> Float[Tensor, "b n"]:
    """sum_t out_t given_t^T of each example's groups, flat, in float32 or better."""
    if not out.dtype == given.dtype == torch.float32:
        wide = torch.promote_types(out.dtype, torch.float32)
        out, given = out.to(wide), given.to(wide)
    # Few columns are slow to write to, few rows are not.
    narrow = given.shape[-1] < _NARROW < out.shape[-1]
    if out.dim() > 3:
        found = (given.mT @ out).mT if narrow else out.mT @ given
    else:  # Fewer calls on the way.
        found = torch.bmm(given.mT, out).mT if narrow else torch.bmm(out.mT, given)
    return found.flatten(1)


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
