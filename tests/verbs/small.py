"""Recipes that run in a second, and what lies in a run's folder."""

import copy
import json
from pathlib import Path
from typing import Any

from preceptor.evaluate.report import Report
from preceptor.recipe.load import recipe_of
from preceptor.recipe.text import to_yaml
from preceptor.verbs.check import require_fit
from preceptor.verbs.distill import judged
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.folders import open_run
from preceptor.verbs.progress import Progress

MLP = {"zoo": "mlp", "arguments": {"widths": [24]}}
CNN = {"zoo": "cnn-small"}
ADAM = {"name": "adamw", "lr": 0.01}
LIVE = {"model": MLP, "train": {"steps": 16, "batch": 16, "optimizer": ADAM}}
DEEP = {"model": CNN, "train": {"steps": 20, "batch": 16, "optimizer": ADAM}}
PLAN = {"steps": 4, "batch": 12, "optimizer": {"name": "sgd", "lr": 0.1}}
KD = [{"ce": {}, "weight": 0.1}, {"kd": {"temperature": 4}, "weight": 0.9}]
FEW = {"source": "toy", "labelled": 30, "unlabelled": "rest"}


def stage(objective: Any = KD, **plan: Any) -> dict[str, Any]:
    """One stage of a few steps."""
    return {"objective": objective, "plan": {**PLAN, **plan}}


def small(**sections: Any) -> dict[str, Any]:
    """A recipe as plain data, with some of its sections replaced."""
    whole = {
        "seed": {"count": 1},
        "data": FEW,
        "teacher": LIVE,
        "student": {"model": MLP},
        "stages": [stage()],
        "control": {"arms": ["control"]},
        "checkpoint": {"every": 3},
    }
    return copy.deepcopy({**whole, **sections})


def ran(data: dict[str, Any], folder: Path) -> Report:
    """Distil without drawing the report's page; what it came to."""
    recipe = recipe_of(data)
    require_fit(recipe)
    open_run(recipe, folder)
    with Progress(recipe, folder, show=False) as progress:
        return judged(Experiment(recipe, folder, progress.watch), progress)[0]


def written(data: dict[str, Any], path: Path) -> Path:
    """The recipe as a file."""
    path.write_text(to_yaml(data))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """What must not depend on how often a run was stopped: weights, answers, losses."""
    kinds = ("model.safetensors", "predictions.safetensors", "metrics.jsonl")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name in kinds
    }


def _timed(value: Any) -> bool:
    return "second" in value.get("unit", "") or value.get("why") == "it was not timed"


def timeless(folder: Path) -> Any:
    """A run's report.json without what a clock said."""
    report = json.loads((folder / "report.json").read_text())
    for key in ("phases", "verdict"):
        del report[key]
    for name in ("latency", "throughput"):
        report["ratios"].pop(name, None)
    for arm in report["arms"]:
        timed = [name for name, value in arm["measures"].items() if _timed(value)]
        for measure in timed:
            del arm["measures"][measure]
    return report
