"""Every script in `examples/` runs as its first lines say, in a folder of the reader's own."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.warm import started

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
def test_an_example_runs_and_says_what_it_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "said.log"
    ended = started(as_a_script, EXAMPLES / f"{name}.py", log=log)
    ended.join(300)
    said = log.read_text()
    assert ended.exitcode == 0, said
    assert SAYS[name] in said, said


def as_a_script(path: Path) -> None:
    """What `python PATH` does, in a process that has imported what it needs."""
    sys.argv, sys.path[0] = [str(path)], str(path.parent)
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_how_to_run_it_and_fits_a_page(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert f"python examples/{name}.py" in text
    assert len(text.splitlines()) <= 125
