"""How long the command line takes to answer.

Each command is a process of its own, run several times after one run that fills the disk's cache.
The claim is on the wall's median; the processor time of the same runs stands beside it, since
neighbours on a shared machine lengthen the one and hardly the other.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from paired import Claim, at_most, conclude, median_interval, table

BOUNDS = {("--help",): 0.5, ("check", "digits"): 5.0}


def once(command: list[str]) -> tuple[float, float]:
    """Seconds by the wall, and of the process's own processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer runs")
    runs = 5 if parser.parse_args().quick else 15
    program = str(Path(sys.executable).with_name("preceptor"))
    claims: list[Claim] = []
    rows: list[tuple[object, ...]] = []
    for words, bound in BOUNDS.items():
        once([program, *words])
        wall, cpu = zip(*(once([program, *words]) for _ in range(runs)), strict=True)
        command = " ".join(("preceptor", *words))
        found = median_interval(wall)
        claims.append(at_most(f"{command}, seconds", found, bound))
        rows.append((command, found, f"{min(wall):.3f}", median_interval(cpu), bound))
    print(table(("command", "wall, s", "fastest, s", "CPU time, s", "bound, s"), rows))
    conclude(claims)


if __name__ == "__main__":
    main()
