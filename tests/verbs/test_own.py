"""One's own: a folder of pictures, a model, a method, a library's model; in ten lines each."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from typer.testing import CliRunner

from preceptor.cli import app
from preceptor.models.load import load_model
from preceptor.recipe.images import image_data
from preceptor.recipe.load import load_recipe, recipe_of
from preceptor.recipe.methods import method
from preceptor.testing import check_objective
from preceptor.verbs.distill import distill
from tests.verbs.small import CNN, LIVE, ran, small, stage

run = CliRunner().invoke

RECIPE = """\
data: {source: pictures, size: 16}
teacher:
  model: {zoo: cnn-large}
  train: {steps: 25, batch: 16, optimizer: {name: adamw, lr: 0.005}}
student: {model: {factory: "my_models:small_net", arguments: {width: 8}}}
stages:
  - objective:
      - {ce: {}, weight: 0.1}
      - {kd: {temperature: 4}, weight: 0.9}
    plan: {steps: 5, batch: 16}
control: {arms: [control]}
"""

MODELS = """
from torch import nn

def small_net(width: int):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * width, 3),
    )
"""

METHODS = '''
"""A. Body, N. Else. "The student's logits, through a learned map". Here 2026.
"""
from dataclasses import dataclass

import torch
from torch import nn

from preceptor.objectives.base import Objective
from preceptor.types import Needs, Term, at_least_float32


@dataclass(frozen=True)
class Mine(Objective):
    """A squared distance after a learned linear map.

    Args:
        scale: what it is multiplied with.
    """

    scale: float = 1.0

    def needs(self):
        return Needs(kinds=frozenset({"logits"}))

    def auxiliary(self, context):
        return nn.Linear(context.num_classes, context.num_classes)

    def terms(self, student, teacher, batch, aux):
        counts = batch.mask("all").unsqueeze(-1)
        own = torch.where(counts, at_least_float32(student.logits), 0.0)
        theirs = torch.where(counts, at_least_float32(teacher.logits.detach()), 0.0)
        values = (aux(own) - theirs).square().mean(dim=-1)
        return {self.name: Term(self.scale * values)}
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own, as the current directory; what is imported from it is forgotten."""
    (tmp_path / "my_models.py").write_text(MODELS)
    (tmp_path / "my_methods.py").write_text(METHODS)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in ("my_models", "my_methods"):
        sys.modules.pop(name, None)
    method.cache_clear()


def draw(folder: Path, names: tuple[str, ...] = ("discs", "bars", "<script>alert(1)<")) -> None:
    """Pictures of different sizes in a folder a class."""
    generator = np.random.default_rng(0)
    for kind, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(24):
            width, height = (int(side) for side in generator.integers(18, 40, 2))
            image = Image.new("RGB", (width, height), (20, 20, 40))
            shape = ImageDraw.Draw(image)
            if kind == 0:
                shape.ellipse((4, 4, width - 4, height - 4), fill=(230, 60, 60))
            elif kind == 1:
                shape.rectangle((0, height // 3, width, height // 2), fill=(60, 230, 60))
            image.save(folder / name / f"{index}.png")


def test_a_folder_of_pictures_and_a_model_of_one_s_own_in_ten_lines(here: Path) -> None:
    draw(here / "pictures")
    answer = run(app, ["distill", "recipe.yaml"])
    assert answer.exit_code == 0, answer.output
    place = here / "runs/recipe"
    assert {"report.html", "report.json", "metrics.jsonl", "recipe.yaml"} <= {
        path.name for path in place.iterdir()
    }
    kept = place / "arms/distilled/seed-0"
    student = load_model({"folder": str(kept / "student")})
    data = image_data(load_recipe("recipe.yaml").data)
    assert data.shape == (3, 16, 16)
    with torch.no_grad():
        logits = student(data.test.batch(torch.arange(len(data.test))).inputs).logits
    torch.testing.assert_close(logits, load_file(kept / "predictions.safetensors")["0.test"])
    page = (place / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    for verb in (["evaluate", "runs/recipe"], ["report", "runs/recipe"], ["check", "recipe.yaml"]):
        assert run(app, verb).exit_code == 0, verb
    listed = run(app, ["taps", "{factory: 'my_models:small_net', arguments: {width: 8}}"])
    assert listed.exit_code == 0, listed.output
    assert "Conv2d" in listed.output


def test_a_model_of_one_s_own_with_other_classes_is_refused(here: Path) -> None:
    draw(here / "pictures", ("discs", "bars"))
    answer = run(app, ["distill", "recipe.yaml"])
    assert answer.exit_code == 2
    assert "3 classes" in answer.stderr
    assert "the data has 2" in answer.stderr


def test_a_method_of_one_s_own_distils_and_keeps_what_methods_promise(here: Path) -> None:
    objective = [{"ce": {}}, {"my_methods:Mine": {"scale": 0.5}, "weight": 2.0}]
    recipe = small(stages=[stage(objective)], checkpoint={"every": 4})
    ran(recipe, here / "run")
    kept = here / "run/arms/distilled/seed-0"
    lines = [json.loads(x) for x in (kept / "stage-0/metrics.jsonl").read_text().splitlines()]
    assert any(name == "my_methods" for name in lines[0]["terms"])
    state = load_file(kept / "stage-0/checkpoints/step-00000004/tensors.safetensors")
    assert any(name.startswith("member.0.aux.") for name in state)
    assert not any("aux" in name for name in load_file(kept / "student/model.safetensors"))
    check_objective(method("my_methods:Mine")())


def test_a_transformers_model_from_its_configuration_learns_and_is_saved_as_one(
    here: Path,
) -> None:
    from transformers import AutoModelForImageClassification, ViTConfig

    ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_channels=1,
    ).save_pretrained("tiny-vit")
    student = {"transformers": "tiny-vit"}
    ran(small(student={"model": student}), here / "run")
    place = here / "run/arms/distilled/seed-0"
    again = AutoModelForImageClassification.from_pretrained(place / "student")
    assert again.config.num_labels == 3
    ours = load_model({"folder": str(place / "student")})
    data = image_data(load_recipe(here / "run/recipe.yaml").data)
    with torch.no_grad():
        logits = ours(data.test.batch(torch.arange(len(data.test))).inputs).logits
    torch.testing.assert_close(logits, load_file(place / "predictions.safetensors")["0.test"])


def test_the_python_function_is_the_command(here: Path) -> None:
    data = {"source": "digits", "limit": 80, "labelled": 30, "unlabelled": "rest"}
    taught = {**LIVE, "train": {**LIVE["train"], "steps": 30}}
    recipe = recipe_of(small(data=data, teacher=taught, student={"model": CNN}))
    done = distill(recipe, out=here / "run")
    assert done.report == type(done.report).from_json((done.folder / "report.json").read_text())
    assert load_model({"folder": str(done.student)}).spec["zoo"] == "cnn-small"
