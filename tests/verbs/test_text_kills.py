"""A run of text that is killed while it writes a cache, mixes it with its own text, or reports."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.verbs.child import finished, killed
from tests.verbs.small import contents, timeless, written
from tests.verbs.text import ADAM, sums, written_recipe

STAGE = {
    "objective": [{"ce": {}, "weight": 0.2}, {"gkd": {}}],
    "rollouts": {"gkd": {"share": 0.5, "most": 4}},
    "plan": {"steps": 8, "batch": 8, "optimizer": ADAM},
}


def begun(folder: Path) -> list[str]:
    """The command, its recipe and its rows; what is written lies beside them."""
    live = written_recipe(Path("none"))["teacher"]
    teacher = {"cached": {"teacher": live, "folder": "tokens", "keep": {"top_k": 6}}}
    recipe = written_recipe(Path("sums.jsonl"), teacher=teacher, stages=[STAGE])
    recipe["checkpoint"] = {"every": 2}
    sums(folder / "sums.jsonl")
    return ["distill", str(written(recipe, folder / "recipe.yaml")), "--out", "run"]


def test_killed_at_any_moment_cache_students_and_report_are_those_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Path] = []
    for name in ("whole", "cut"):
        here, log = tmp_path / name, tmp_path / f"{name}.log"
        here.mkdir()
        monkeypatch.chdir(here)
        command = begun(here)
        if name == "cut":
            hit = [killed(command, log, moment, random.Random()) for moment in _moments(here)]
            assert sum(hit) >= len(hit) - 2, hit
        code, said = finished(command, log)
        assert code == 0, said
        ends.append(here)
    whole, cut = ends
    assert contents(cut / "run") == contents(whole / "run")
    assert timeless(cut / "run") == timeless(whole / "run")
    assert _files(cut / "tokens") == _files(whole / "tokens")
    assert not [path for path in cut.rglob(".*") if path.name.startswith((".tmp", ".writing"))]


def _moments(here: Path) -> list[Callable[[], bool]]:
    def there(pattern: str) -> Callable[[], bool]:
        return lambda: next(here.glob(pattern), None) is not None

    return [
        there("run/teachers/*/stage-0/checkpoints/step-*"),
        there("tokens/.tmp-*"),
        there("tokens/manifest.json"),
        there("run/arms/distilled/seed-0/stage-0/checkpoints/step-*6"),
        there("run/arms/distilled/seed-0/done.json"),
        there("run/arms/control/seed-0/stage-0/checkpoints/.tmp-*"),
    ]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
