"""Time, memory and exactness of head plus divergence, beside TRL 1.16.0's and Liger 0.8.5's.

At V = 32,768 classes, width 512, 4096 positions, float32, one thread. A step is the forward and the
backward pass from hidden states to the gradients of hidden states and head, teacher's product
included. Time is the paired ratio of processor time; peak is all that is allocated beyond weights
and hidden states, from the allocator's own records, the gradients of both (64 + 8 MiB) included.

Closed forms are held against the four matrix products alone in the same slices, against dense
autograd, and against the peers' own functions: TRL's chunked kernel on its path without Triton and
Liger's chunked JSD, eager like the rest. Both are fetched from the package index without what they
depend on (4 MB), which the divergences alone do not need or which is here.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from paired import Claim, Interval, at_most, conclude, median_interval, paired, peak_mib, table
from projection_sides import (
    DIVERGENCES,
    OPEN,
    PEERS_BETA,
    Opened,
    Problem,
    Step,
    dense,
    liger,
    ours,
    products,
    trl,
)

from preceptor.ops.projection import slice_length

PEERS = ("trl==1.16.0", "liger-kernel==0.8.5")
BOUNDS = {"forward KL": 1.4, "reverse KL": 1.4}
BOUND, GENERIC = 1.7, 2.5
DENSE, TRL = 1.1, 1.6
PEAK_MIB = 320
MIB = 2**20
POSITIONS, WIDTH, CLASSES = 4096, 512, 32_768

Rows = list[tuple[object, ...]]


def peers(folder: Path) -> bool:
    """Puts the peers' modules within reach; False where they cannot be had."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    try:
        if not (folder / "whole").exists():
            subprocess.run([*pip, "--no-deps", "--target", str(folder), *PEERS], check=True)
            (folder / "whole").touch()
        sys.path.append(str(folder))
        import liger_kernel.chunked_loss  # noqa: F401  # pyright: ignore[reportMissingImports]
        import trl.kernels.chunked_divergence  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, subprocess.CalledProcessError) as error:
        print(f"the peers could not be installed or imported here ({error}); ours alone:")
        return False
    return True


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "preceptor-bench" / "kernels"


def peak(problem: Problem, step: Step) -> float:
    """MiB allocated at once in a step, by the allocator's records."""
    problem.clear()
    found = peak_mib(step)
    problem.clear()
    return found


def compared(
    claims: list[Claim], problem: Problem, rounds: int
) -> Iterator[tuple[str, Callable[[], tuple[object, ...]]]]:
    """One row a divergence and path: the default slice over its products and over dense."""
    alone = products(problem)
    for name, objective in DIVERGENCES.items():
        for path, scored in (("closed", objective), ("generic", Opened(objective))):
            bound = BOUNDS.get(name, BOUND) if path == "closed" else GENERIC

            def row(
                name: str = name, path: str = path, scored: Any = scored, bound: float = bound
            ) -> tuple[object, ...]:
                step = ours(problem, scored)
                over = paired(step, alone, rounds=rounds).ratio("cpu")
                whole = paired(step, dense(problem, DIVERGENCES[name]), rounds=rounds)
                of_dense = whole.ratio("cpu")
                most = peak(problem, step)
                said = f"{name}, {path}"
                claims.append(at_most(f"{said}: time over the four products", over, bound))
                claims.append(at_most(f"{said}: time over dense autograd", of_dense, DENSE))
                claims.append(at_most(f"{said}: peak, MiB", flat(most), PEAK_MIB))
                seconds = whole.medians("cpu")[0]
                return name, path, f"{seconds:.2f}", over, of_dense, f"{most:.0f}"

            yield f"{name} {path}", row


def without_closed_form(claims: list[Claim], problem: Problem) -> Rows:
    """Peak of the methods that autograd alone can score, at the default slice."""
    rows: Rows = []
    for name, objective in OPEN.items():
        most = peak(problem, ours(problem, objective))
        claims.append(at_most(f"{name}, generic: peak, MiB", flat(most), PEAK_MIB))
        rows.append((name, f"{most:.0f}"))
    return rows


def flat(value: float) -> Interval:
    """A number that is exact."""
    return Interval(value, value, value)


