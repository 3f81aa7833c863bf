"""Sums that wait."""

import torch

from preceptor.ops.sketching import CountSketch
from preceptor.selection.sums import Sums


def test_what_waited_is_what_is_added_at_once() -> None:
    later, now = torch.zeros(3, 32), torch.zeros(3, 32)
    sums = Sums()
    for number, size in enumerate((5, 16, 40, 200, 700)):
        sketch = CountSketch.drawn(size, 16, number)
        x = torch.randn(3, size)
        sums.add(sketch, x, later)
        sketch.add(x, now)
    assert later.abs().sum() < now.abs().sum()
    sums.finish()
    torch.testing.assert_close(later, now)


def test_nothing_is_added_twice_and_nothing_once_it_was_left() -> None:
    room, sums = torch.zeros(2, 8), Sums()
    sketch = CountSketch.drawn(4, 4, 0)
    sums.add(sketch, torch.ones(2, 4), room)
    sums.finish()
    held = room.clone()
    sums.finish()
    sums.add(sketch, torch.ones(2, 4), room)
    sums.forget()
    sums.finish()
    assert torch.equal(room, held)
    assert held.abs().sum() == 8


def test_much_that_waits_is_added_before_the_end() -> None:
    room, sums = torch.zeros(600, 1024), Sums()
    sums.add(CountSketch.drawn(512, 512, 0), torch.ones(600, 512), room)
    assert room.any()
