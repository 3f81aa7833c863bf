"""A recipe with one thing wrong at a time: one sentence, the right exit code, no traceback."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from preceptor.cli import app
from preceptor.recipe.overrides import overridden
from preceptor.recipe.text import to_yaml
from tests.verbs.small import CNN, KD, LIVE, MLP, ran, small, stage

run = CliRunner().invoke
PAST = {"past_predictions": {"momentum": 0.6}}
OBJECTIVE = "stages.0.objective"

# What is set in the recipe, and what the sentence must hold: where, what was seen, what to do.
WRONG: dict[str, tuple[str, tuple[str, ...]]] = {
    "a key of the recipe": ("dta={source: toy}", ("dta: unknown key", "nearest: data")),
    "a key of seed": ("seed={cuont: 2}", ("seed.cuont: unknown key", "nearest: count")),
    "a key of data": ("data.labeled=30", ("data.labeled", "nearest: labelled")),
    "a key of augment": ("data.augment={corp: 4}", ("data.augment.corp", "nearest: crop")),
    "a key of the teacher": ("teacher.trian={}", ("teacher.trian", "nearest: train")),
    "a key of a model": ("student.model.aruments={}", ("student.model.aruments", "arguments")),
    "a key of a stage": ("stages.0.objectve=[]", ("stages.0.objectve", "nearest: objective")),
    "a key of a plan": ("stages.0.plan.step=3", ("stages.0.plan.step", "nearest: steps")),
    "a key of an optimizer": (
        "stages.0.plan.optimizer.weight_decy=0.1",
        ("stages.0.plan.optimizer.weight_decy", "nearest: weight_decay"),
    ),
    "a key of a teacher's plan": ("teacher.train.bacth=3", ("teacher.train.bacth", "batch")),
    "a key of control": ("control.smothing=0.1", ("control.smothing", "nearest: smoothing")),
    "a key of checkpoint": ("checkpoint.evry=4", ("checkpoint.evry", "nearest: every")),
    "a field of a method": (
        f"{OBJECTIVE}.1.kd.temprature=3",
        (f"{OBJECTIVE}.1.kd.temprature", "nearest: temperature"),
    ),
    "a key of a ramp": (f"{OBJECTIVE}.1.weight={{form: 0}}", ("weight.form", "nearest: from")),
    "text for a number": ("seed.count=many", ("seed.count: 'many'", "whole number")),
    "a fraction for a count": ("seed.count=1.5", ("seed.count: 1.5", "whole number")),
    "a truth for a count": ("stages.0.plan.steps=true", ("stages.0.plan.steps", "whole number")),
    "a number for a list": ("control.arms=3", ("control.arms", "must be a list")),
    "a text for a section": ("data=toy", ("data", "must be a mapping")),
    "no seed": ("seed.count=0", ("seed.count: 0", "must be >= 1")),
    "a negative rate": ("stages.0.plan.optimizer.lr=-1", ("optimizer.lr", "must be > 0")),
    "a share above 1": ("data.validation=1.5", ("data.validation: 1.5", "must be < 1")),
    "a negative temperature": (f"{OBJECTIVE}.1.kd.temperature=-4", ("kd.temperature", "> 0")),
    "a negative weight": (f"{OBJECTIVE}.0.weight=-1", (f"{OBJECTIVE}.0.weight", ">= 0")),
    "a decay of 1": ("teacher={ema: {decay: 1.0}}", ("teacher.ema.decay", "must be < 1")),
    "steps and epochs": ("stages.0.plan.epochs=2", ("steps=4 and epochs=2", "exactly one")),
    "no stage": ("stages=[]", ("stages", "at least 1")),
    "no method": (f"{OBJECTIVE}=[]", (OBJECTIVE, "list of methods")),
    "two methods in one entry": (
        f"{OBJECTIVE}.0={{ce: {{}}, kd: {{}}}}",
        ("ce and kd", "one method"),
    ),
    "an unknown method": (f"{OBJECTIVE}.0={{kdd: {{}}}}", ("kdd", "unknown method", "kd")),
    "a method's module that is not there": (
        f"{OBJECTIVE}.0={{'nowhere.at_all:Mine': {{}}}}",
        ("nowhere.at_all", "cannot be imported"),
    ),
    "a method's class that is not there": (
        f"{OBJECTIVE}.0={{'preceptor.objectives.kd:KDD': {{}}}}",
        ("no 'KDD'", "nearest: KD"),
    ),
    "a class that is no method": (
        f"{OBJECTIVE}.0={{'pathlib:Path': {{}}}}",
        ("Path is not a frozen dataclass", "docs/"),
    ),
    "an unknown tracker": ("trackers=[tensorbord]", ("trackers.0", "nearest: tensorboard")),
    "an unknown arm": ("control.arms=[contrl]", ("control.arms.0", "nearest: control")),
    "an unknown schedule": ("stages.0.plan.schedule=cosin", ("schedule", "nearest: cosine")),
    "an unknown optimizer": ("stages.0.plan.optimizer.name=adm", ("optimizer.name", "adam")),
    "two kinds of model": ("student.model.timm=x", ("zoo and timm", "exactly one")),
    "no kind of teacher": ("teacher={modle: {}}", ("teacher", "nearest: model")),
    "a teacher that knows nothing": ("teacher={model: {zoo: mlp}}", ("random", "train:")),
    "weights that do not add up": (
        "teacher={ensemble: {members: [{ema: {}}, {ema: {}}], weights: [1, 1]}}",
        ("teacher.ensemble.weights", "add up to 2"),
    ),
    "unlabelled beside every label": ("data={source: toy, unlabelled: rest}", ("labelled",)),
    "a tune of one rate": ("tune={lr: [0.1]}", ("tune.lr", "at least 2")),
    "a name with a slash": ("name=a/b", ("name: 'a/b'",)),
    "the name of a run's parent": ("name=..", ("name: '..'",)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_in_a_recipe_is_named_with_its_place(what: str, tmp_path: Path) -> None:
    setting, words = WRONG[what]
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(overridden(small(), [setting])))
    answer = run(app, ["check", str(file)])
    assert answer.exit_code == 2, answer.output
    assert "Traceback" not in answer.output
    for word in words:
        assert word in answer.stderr


def refused(recipe: dict[str, Any], folder: Path, code: int = 2, verb: str = "distill") -> str:
    """What the command says of a recipe that it does not finish."""
    file = folder / "recipe.yaml"
    file.write_text(to_yaml(recipe))
    out = [] if verb == "check" else ["--out", str(folder / "run")]
    answer = run(app, [verb, str(file), *out])
    assert answer.exit_code == code, answer.output
    assert "Traceback" not in answer.output
    assert "unforeseen" not in answer.output
    return answer.stderr


CANNOT: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a hint from a cache": (
        {"teacher": {"cached": {"teacher": LIVE, "folder": "cache"}}, "objective": "fitnets"},
        ("stages.0.objective: fitnets", "cached", "layers"),
    ),
    "a compared batch in parts": (
        {"objective": "rkd", "accumulate": 2},
        ("stages.0.objective: rkd", "accumulate: 2", "Set accumulate to 1"),
    ),
    "nobody to imitate": ({"teacher": {"nobody": {}}}, ("kd", "nobody", "no distribution")),
    "an average at another temperature": ({"teacher": PAST}, ("kd", "temperature 4", "1 alone")),
    "an average among others": (
        {"teacher": {"ensemble": {"members": [LIVE, PAST]}}},
        ("kd", "ensemble", "temperature 4"),
    ),
    "logits of an average of probabilities": (
        {"teacher": {"ensemble": {"members": [LIVE, LIVE]}}, "objective": "logit_regression"},
        ("logit_regression", "reads logits", "probabilities"),
    ),
    "a mean of logits that a member has not": (
        {"teacher": {"ensemble": {"members": [LIVE, PAST], "combine": "logits"}}},
        ("member 1", "past_predictions", "combine"),
    ),
    "a cache of probabilities": (
        {
            "teacher": {
                "cached": {"teacher": {"ensemble": {"members": [LIVE, LIVE]}}, "folder": "c"}
            }
        },
        ("cache", "logits", "combine: logits"),
    ),
    "a cache of endless views": (
        {
            "teacher": {"cached": {"teacher": LIVE, "folder": "c"}},
            "data": {"source": "toy", "augment": {}},
        },
        ("data.augment.views: 0", "Set data.augment.views"),
    ),
    "a cache of what moves": (
        {"teacher": {"cached": {"teacher": {"ema": {}}, "folder": "c"}}},
        ("teacher.cached.teacher", "stands still"),
    ),
    "features of several": (
        {"teacher": {"ensemble": {"members": [LIVE, LIVE]}}, "objective": "attention_transfer"},
        ("attention_transfer", "layers"),
    ),
    "a classifier of peers": (
        {"teacher": {"peers": {"others": [MLP]}}, "objective": "simkd"},
        ("simkd", "peers"),
    ),
    "modules kept for nobody": (
        {"keep_auxiliary": True},
        ("keep_auxiliary", "no stage comes after"),
    ),
    "peers in one stage": (
        {"stage_teacher": {"peers": {"others": [MLP]}}},
        ("stages.0.teacher", "cohort"),
    ),
}


@pytest.mark.parametrize("what", CANNOT)
@pytest.mark.parametrize("verb", ["check", "distill"])
def test_what_a_teacher_cannot_give_is_refused_before_training(
    what: str, verb: str, tmp_path: Path
) -> None:
    said, words = CANNOT[what]
    said = dict(said)
    objective = [{said.pop("objective"): {}}] if "objective" in said else KD
    own = {"teacher": said.pop("stage_teacher")} if "stage_teacher" in said else {}
    plan = {key: said.pop(key) for key in ("accumulate", "keep_auxiliary") if key in said}
    recipe = small(**said, stages=[{**stage(objective, **plan), **own}])
    message = refused(recipe, tmp_path, verb=verb)
    for word in words:
        assert word in message
    assert not (tmp_path / "run").exists()


def pictures(folder: Path, sizes: tuple[tuple[int, int], ...] = ((8, 8),), each: int = 12) -> Path:
    """Two classes of images, one dark and one light."""
    generator = np.random.default_rng(0)
    for name, level in (("dark", 20), ("light", 180)):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            pixels = generator.integers(0, 60, (*sizes[index % len(sizes)], 3)) + level
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def array(folder: Path, **changed: Any) -> Path:
    """An .npz file of 40 gray images in two classes."""
    generator = np.random.default_rng(0)
    held = {
        "images": generator.random((40, 8, 8, 1), dtype=np.float32),
        "labels": np.arange(40) % 2,
        **changed,
    }
    np.savez(folder / "data.npz", **held)
    return folder / "data.npz"


def data_cases(here: Path) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """What is wrong with the data, and words of the answer."""
    nan = np.random.default_rng(0).random((40, 8, 8, 1), dtype=np.float32)
    nan[7, 3, 3] = np.nan
    corrupt = pictures(here / "corrupt")
    (corrupt / "dark" / "3.png").write_bytes((corrupt / "dark" / "3.png").read_bytes()[:60])
    hollow = pictures(here / "hollow")
    (hollow / "neither").mkdir()
    mixed = pictures(here / "mixed", ((8, 8), (12, 9)))
    (here / "words.csv").write_text("a,b\n")
    (here / "empty").mkdir()
    negative = array(here, labels=np.where(np.arange(40) < 5, -7, 1)).rename(here / "negative.npz")
    broken = array(here, images=nan).rename(here / "nan.npz")
    short = array(here, labels=np.zeros(39, int)).rename(here / "short.npz")
    return {
        "a missing folder": ({"source": str(here / "nowhere")}, ("nowhere", "no such file")),
        "a missing file": ({"source": str(here / "no.npz")}, ("no.npz", "no such file")),
        "a missing parquet": ({"source": str(here / "no.parquet")}, ("no.parquet", "no such")),
        "a kind of file": ({"source": str(here / "words.csv")}, ("words.csv", "parquet")),
        "an empty folder": ({"source": str(here / "empty")}, ("empty",)),
        "an empty class": ({"source": str(hollow)}, ("neither",)),
        "a corrupt image": ({"source": str(corrupt)}, ("3.png",)),
        "images of two sizes": ({"source": str(mixed)}, ("size",)),
        "a NaN": ({"source": str(broken)}, ("NaN", "7")),
        "labels out of range": ({"source": str(negative)}, ("-7",)),
        "fewer labels than images": ({"source": str(short)}, ("39", "40")),
        "more labels than images": ({"source": "toy", "labelled": 5000}, ("5000",)),
        "too many unlabelled": (
            {"source": "toy", "labelled": 30, "unlabelled": 5000},
            ("data.unlabelled: 5000", "133"),
        ),
        "a class that is not there": ({"source": "toy", "omit": [9]}, ("9", "0 to 2")),
        "every class omitted": ({"source": "toy", "omit": [0, 1, 2]}, ("omit",)),
        "names of other classes": (
            {"source": str(pictures(here / "fine")), "class_names": ["dark", "lihgt"]},
            ("lihgt", "light"),
        ),
        "a test source that is missing": (
            {"source": {"train": "toy", "test": str(here / "gone")}},
            ("gone",),
        ),
    }


def test_data_that_cannot_be_meant_is_refused_in_words(tmp_path: Path) -> None:
    for index, (what, (data, words)) in enumerate(data_cases(tmp_path).items()):
        folder = tmp_path / str(index)
        folder.mkdir()
        message = refused(small(data=data), folder)
        for word in words:
            assert word in message, (what, message)
        assert not (folder / "run" / "teachers").exists(), what


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a teacher of three classes that knows them."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    taught = {**LIVE, "train": {**LIVE["train"], "steps": 40}}
    ran(small(teacher=taught, control={"arms": []}), folder)
    return folder / "teachers/teacher/student"


def test_models_that_do_not_fit_are_refused_in_words(earlier: Path, tmp_path: Path) -> None:
    saved = {"load": str(earlier), "model": MLP}
    cases: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "an unknown model": ({"student": {"model": {"zoo": "resnet21"}}}, ("resnet20",)),
        "an argument": (
            {"student": {"model": {"zoo": "mlp", "arguments": {"width": 3}}}},
            ("width", "widths"),
        ),
        "another number of classes": ({"student": {"model": {**MLP, "classes": 7}}}, ("7", "3")),
        "other channels": ({"student": {"model": {**CNN, "channels": 3}}}, ("channels",)),
        "another size": ({"student": {"model": {**MLP, "size": 9}}}, ("size",)),
        "a module that is not there": (
            {"student": {"model": {"factory": "nowhere_at_all:net"}}},
            ("nowhere_at_all",),
        ),
        "a function that is not there": (
            {"student": {"model": {"factory": "tests.models.hand_made:smal_net"}}},
            ("smal_net", "small_net"),
        ),
        "a folder that is not there": (
            {"teacher": {"model": MLP, "load": str(tmp_path / "no")}},
            (str(tmp_path / "no"),),
        ),
        "a folder without a model": (
            {"student": {"model": {"folder": str(tmp_path)}}},
            ("preceptor.json",),
        ),
        "a saved model of another kind": (
            {"teacher": {**saved, "model": CNN}},
            ("zoo: mlp", "zoo: cnn-small"),
        ),
        "a saved model of other classes": (
            {"teacher": saved, "data": {"source": "digits", "limit": 60}},
            ("3 classes", "10"),
        ),
        "an unknown tap": (
            {"stages": [stage([{"fitnets": {"layers": [["stage9", "stage1"]]}}])]},
            ("stage9", "stage1"),
        ),
        "an unknown glob": ({"stages": [stage(trainable=["hed*"])]}, ("hed*", "head")),
    }
    for index, (what, (sections, words)) in enumerate(cases.items()):
        folder = tmp_path / str(index)
        folder.mkdir()
        message = refused(small(**sections), folder)
        for word in words:
            assert word in message, (what, message)
        assert not (folder / "run" / "teachers").exists(), what


def test_a_teacher_whose_classes_stand_in_another_order_is_found_out(
    earlier: Path, tmp_path: Path
) -> None:
    for file in earlier.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(earlier / "model.safetensors")
    order = torch.tensor([1, 2, 0])
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][order].contiguous()
    save_file(weights, tmp_path / "model.safetensors")
    message = refused(small(teacher={"model": MLP, "load": str(tmp_path)}), tmp_path, code=1)
    assert "on 100.0 % with its classes renamed (more by " in message
    assert "to 100.0 points): its '0 degrees' is the data's" in message
    assert "reorder its last layer" in message


def test_a_teacher_that_sees_pixels_made_for_another_is_found_out(
    earlier: Path, tmp_path: Path
) -> None:
    there = {"model": {"folder": str(earlier), "mean": [60.0], "std": [0.001]}}
    message = refused(small(teacher=there), tmp_path, code=1)
    assert "`mean` and `std`" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {source: toy\nseed: [", ("recipe.yaml, line",)),
        ("data: {source: toy}\ndata: {source: toy}", ("twice",)),
        ("seed: {count: .nan}", ("finite",)),
        ("", ("no mapping",)),
    ],
)
def test_a_text_that_is_no_recipe(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    answer = run(app, ["check", str(tmp_path / "recipe.yaml")])
    assert answer.exit_code == 2
    for word in words:
        assert word in answer.stderr


def test_places_where_no_run_can_lie(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(small()))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    for out, words in {"recipe.yaml": "it is a file", "full": "holds no run"}.items():
        answer = run(app, ["distill", str(recipe), "--out", str(tmp_path / out)])
        assert answer.exit_code == 2, answer.output
        assert words in answer.stderr
    for verb in ("evaluate", "report"):
        answer = run(app, [verb, str(tmp_path / "full")])
        assert answer.exit_code == 2, answer.output
        assert "no finished run" in answer.stderr


def test_in_a_shell_of_its_own_a_mistake_is_a_line_and_with_debug_a_traceback(
    tmp_path: Path,
) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(small(data={"source": "nowhere/at/all"})))
    command = [sys.executable, "-m", "preceptor", "distill", "recipe.yaml"]
    for more in ([], ["--debug"]):
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2
        assert ("Traceback" in done.stderr) == bool(more)
        assert "nowhere/at/all" in done.stderr.splitlines()[-1]
