"""Does GRACE tell, before any training, which teacher's student comes out best?

Small language models chain sums. Nineteen teachers differ in size, in the style of their
workings, in how many of the workings they learned from are wrong, and in temperature. Each answers
the same problems; students of two architectures, which have read general text, are scored by their
gradients on some of these answers, then trained on all of them alike, and asked test problems.
Beside GRACE stand teacher accuracy, the student's loss, G-Norm, G-Vendi and the rank-surprisal
ratio; three teachers also write at further temperatures.

Everything made is kept in the work folder, a file a cell: a run that was killed goes on, and more
seeds are added. `--report` prints what is there, of seeds that are whole. The targets (a rank
correlation of 0.86, and a regret no larger than any baseline's) are reported and not enforced.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from grace_cells import Work
from grace_setting import FULL, QUICK, Setting
from grace_tables import (
    Lines,
    claims_of,
    of_selectors,
    of_teachers,
    of_temperatures,
    outcomes,
    within_teachers,
)
from paired import Claim, conclude, table

from preceptor.evaluate.tables import markdown_table


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "preceptor-bench" / "grace"


def make(work: Work, seeds: int) -> None:
    """Every cell that is not there."""
    keys = list(work.keys(seeds))
    for at, key in enumerate(keys, 1):
        started = time.process_time()
        cell = work.cell(key)
        accuracy = 100 * sum(cell["accuracy"]) / len(cell["accuracy"])
        told = f"{accuracy:.1f} %, GRACE {cell['scores']['grace']:.1f}"
        seconds = time.process_time() - started
        print(f"{at}/{len(keys)} {key.file}: {told}, {seconds:.0f} s", file=sys.stderr, flush=True)


def told(work: Work, seeds: int, markdown: bool) -> list[Claim]:
    """Prints the tables of what is there."""

    def show(lines: Lines) -> None:
        drawn = markdown_table(lines) if markdown else table(lines[0], lines[1:])
        print(drawn, end="\n\n", flush=True)

    cells, said, claims = work.found(seeds), work.setting, list[Claim]()
    for architecture in said.architectures:
        found = outcomes(cells, architecture, said.teachers)
        if found is None:
            print(f"{architecture}: no seed is whole yet\n")
            continue
        count = found.accuracy.shape[0]
        print(f"{architecture}, {count} seeds, {len(found.teachers)} teachers\n")
        show(of_teachers(found))
        show(of_selectors(found, said))
        greedy = outcomes(cells, architecture, said.teachers, "greedy")
        assert greedy is not None
        rho = greedy.correlation("grace")
        print(f"GRACE with greedy accuracy: rho {rho[0]:+.2f} ({rho[1]:+.2f} to {rho[2]:+.2f})\n")
        claims += claims_of(found, architecture)
        if (heated := outcomes(cells, architecture, said.settings)) is not None:
            print(f"{heated.accuracy.shape[0]} seeds of all temperatures\n")
            show(of_temperatures(heated, said))
            show(within_teachers(heated, said))
    marks = sorted({caution for cell in cells.values() for caution in cell["cautions"]})
    print(f"{sum('singular' in mark for mark in marks)} cautions of a singular regime")
    return claims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: a look, no claim")
    parser.add_argument("--work", type=Path, help="where everything made is kept")
    parser.add_argument("--seeds", type=int, default=3, help="of students and teachers' text")
    parser.add_argument(
        "--report", action="store_true", help="tables of what is there, and no more"
    )
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    setting: Setting = QUICK if asked.quick else FULL
    with tempfile.TemporaryDirectory() as passing:
        folder = asked.work or (Path(passing) if asked.quick else default_folder())
        seeds = 1 if asked.quick else asked.seeds
        work = Work(folder, setting)
        if not asked.report:
            make(work, seeds)
        claims = told(work, seeds, asked.markdown)
    conclude(claims)


if __name__ == "__main__":
    main()
