"""What a run's report says of cost, 8 bits, licences and contamination."""

import json
from pathlib import Path

import numpy as np
import pytest

from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Measured, Report, Value
from preceptor.recipe import build
from preceptor.recipe.load import recipe_of
from preceptor.recipe.text_subject import TextSubject
from tests.models.encoders import saved_folder
from tests.verbs.small import ran, small
from tests.verbs.text import sums, written_recipe

OTHERS = [
    {"prompt": f"1{a}+{b}=", "completion": "9", "answer": 9} for a, b in ("09", "90", "36", "63")
]
EVALUATE = ["accuracy", "calibration", "fidelity", "cost", "int8"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Report:
    said = {"teacher": "llama3.1 <b>community</b>"}
    return ran(small(evaluate=EVALUATE, licences=said), tmp_path_factory.mktemp("run") / "run")


def value(measured: Measured) -> Value:
    assert isinstance(measured, Value)
    return measured


def test_every_model_has_its_cost_and_the_teacher_its_ratio(images: Report) -> None:
    for arm in images.arms:
        cost = {k: value(arm.measures[k]) for k in ("disk", "peak", "bytes", "throughput")}
        assert cost["disk"].estimate > cost["bytes"].estimate
        assert cost["peak"].estimate > cost["bytes"].estimate
        assert cost["throughput"].unit == "examples a second"
        assert (cost["throughput"].low or 0) <= cost["throughput"].estimate
    assert isinstance(images.ratios["disk"], Value)
    quality = value(images.ratios["quality"])
    names = ("teacher", "distilled")
    teacher, student = (value(images.arm(name).measures["accuracy"]) for name in names)
    assert quality.estimate == pytest.approx(student.estimate / teacher.estimate)
    assert quality.low is not None
    assert quality.low <= quality.estimate
    assert "16 examples at once" in images.timing


def test_8_bits_change_student_and_control_and_the_page_says_which_lost_more(images: Report):
    found = images.quantised
    assert found is not None
    assert set(found.after) == {"distilled", "control"}
    student = images.arm("distilled").measures["accuracy"]
    assert found.before["distilled"] == student
    assert isinstance(found.more, Value)
    changes = [found.change[name].estimate for name in ("distilled", "control")]
    assert found.more.estimate == pytest.approx(changes[0] - changes[1])
    page = render_html(images)
    assert "Weights in 8 bits:" in page
    assert "<td>llama3.1 &lt;b&gt;community&lt;/b&gt;</td><td>the recipe</td>" in page
    assert Report.from_json(images.to_json()) == images


def test_training_examples_that_are_tested_are_counted_named_and_warned_of(tmp_path: Path) -> None:
    train = sums(tmp_path / "sums.jsonl")
    test = tmp_path / "test.jsonl"
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    test.write_text("".join(json.dumps(row) + "\n" for row in (*rows[2:5], *OTHERS)))
    recipe = written_recipe(train, evaluate=["accuracy", "cost"])
    recipe["data"]["source"] = {"train": str(train), "test": str(test)}
    report = ran(recipe, tmp_path / "run")
    found = report.contamination
    assert found is not None
    # Validation is held out of the training file, and with it may be all rows of a prompt.
    subject = build.subject(recipe_of(recipe))
    assert isinstance(subject, TextSubject)
    trained = {row.prompt for row in subject.parts.train}
    seen = sum(row["prompt"] in trained for row in rows[2:5])
    assert (found.tested, found.trained, found.exact) == (7, len(subject.parts.train), seen)
    assert seen
    (warned,) = (each for each in report.warnings if "stand among" in each)
    assert "test.jsonl:" in warned
    assert "is in" in warned
    student = report.arm("distilled").measures
    assert value(student["throughput"]).unit == "tokens a second"
    for arm in ("teacher", "distilled", "control"):
        written = report.arm(arm).measures
        first, each = (value(written[f"{name}_p50"]) for name in ("first_token", "token"))
        assert (first.unit, value(written["tokens_a_second"]).unit) == (
            "seconds",
            "tokens a second",
        )
        assert value(written["tokens_a_second"]).estimate == pytest.approx(1 / each.estimate)
    assert "Writing: 1 row, a prompt of 128 tokens and 16 after the first" in report.timing
    assert "tokens without padding" in report.timing
    assert report.quantised is None
    assert [each.source for each in report.licences] == [
        "llama configuration",
        str(train),
        str(test),
    ]
    assert report.licences[1].licence == ""
    assert "not stated" in render_html(report)


def test_sentences_and_a_teacher_in_a_folder_have_a_cost(tmp_path: Path) -> None:
    place = saved_folder(tmp_path / "teacher", seed=5, config={"max_position_embeddings": 160})
    draw = np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(40):
        name, town, thing = ("".join(draw.choice(list("abcdefghijkl"), 9)) for _ in range(3))
        lines.append(f"The {name} of {town} met a {thing}. Was the {thing} of {town} a {name}?")
    (tmp_path / "told.txt").write_text("\n\n".join(lines))
    source = {"source": str(tmp_path / "told.txt"), "documents": "paragraph", "test": 0.3}
    said = {
        "data": {"kind": "sentences", **source},
        "teacher": {"model": {"encoder": str(place)}},
        "student": {"model": {"encoder": str(place)}},
        "stages": [
            {
                "objective": [{"embedding_distillation": {}}],
                "plan": {"steps": 2, "batch": 8, "optimizer": {"name": "adamw", "lr": 1e-3}},
            }
        ],
        "evaluate": ["accuracy", "cost"],
    }
    report = ran(small(**said), tmp_path / "run")
    teacher = report.arm("teacher").measures
    files = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    assert value(teacher["disk"]).estimate == files
    assert value(teacher["throughput"]).unit == "tokens a second"
    assert report.contamination is not None
    assert report.contamination.exact == 0
    assert [each.of for each in report.licences] == ["teacher", "data", "student"]
