"""The whole job on two processes: one run folder, and the numbers of one process."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from preceptor.evaluate.report import Report
from preceptor.recipe.text import to_yaml
from tests.verbs.ranks import in_two_processes
from tests.verbs.small import LIVE, MLP, contents, ran, small, stage


def test_two_processes_write_one_run_with_the_numbers_of_one(tmp_path: Path) -> None:
    objective = [{"ce": {}, "weight": 0.5}, {"kd": {}, "weight": "auto"}, {"rkd": {}}]

    def recipe(name: str) -> dict[str, Any]:
        cached = {"cached": {"teacher": LIVE, "folder": str(tmp_path / f"cache-{name}")}}
        stages = [stage(objective), {**stage(), "teacher": cached}]
        return small(seed={"count": 2}, student={"model": MLP}, stages=stages)

    ran(recipe("one"), tmp_path / "one")
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe("two")))
    printed = in_two_processes("distill", "recipe.yaml", "--out", "two", cwd=tmp_path)
    assert printed.count("The report is") == 1
    report = Report.from_json((tmp_path / "two/report.json").read_text())
    assert {arm.name for arm in report.arms} == {"teacher", "distilled", "control"}
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    two.pop("metrics.jsonl")
    assert one.keys() == two.keys()
    for name in one:
        if name.endswith("jsonl"):
            for a, b in zip(one[name].splitlines(), two[name].splitlines(), strict=True):
                assert json.loads(b)["loss"] == pytest.approx(json.loads(a)["loss"], abs=1e-4)
            continue
        first, second = load_file(tmp_path / "one" / name), load_file(tmp_path / "two" / name)
        for key, tensor in first.items():
            assert float((second[key] - tensor).abs().max()) < 1e-4, (name, key)
