"""Images per second of our loop and of torchdistill 1.1.5: same models, images and threads.

The script makes an environment of its own from the package index (torchdistill brings a full
torch and torchvision, about 5 GB), adds this package to it, and runs both in one process there.
The claim is the paired ratio of images per second, ours over theirs, by processor time with one
thread: its 95 % interval reaches 1.0 and its lower end is at least 0.97. FitNets is the one-stage
variant, a hint beside cross-entropy. torchdistill has no DKD: ours is printed alone.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from paired import Interval, Rounds

    from preceptor.objectives.base import Objective
    from preceptor.train.fit import Losses

PEER = "torchdistill==1.1.5"
OURS = ("accelerate", "annotated-types", "einops", "jaxtyping", "safetensors")
METHODS = ("kd", "fitnets_onestage", "attention_transfer", "logit_standardization", "dkd")
MISSING = ("dkd",)
LOWEST = 0.97


def environment(folder: Path) -> Path:
    """The interpreter of an environment that holds the peer and us; made where it is not there."""
    python = folder / "bin" / "python"
    repository = Path(__file__).resolve().parents[1]
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if not (folder / "whole").exists():
        print(f"making {folder}; the peer brings about 5 GB", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([*pip, PEER, *OURS], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(repository)], check=True)
    (folder / "whole").touch()
    return python


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "preceptor-bench" / "torchdistill"


def objective(method: str) -> "Objective":
    """Ours, with the weights that the peer is given."""
    from preceptor.objectives.attention_transfer import AttentionTransfer
    from preceptor.objectives.ce import CE
    from preceptor.objectives.dkd import DKD
    from preceptor.objectives.fitnets_onestage import FitNetsOneStage
    from preceptor.objectives.kd import KD
    from preceptor.objectives.logit_standardization import LogitStandardization

    stages = tuple((stage, stage) for stage in ("stage1", "stage2", "stage3"))
    return {
        "kd": 0.1 * CE() + 0.9 * KD(temperature=4.0),
        "fitnets_onestage": CE() + 100.0 * FitNetsOneStage(layers=(stages[1],)),
        "attention_transfer": CE() + 1000.0 * AttentionTransfer(layers=stages),
        "logit_standardization": 0.1 * CE() + 9.0 * LogitStandardization(temperature=2.0),
        "dkd": CE() + DKD(),
    }[method]


def our_steps(method: str, batch: int) -> "Iterator[Losses]":
    """The steps of `fit`, past the first ones, which also measure shares."""
    from settings import CIFAR

    from preceptor.teachers.live import Live
    from preceptor.train.fit import fit
    from preceptor.train.plan import OptimizerPlan, Plan

    teacher, student = CIFAR.pair()
    optimizer = OptimizerPlan(name="sgd", lr=0.01, momentum=0.9)
    plan = Plan(steps=1_000_000, batch=batch, optimizer=optimizer)
    source = CIFAR.source(CIFAR.images(), batch=batch)
    steps = fit(student, Live(teacher), objective(method), source, plan)
    for _ in range(6):
        next(steps)
    return steps


def their_steps(method: str, batch: int) -> Iterator[float]:
    """The peer's."""
    from settings import CIFAR
    from torchdistill_side import steps

    return steps(CIFAR, CIFAR.images(), method, batch)


def compare(batch: int, rounds: int, peer: bool) -> NoReturn:
    """Runs both, prints the table and the claims, and exits."""
    import torch
    from paired import Claim, conclude, paired, table, timed

    torch.set_num_threads(1)
    claims: list[Claim] = []
    rows: list[tuple[object, ...]] = []
    for method in METHODS:
        ours = one_of(our_steps(method, batch))
        if not peer or method in MISSING:
            seconds = sorted(timed(ours)[0] for _ in range(rounds))[rounds // 2]
            rows.append((method, f"{batch / seconds:.1f}", "-", "-", "-"))
            continue
        found = paired(ours, one_of(their_steps(method, batch)), rounds=rounds)
        ratio = speed(found)
        words = f"images per second, ours over {PEER}, {method}, batch {batch}, CPU time"
        holds = ratio.high >= 1.0 and ratio.low >= LOWEST
        claims.append(Claim(words, *ratio, bound=LOWEST, holds=holds))
        each = (f"{batch / seconds:.1f}" for seconds in found.medians("cpu"))
        rows.append((method, *each, ratio, speed(found, "wall")))
    heads = ("method", "ours, images/s", "torchdistill, images/s", "ratio, CPU time", "by the wall")
    print(table(heads, rows))
    print("-: torchdistill has no such method" if peer else "-: torchdistill could not be run here")
    conclude(claims)


def one_of(steps: Iterator[object]) -> Callable[[], object]:
    """A callable that takes the next step."""
    return lambda: next(steps)


def speed(found: "Rounds", clock: str = "cpu") -> "Interval":
    """Ours over theirs in images per second: their time over ours."""
    from paired import median_interval

    seconds = found.cpu if clock == "cpu" else found.wall
    return median_interval(seconds[:, 1] / seconds[:, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under a minute beyond set-up: batches of 16"
    )
    parser.add_argument(
        "--env", type=Path, default=default_folder(), help="where the environment is kept"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    said = parser.parse_args()
    batch, rounds = (16, 10) if said.quick else (64, 40)
    if said.inside:
        compare(batch, rounds, peer=True)
    try:
        python = environment(said.env)
        subprocess.run([python, "-c", "import torchdistill, preceptor"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{PEER} could not be installed or imported here ({error}); ours alone:")
        compare(batch, rounds, peer=False)
    again = [str(python), __file__, "--inside", *(["--quick"] if said.quick else [])]
    sys.exit(subprocess.run(again, check=False).returncode)


if __name__ == "__main__":
    main()
