"""How long a finished run takes to be judged and rendered again from its stored answers.

`preceptor distill digits` is run once; then `preceptor evaluate` of its folder, which runs no
model: every statistic is taken again, every picture drawn again. The bound is on this work by the
wall; beside it stands the whole command, most of which is Python reading its libraries.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from paired import at_most, conclude, median_interval, table, timed

from preceptor.verbs.evaluate import evaluate

BOUND = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a run of few steps, five rounds")
    quick = parser.parse_args().quick
    program = str(Path(sys.executable).with_name("preceptor"))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "digits"
        less = ["--set", "stages.0.plan.steps=20", "--set", "teacher.train.steps=20"]
        command = [program, "distill", "digits", "--out", str(run), *(less if quick else [])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        evaluate(run)
        rounds = [timed(lambda: evaluate(run)) for _ in range(5 if quick else 15)]
        whole = []
        for _ in range(3):
            begins = time.perf_counter()
            subprocess.run([program, "evaluate", str(run)], check=True, stdout=subprocess.DEVNULL)
            whole.append(time.perf_counter() - begins)
    cpu, wall = ([each[clock] for each in rounds] for clock in (0, 1))
    found = median_interval(wall)
    rows = [
        ("judged and rendered, wall", found, BOUND),
        ("judged and rendered, processor", median_interval(cpu), ""),
        ("the whole command, wall", median_interval(whole), ""),
    ]
    print(table(("what", "seconds", "bound"), rows))
    conclude([at_most("a finished run judged and rendered again, seconds", found, BOUND)])


if __name__ == "__main__":
    main()
