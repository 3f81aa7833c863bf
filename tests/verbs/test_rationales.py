"""A run whose worked answers are asked for without their steps, and with another model's."""

import json
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import RecipeError
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Value
from preceptor.evaluate.stored import load_results
from preceptor.models.load import load_model
from preceptor.recipe.build import subject
from preceptor.recipe.load import recipe_of
from preceptor.recipe.text_subject import TextSubject
from preceptor.recipe.worked_answers import Worked, following, hanging
from tests.verbs.small import ran
from tests.verbs.text import sums, written_recipe

NAMES = ("steps_needed", "same_without_steps", "from_teachers_steps", "teacher_from_its_steps")


def worked(file: Path) -> Path:
    """Additions that are written out before they are answered."""
    lines = [json.loads(line) for line in sums(file).read_text().splitlines()]
    for line in lines:
        line["completion"] = f"{line['prompt']}{line['answer']}\n#### {line['answer']}"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_answers_are_asked_for_without_their_steps_and_with_the_teachers(tmp_path: Path) -> None:
    data = written_recipe(worked(tmp_path / "sums.jsonl"), evaluate=["fidelity", "rationales"])
    data["data"] |= {"verify": {"by": "numeric", "after": "####", "most": 16}, "max_length": 40}
    data["teacher"]["train"]["steps"] = 40
    report = ran(data, tmp_path / "run")
    for arm in ("distilled", "control"):
        for name in NAMES:
            found = report.arm(arm).measures[name]
            assert isinstance(found, Value)
            assert found.low is not None
    assert "steps_needed" in report.arm("teacher").measures
    assert "from_teachers_steps" not in report.arm("teacher").measures
    assert "same answer without any of its steps" in render_html(report)
    _whoever_gets_its_own_steps_answers_as_before(tmp_path / "run", data)


def _whoever_gets_its_own_steps_answers_as_before(run: Path, data: dict[str, object]) -> None:
    stored = load_results(run)
    assert stored is not None
    recipe = recipe_of(data)
    text = subject(recipe)
    assert isinstance(text, TextSubject)
    assert text.said.verify is not None
    assert stored.result.teacher is not None
    one = stored.result.teacher.seeds[0]
    model = load_model({"folder": str(run / "teachers/teacher/student")})
    own = Worked(model, text.test, one.texts, one.finals)
    back = following(own, own, text.said.verify)["from_teachers_steps"]
    complete = [bool(e) and "####" in t for e, t in zip(one.items["ended"], one.texts, strict=True)]
    assert any(complete)
    assert back[complete].all()
    again = hanging(own, text.said.verify)
    assert (again["steps_needed"] == one.items["steps_needed"]).all()
    # A context without room for the text is no crash after hours: nothing is answered there.
    config: Any = model.module.config
    config.max_position_embeddings = 19
    cramped = following(own, own, text.said.verify)["from_teachers_steps"]
    assert not cramped[complete].any()


def test_where_no_mark_says_what_the_answer_is_nothing_can_be_cut(tmp_path: Path) -> None:
    data = written_recipe(sums(tmp_path / "sums.jsonl"), evaluate=["rationales"])
    with pytest.raises(RecipeError, match="where a worked answer's steps end"):
        recipe_of(data)
