"""Sketched gradients beside a plain pass for many architectures.

As wide as published models are (8 texts of 128 tokens, or 8 images of 224x224), or `--small` (16
texts, or 64 images of 64x64, where what is done for a layer besides its products weighs more).
Fresh weights, one thread, float32, paired rounds of processor time. Bounds are targets here; the
promised ones are in `selection_features.py`.

Each student is measured in processes of its own: what the memory of a process was used for before
moves the time of both passes by 5 %, and of one more than of the other. Told is the median of the
processes' medians, and the least and the most of them.
"""

import argparse
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from architectures import PUBLISHED, SMALL, Architecture
from paired import Claim, Interval, conclude, paired, reported, table
from selection_features import MEMORY, TIME, flat, peak, plain

from preceptor.selection.factored import FactoredSketcher

HEADS = ("student", "one at a time", "seconds", "plain", "ratio", "peak over plain's")
QUICK = ("llama", "mixtral", "mpnet", "swin")


class Measured(NamedTuple):
    """What one process found: medians of its rounds, in seconds of processor time."""

    apart: int
    factored: float
    plain: float
    ratio: float
    peak: float


def measured(each: Architecture, rounds: int) -> Measured:
    """Factored features beside the plain pass, in this process."""
    torch.set_num_threads(1)
    model, batch = each.model(), each.batch()
    whole, sketcher = plain(model, batch), FactoredSketcher(model)
    once = partial(sketcher, batch)
    whole()
    once()
    found = paired(once, whole, rounds=rounds)
    share = peak(once, "cpu") / peak(whole, "cpu")
    return Measured(
        len(sketcher.apart), *found.medians("cpu"), ratio=found.ratio("cpu").value, peak=share
    )


def compared(
    claims: list[Claim], each: Architecture, rounds: int, processes: int
) -> tuple[object, ...]:
    """What the processes found: a row."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        found: Sequence[Measured] = pool.starmap(measured, [(each, rounds)] * processes, 1)
    ratios = [one.ratio for one in found]
    ratio = Interval(float(np.median(ratios)), min(ratios), max(ratios))
    share = max(one.peak for one in found)
    for what, value, target in (("time", ratio, TIME), ("peak", flat(share), MEMORY)):
        is_met = value.value <= target
        claims.append(reported(f"{each.label}: {what} over a plain pass's", value, target, is_met))
    seconds = [f"{np.median([one[i] for one in found]):.2f}" for i in (1, 2)]
    row = (each.label, str(found[0].apart or "-"), *seconds, ratio, f"{share:.2f}")
    print(*row, flush=True)  # All of them take an hour.
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four small ones, once, three rounds")
    parser.add_argument("--small", action="store_true", help="small ones, of more architectures")
    parser.add_argument(
        "--pixels", type=int, default=64, help="of a side of the small ones' images"
    )
    parser.add_argument("--examples", type=int, help="in a batch, of all of them")
    parser.add_argument("--processes", type=int, default=3, help="for each of them")
    parser.add_argument("names", nargs="*", help="only these")
    said = parser.parse_args()
    is_small = said.small or said.quick
    every = [each.of_pixels(said.pixels) for each in SMALL] if is_small else PUBLISHED
    if said.examples:
        every = [replace(each, examples=said.examples) for each in every]
    wanted = said.names or (QUICK if said.quick else [each.label for each in every])
    rounds, processes = (3, 1) if said.quick else (7, said.processes)
    claims: list[Claim] = []
    rows = [compared(claims, each, rounds, processes) for each in every if each.label in wanted]
    print(table(HEADS, rows), flush=True)
    conclude(claims)


if __name__ == "__main__":
    main()
