"""Tokens per second of our loop and of TRL 1.16.0's GKD trainer: same models, rows and threads.

The script makes an environment of its own from the package index (TRL brings a full torch, about
6 GB), adds this package to it, and runs both in one process there. A step is everything from
the batch to the moved weights: the student's forward and backward pass, the teacher's forward
pass, generalised JSD with beta = 0.5, clipping, AdamW; where responses are written, their
generation too. The claims are paired ratios of tokens per second, ours over theirs, by processor
time with one thread, at least 1.5. TRL is given its fastest form, without gradient checkpointing;
its own default, which recomputes activations and generates without a cache, is printed beside.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from language_setting import Language
    from paired import Interval, Rounds

    from preceptor.train.fit import Losses

PEER = "trl==1.16.0"
OURS = ("accelerate", "annotated-types", "einops", "jaxtyping", "safetensors", "scipy")
BOUND = 1.5


def environment(folder: Path) -> Path:
    """The interpreter of an environment that holds the peer and us; made where it is not there."""
    python = folder / "bin" / "python"
    repository = Path(__file__).resolve().parents[1]
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if not (folder / "whole").exists():
        print(f"making {folder}; the peer brings about 6 GB", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([*pip, PEER, *OURS], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(repository)], check=True)
    (folder / "whole").touch()
    return python


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "preceptor-bench" / "trl"


def our_steps(setting: "Language", share: float) -> "Iterator[Losses]":
    """The steps of `fit`, past the first ones, which also measure shares."""
    from preceptor.models.sampling import Sampling
    from preceptor.objectives.gkd import GKD
    from preceptor.synthesis.rollouts import Rollouts
    from preceptor.synthesis.writers import Local
    from preceptor.teachers.live import Live
    from preceptor.train.fit import fit
    from preceptor.train.plan import OptimizerPlan, Plan

    teacher, student = setting.pair()
    writer = Local(student, Sampling(setting.new), ends=())
    source = Rollouts(setting.source(), writer, share=share)
    optimizer = OptimizerPlan(name="adamw", lr=1e-4)
    plan = Plan(steps=1_000_000, batch=setting.batch, optimizer=optimizer, clip=1.0)
    return fit(student, Live(teacher), GKD(beta=0.5), source, plan)


def their_steps(setting: "Language", share: float, recompute: bool) -> Iterator[float]:
    """The peer's."""
    from trl_side import steps

    return steps(setting, share, recompute=recompute)


def compare(setting: "Language", rounds: int, peer: bool) -> NoReturn:
    """Runs both, prints the table and the claims, and exits."""
    import torch
    from paired import Claim, conclude, paired, table, timed

    torch.set_num_threads(1)
    tokens = setting.batch * setting.new
    claims: list[Claim] = []
    rows: list[tuple[object, ...]] = []
    cases = [
        ("off-policy KD", 0.0, False, BOUND),
        ("GKD, all on-policy", 1.0, False, BOUND),
        ("off-policy KD, TRL's default", 0.0, True, None),
        ("GKD, TRL's default", 1.0, True, None),
    ]
    for name, share, recompute, bound in cases:
        ours = one_of(our_steps(setting, share))
        if not peer:
            seconds = sorted(timed(ours)[0] for _ in range(rounds))[rounds // 2]
            rows.append((name, f"{tokens / seconds:.0f}", "-", "-", "-"))
            continue
        few = rounds if bound else max(3, rounds // 3)
        found = paired(ours, one_of(their_steps(setting, share, recompute)), rounds=few)
        ratio = speed(found)
        words = f"tokens per second, ours over {PEER}, {name}, CPU time"
        holds = None if bound is None else ratio.value >= bound
        claims.append(Claim(words, *ratio, bound=bound, holds=holds))
        each = (f"{tokens / seconds:.0f}" for seconds in found.medians("cpu"))
        rows.append((name, *each, ratio, speed(found, "wall")))
    print(
        table(("step", "ours, tokens/s", "TRL, tokens/s", "ratio, CPU time", "by the wall"), rows)
    )
    if not peer:
        print("-: TRL could not be run here")
    conclude(claims)


def one_of(steps: Iterator[object]) -> Callable[[], object]:
    """A callable that takes the next step."""
    return lambda: next(steps)


def speed(found: "Rounds", clock: str = "cpu") -> "Interval":
    """Ours over theirs in tokens per second: their time over ours."""
    from paired import median_interval

    seconds = found.cpu if clock == "cpu" else found.wall
    return median_interval(seconds[:, 1] / seconds[:, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under a minute beyond set-up: small models, few rows"
    )
    parser.add_argument(
        "--env", type=Path, default=default_folder(), help="where the environment is kept"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if not said.inside:
        sys.exit(outside(said.env, said.quick))
    from language_setting import Language

    if said.quick:
        compare(Language(8192, 128, 128, 2, 16, 32, 4), rounds=5, peer=True)
    compare(Language(), rounds=15, peer=True)


def outside(folder: Path, quick: bool) -> int:
    """Runs this script in the environment; alone where there is none."""
    try:
        python = environment(folder)
        subprocess.run([python, "-c", "import trl, preceptor"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{PEER} could not be installed or imported here ({error}); ours alone:")
        from language_setting import Language

        compare(Language(8192, 128, 128, 2, 16, 32, 4) if quick else Language(), 5, peer=False)
    again = [str(python), __file__, "--inside", *(["--quick"] if quick else [])]
    return subprocess.run(again, check=False).returncode


if __name__ == "__main__":
    main()
