import dataclasses
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from preceptor.evaluate.card import About, model_card
from preceptor.evaluate.contamination import Contamination
from preceptor.evaluate.report import Licence, Report, Value
from preceptor.evaluate.words import in_full

HOSTILE = "---\nlicense: mit\n# <script>alert(1)</script> | [x](http://y) `z` \u202e\x07"


def about(**said: Any) -> About:
    fields = {
        "task": "image-classification",
        "library": "",
        "student": "cnn-small",
        "teachers": ("cnn-large",),
        "data": "digits",
        "methods": ("0.1 of ce and 0.9 of kd",),
        "use": "from preceptor import load",
        "seed": 2,
    }
    return About(**{**fields, **said})


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def test_the_hubs_own_reader_finds_licence_tags_and_metrics_with_their_intervals(report: Report):
    mine = Licence("student", "this model", "apache-2.0", "the recipe")
    card = ModelCard(model_card(dataclasses.replace(report, licences=(mine,)), about()))
    data: Any = card.data
    assert data.license == "apache-2.0"
    assert data.pipeline_tag == "image-classification"
    assert "knowledge-distillation" in data.tags
    found = {each.metric_type: each for each in data.eval_results}
    accuracy = report.arm("distilled").measures["accuracy"]
    assert isinstance(accuracy, Value)
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert found["accuracy"].metric_value == pytest.approx(accuracy.estimate, abs=1e-6)
    assert f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}" in found["accuracy"].metric_name
    assert found["accuracy"].dataset_name == "digits"


def test_the_page_tells_teacher_student_control_verdict_and_what_is_unknown(report: Report):
    text = body(model_card(report, about()))
    assert report.verdict.headline.replace("*", "\\*")[:20] in text
    (accuracy,) = (line for line in text.splitlines() if line.startswith("| accuracy |"))
    assert accuracy.count("%") == 3
    assert "| gained over the control |" in text
    temperature = report.arm("teacher").measures["temperature"]
    assert f"| {in_full(temperature)} |" in text
    assert "(one model)" in in_full(temperature)
    assert "Weights in 8 bits were not tried." in text
    assert "Nobody looked for test examples" in text
    assert "nobody has judged them here" in text


def test_an_unstated_licence_is_unknown_and_a_name_that_the_hub_does_not_know_is_other(report):
    def front(*licences):
        card = model_card(dataclasses.replace(report, licences=licences), about())
        return yaml.safe_load(card.split("---\n")[1])

    assert front()["license"] == "unknown"
    assert front(Licence("teacher", "x", "mit", "y"))["license"] == "unknown"
    own = front(Licence("student", "x", "Llama 3.1 Community", "y"))
    assert (own["license"], own["license_name"]) == ("other", "Llama 3.1 Community")


def test_terms_and_contamination_are_told(report: Report):
    found = Contamination(120, 400, 2, 1, 0, "as it is", ("test:3 is in train:9",))
    terms = (Licence("teacher", "owner/large", "", ""), Licence("data", "d", "mit", "d/README.md"))
    text = body(
        model_card(dataclasses.replace(report, contamination=found, licences=terms), about())
    )
    assert "| teacher | owner/large | not stated | nobody here |" in text
    assert "of 120 test examples 2 stand among 400 training examples as they are and 1" in text
    assert "test:3 is in train:9" in text


def test_hostile_names_change_neither_the_front_matter_nor_the_page(report: Report):
    terms = (Licence("teacher", HOSTILE, HOSTILE, HOSTILE),)
    hostile = dataclasses.replace(report, name=HOSTILE, licences=terms, recipe="a: |\n  ```\n  x\n")
    card = model_card(
        hostile, about(student=HOSTILE, teachers=(HOSTILE,), data=HOSTILE, methods=(HOSTILE,))
    )
    front = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert front["license"] == "unknown"
    assert front["model-index"][0]["name"] == HOSTILE
    page = body(card)
    assert "<script>" not in page
    assert "\n# \\<" not in page
    assert "\x07" not in page
    assert "\u202e" not in page
    assert all(
        line.count("|") - line.count("\\|") == 5
        for line in page.splitlines()
        if "teacher |" in line
    )
    assert page.rstrip().endswith("````")