def by_length(claims: list[Claim], problem: Problem, rounds: int, there: bool) -> Rows:
    """Time and peak at the same slice lengths, ours and the peers'."""
    rows: Rows = []
    classes, width = problem.weight.shape
    for name, beta in PEERS_BETA.items():
        for length in (256, 1024):
            step = ours(problem, DIVERGENCES[name], length)
            most = peak(problem, step)
            times = 20 if name == "JSD" else 12
            bound = (times * length * classes + 4 * classes * width) / MIB
            said = f"{name}: peak at slices of {length}, MiB (bound {times} C V + 4 V H)"
            claims.append(at_most(said, flat(most), bound))
            rows.append((name, "ours", length, *against(step, None, rounds), f"{most:.0f}"))
            for who, peer in (("TRL", trl), ("Liger", liger)) if there else ():
                other = peer(problem, beta, length)
                cells = against(step, other, rounds)
                rows.append((name, who, length, *cells, f"{peak(problem, other):.0f}"))
        if there:
            other = trl(problem, beta)
            found = paired(ours(problem, DIVERGENCES[name]), other, rounds=rounds)
            ratio = median_interval(found.cpu[:, 1] / found.cpu[:, 0])
            said = f"{name}: TRL's kernel as it comes over ours as it comes, time"
            claims.append(Claim(said, *ratio, bound=TRL, holds=ratio.value >= TRL))
            most = f"{peak(problem, other):.0f}"
            rows.append((name, "TRL", "its own", f"{found.medians('cpu')[1]:.2f}", ratio, most))
    return rows


def against(step: Step, other: Step | None, rounds: int) -> tuple[str, object]:
    """Seconds of a step, and how many times as long as ours it takes."""
    if other is None:
        return f"{paired(step, step, rounds=max(2, rounds // 2)).medians('cpu')[0]:.2f}", "1"
    found = paired(step, other, rounds=rounds)
    return f"{found.medians('cpu')[1]:.2f}", median_interval(found.cpu[:, 1] / found.cpu[:, 0])


def errors(claims: list[Claim], positions: int, classes: int) -> Rows:
    """How far gradients are from float64's, for float32 and for bfloat16 inputs."""
    rows: Rows = []
    single = Problem.of(positions, WIDTH, classes)
    low = single.to(torch.bfloat16)
    for name, objective in DIVERGENCES.items():
        far = error(single, ours(single, objective), objective)
        claims.append(at_most(f"{name}: gradient error, float32 inputs", flat(far), 2e-4))
        own = error(low, ours(low, objective), objective)
        other = error(low, dense(low, objective), objective)
        said = f"{name}: gradient error over that of a float32 softmax, bfloat16 inputs"
        claims.append(at_most(said, flat(own / other), 1.01))
        rows.append((name, f"{far:.1e}", f"{own:.2e}", f"{other:.2e}"))
    return rows


def error(problem: Problem, step: Step, objective: Any) -> float:
    """The larger of the two gradients' relative distances from float64's."""
    exact = problem.to(torch.float64)
    dense(exact, objective)()
    step()
    both = zip(problem.gradients(), exact.gradients(), strict=True)
    return max(float((own - truth).norm() / truth.norm()) for own, truth in both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: 512 positions")
    parser.add_argument(
        "--peers", type=Path, default=default_folder(), help="where the peers' modules are kept"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    said = parser.parse_args()
    torch.set_num_threads(said.threads)
    there = peers(said.peers)
    positions, classes, rounds = (512, 16_384, 2) if said.quick else (POSITIONS, CLASSES, 5)
    problem = Problem.of(positions, WIDTH, classes)
    claims: list[Claim] = []
    print(
        f"{positions} positions, {classes} classes, slices of {slice_length(classes)}", flush=True
    )
    found = [row() for _, row in compared(claims, problem, rounds)]
    heads = ("divergence", "path", "seconds", "over products", "over dense", "peak, MiB")
    print(table(heads, found), end="\n\n", flush=True)
    found = without_closed_form(claims, problem)
    print(table(("without a closed form", "peak, MiB"), found), end="\n\n", flush=True)
    found = by_length(claims, problem, 2 if said.quick else 3, there)
    print(table(("divergence", "whose", "slice", "seconds", "over ours", "peak, MiB"), found))
    found = errors(claims, 64, classes)
    heads = ("gradient error", "float32", "bfloat16", "the same, dense")
    print("\n" + table(heads, found), flush=True)
    conclude(claims)


if __name__ == "__main__":
    main()
