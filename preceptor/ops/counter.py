"""Random numbers that are functions of their names, in integers alone: the same on every device.

Guy L. Steele, Doug Lea, Christine H. Flood. "Fast splittable pseudorandom number generators".
OOPSLA, 2014 (the mixing function of SplitMix64). `data/counter.py` is the same in numpy.

No step rounds, so neither the machine nor the device nor the number of threads changes a bit of it.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BITS = 64


def words(*keys: int | Int64[Tensor, "..."], device: torch.device | str = "cpu") -> Tensor:
    """One 64-bit word, as int64, for each tuple of keys; tensors of keys broadcast.

    >>> words(1, 2, torch.arange(2)).tolist()
    [-1833405127366507680, -5182195735961227806]
    """
    mixed = torch.zeros((), dtype=torch.int64, device=device)
    for key in keys:
        mixed = _splitmix64(mixed ^ (_signed(key) if isinstance(key, int) else key.to(device)))
    return mixed


def signs(
    rows: int, columns: int, *keys: int, start: int = 0, device: torch.device | str = "cpu"
) -> Float[Tensor, "{rows} {columns}"]:
    """A matrix of +1 and -1, each with probability one half: rows `start` on of a longer one.

    Row i, column j is bit j mod 64 of the word of (keys, i, j div 64).
    """
    row = torch.arange(start, start + rows, device=device).unsqueeze(1)
    block = torch.arange(-(-columns // _BITS), device=device)
    drawn = words(*keys, row, block, device=device)
    place = torch.arange(_BITS, device=device)
    bits = drawn.unsqueeze(-1).bitwise_right_shift(place).bitwise_and_(1)
    return bits.flatten(1)[:, :columns].to(torch.float32).mul_(-2).add_(1)


def _splitmix64(state: Tensor) -> Tensor:
    z = state + _signed(0x9E3779B97F4A7C15)  # Sums and products wrap, as they must.
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(word: Tensor, places: int) -> Tensor:
    """Zeros come in from the left, where torch's own shift of a signed word repeats its sign."""
    return word.bitwise_right_shift(places).bitwise_and_((1 << (_BITS - places)) - 1)


def _signed(value: int) -> int:
    """The signed number of the same 64 bits."""
    value %= 1 << _BITS
    return value - (1 << _BITS) if value >= 1 << (_BITS - 1) else value
