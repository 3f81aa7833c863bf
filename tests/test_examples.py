"""Every script in `examples/` runs as its first lines say, in a folder of the reader's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

SAYS = {
    "cached_teacher": "the same student",
    "distill_in_python": "The teacher helped.",
    "language_model": "the student sorts",
    "on_policy_loop": "after learning from what it wrote itself",
    "own_loop": "and its feature map",
    "own_method": "JensenShannon keeps the contract",
}
"""A line that each prints when it has done what it shows."""


def test_every_example_is_tried_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_says_what_it_shows(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout, done.stdout


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_how_to_run_it_and_fits_a_page(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert f"python examples/{name}.py" in text
    assert len(text.splitlines()) <= 125
