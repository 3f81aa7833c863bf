"""How long a finished run takes to be judged and rendered again from its stored answers.

`preceptor distill digits` is run once; then `preceptor evaluate` of its folder, which runs no
model: every statistic is taken again. Held against 2 s is the whole command as a fresh process: by
the processor, which waits for nobody, and by the wall, which also counts what a neighbour does.
Beside it stand the work alone, in a process that has read its libraries, and the command where
every picture must be drawn anew (`pictures.json` removed), as after a change of the drawing.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from paired import at_most, conclude, median_interval, table, timed

from preceptor.evaluate.album import PICTURES
from preceptor.verbs.evaluate import evaluate

BOUND = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a run of few steps, five rounds")
    parser.add_argument("--run", type=Path, help="a finished run to take instead of a new one")
    said = parser.parse_args()
    rounds = 5 if said.quick else 15
    program = str(Path(sys.executable).with_name("preceptor"))
    with tempfile.TemporaryDirectory() as folder:
        run = said.run or _finished(program, Path(folder) / "digits", quick=said.quick)
        command = [program, "evaluate", str(run)]
        evaluate(run)
        work = [timed(lambda: evaluate(run)) for _ in range(rounds)]
        _process(command)
        whole = [_process(command) for _ in range(rounds)]
        anew = [_drawn_anew(command, run) for _ in range(rounds)]
    rows, found = [], {}
    for what, seconds in (
        ("the work, libraries read", work),
        ("the whole command", whole),
        ("the whole command, every picture drawn", anew),
    ):
        for clock, name in enumerate(("processor", "wall")):
            found[what, name] = median_interval([each[clock] for each in seconds])
            bound = BOUND if what == "the whole command" else ""
            rows.append((f"{what}, {name}", found[what, name], bound))
    print(table(("what", "seconds", "bound"), rows))
    conclude(
        [
            at_most(
                f"a finished run judged and rendered again by one command, seconds by the {clock}",
                found["the whole command", clock],
                BOUND,
            )
            for clock in ("processor", "wall")
        ]
    )


def _finished(program: str, run: Path, *, quick: bool) -> Path:
    less = ["--set", "stages.0.plan.steps=20", "--set", "teacher.train.steps=20"]
    command = [program, "distill", "digits", "--out", str(run), *(less if quick else [])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


def _process(command: list[str]) -> tuple[float, float]:
    """Seconds of a fresh process, by the processor and by the wall."""
    spent, begins = _of_children(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _of_children() - spent, time.perf_counter() - begins


def _drawn_anew(command: list[str], run: Path) -> tuple[float, float]:
    (run / PICTURES).unlink()
    return _process(command)


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
