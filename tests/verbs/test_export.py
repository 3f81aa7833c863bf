"""Exports of finished runs, and their cards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from preceptor.errors import ModelError, RecipeError
from preceptor.models.export import OnnxModel
from preceptor.models.load import load
from preceptor.verbs.distill import Run, distill
from preceptor.verbs.export import export, format_of
from tests.models.encoders import BERT, saved_folder
from tests.verbs.small import small, written
from tests.verbs.text import sums, written_recipe


def needs_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is missing: pip install 'preceptor[onnx]'")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("images")
    said = small(
        name="shapes", seed={"count": 2}, student={"model": {"zoo": "cnn-small"}}, evaluate=["cost"]
    )
    return distill(written(said, folder / "shapes.yaml"), out=folder / "run")


def front(card: Path) -> dict[str, Any]:
    return yaml.safe_load(card.read_text().split("\n---\n")[0].removeprefix("---\n"))


def test_every_seeds_student_of_a_finished_run_has_a_card(images: Run) -> None:
    cards = sorted(images.folder.glob("arms/distilled/seed-*/student/README.md"))
    assert len(cards) == 2
    assert "It is the one of seed 1" in cards[1].read_text()
    found = front(cards[0])
    assert found["pipeline_tag"] == "image-classification"
    (metric,) = (
        m for m in found["model-index"][0]["results"][0]["metrics"] if m["type"] == "accuracy"
    )
    measured = images.report.arm("distilled").measures["accuracy"]
    assert metric["value"] == pytest.approx(getattr(measured, "estimate", None), abs=1e-6)
    assert not list(images.folder.glob("arms/control/**/README.md"))
    text = cards[0].read_text()
    assert "| teacher | mlp | that of the data | trained in this run |" in text
    assert '{"temperature": 4.0' in text.replace("\\", "")


def test_a_classifier_is_written_compared_on_its_own_inputs_and_timed(images: Run) -> None:
    needs_onnx()
    done = export(images.folder)
    assert done.folder == images.folder / "export"
    assert {path.name for path in done.folder.iterdir()} == {"model.onnx", "README.md"}
    assert done.exported is not None
    assert done.exported.difference < 1e-4
    assert [shape[0] for shape in done.exported.shapes][:3] == [1, 3, 32]
    pixels = torch.rand(5, *done.exported.shapes[0][1:])
    with torch.no_grad():
        own = load(images.student)(pixels).logits
    assert torch.allclose(OnnxModel(done.folder / "model.onnx")(pixels), own, atol=1e-4)
    said = " ".join(done.sentences)
    assert "max |difference|" in said
    assert "32 at once, 1 thread, cpu" in said
    assert "onnxruntime" in said


def test_an_encoder_is_written_with_its_tokenizer_and_answers_any_length(tmp_path: Path) -> None:
    needs_onnx()
    draw = np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(40):
        name, town, thing = (
            "".join(draw.choice(list("abcdefghijkl"), draw.integers(6, 15))) for _ in range(3)
        )
        lines.append(f"The {name} of {town} met a {thing}. Was the {thing} of {town} a {name}?")
    (tmp_path / "told.txt").write_text("\n\n".join(lines))
    adam = {"name": "adamw", "lr": 1e-3}
    said = small(
        data={
            "kind": "sentences",
            "source": str(tmp_path / "told.txt"),
            "documents": "paragraph",
            "test": 0.3,
        },
        teacher={"model": {"encoder": str(saved_folder(tmp_path / "teacher", seed=5))}},
        student={"model": {"encoder": {**BERT, "hidden_size": 8}, "dimension": 12}},
        stages=[
            {
                "objective": [{"embedding_distillation": {}}],
                "plan": {"steps": 2, "batch": 8, "optimizer": adam},
            }
        ],
        evaluate=["accuracy"],
    )
    run = distill(written(said, tmp_path / "sentences.yaml"), out=tmp_path / "run")
    done = export(run.folder, out=tmp_path / "out")
    assert {"model.onnx", "README.md", "tokenizer.json"} <= {p.name for p in done.folder.iterdir()}
    assert done.exported is not None
    assert len({shape[1] for shape in done.exported.shapes}) > 1
    inputs = {
        "input_ids": torch.randint(300, (2, 9)),
        "attention_mask": torch.ones(2, 9, dtype=torch.int64),
    }
    with torch.no_grad():
        own = load(run.student)(inputs).logits
    assert torch.allclose(OnnxModel(done.folder / "model.onnx")(inputs), own, atol=1e-5)
    assert front(done.folder / "README.md")["library_name"] == "sentence-transformers"


def test_a_language_models_folder_is_its_export(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), evaluate=["accuracy"])
    run = distill(written(recipe, tmp_path / "sums.yaml"), out=tmp_path / "run")
    done = export(run.folder)
    assert (done.folder, done.exported) == (run.student, None)
    assert front(run.student / "README.md")["pipeline_tag"] == "text-generation"
    with pytest.raises(ModelError, match="Serve the student's folder"):
        export(run.folder, to="onnx")
    (tmp_path / "sums.jsonl").unlink()  # Copying a folder asks for none of the data.
    copied = export(run.folder, out=tmp_path / "out").folder
    assert {p.name for p in copied.iterdir()} == {p.name for p in run.student.iterdir()}
    with pytest.raises(RecipeError, match="is there already"):
        export(run.folder, out=tmp_path / "out")


def test_what_is_no_finished_run_and_no_form_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no finished run"):
        export(tmp_path)
    with pytest.raises(RecipeError, match="onnx or folder"):
        format_of("tflite")
    assert format_of("") is None
