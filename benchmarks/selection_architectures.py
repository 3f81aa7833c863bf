"""Sketched gradients beside a plain pass for many architectures.

As wide as published models are (8 texts of 128 tokens, or 8 images of 224x224), or `--small` (16
texts, or 64 images of 64x64, where what is done for a layer besides its products weighs more).
Fresh weights, one thread, float32, paired rounds of processor time. Bounds are targets here; the
promised ones are in `selection_features.py`.
"""

import argparse
from dataclasses import replace
from functools import partial

import torch
from architectures import PUBLISHED, SMALL, Architecture
from paired import Claim, conclude, paired, reported, table
from selection_features import MEMORY, TIME, flat, peak, plain

from preceptor.selection.factored import FactoredSketcher

HEADS = ("student", "one at a time", "seconds", "plain", "ratio", "peak over plain's")
QUICK = ("llama", "mixtral", "mpnet", "swin")


def compared(claims: list[Claim], each: Architecture, rounds: int) -> tuple[object, ...]:
    """Factored features beside the plain pass: a row."""
    model, batch = each.model(), each.batch()
    whole, sketcher = plain(model, batch), FactoredSketcher(model)
    once = partial(sketcher, batch)
    whole()
    once()
    found = paired(once, whole, rounds=rounds)
    most = peak(whole, "cpu")
    ratio, share = found.ratio("cpu"), peak(once, "cpu") / most
    for what, value, target in (("time", ratio, TIME), ("peak", flat(share), MEMORY)):
        is_met = value.value <= target
        claims.append(reported(f"{each.label}: {what} over a plain pass's", value, target, is_met))
    seconds = [f"{one:.2f}" for one in found.medians("cpu")]
    apart = str(len(sketcher.apart)) if sketcher.apart else "-"
    return each.label, apart, *seconds, ratio, f"{share:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four small ones, three rounds")
    parser.add_argument("--small", action="store_true", help="small ones, of more architectures")
    parser.add_argument(
        "--pixels", type=int, default=64, help="of a side of the small ones' images"
    )
    parser.add_argument("--examples", type=int, help="in a batch, of all of them")
    parser.add_argument("names", nargs="*", help="only these")
    said = parser.parse_args()
    torch.set_num_threads(1)
    is_small = said.small or said.quick
    every = [each.of_pixels(said.pixels) for each in SMALL] if is_small else PUBLISHED
    if said.examples:
        every = [replace(each, examples=said.examples) for each in every]
    wanted = said.names or (QUICK if said.quick else [each.label for each in every])
    claims: list[Claim] = []
    rounds = 3 if said.quick else 7
    rows = [compared(claims, each, rounds) for each in every if each.label in wanted]
    print(table(HEADS, rows), flush=True)
    conclude(claims)


if __name__ == "__main__":
    main()
