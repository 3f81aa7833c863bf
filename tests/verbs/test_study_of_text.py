"""A grid of language models: answers that are written or chosen, and their tokens."""

import json
from pathlib import Path
from typing import Any

import pytest

from preceptor.evaluate.study.cells import Answered
from preceptor.evaluate.study.study import Study
from preceptor.recipe.load import recipe_of, study_of
from preceptor.recipe.study_cells import study_plan
from preceptor.verbs.distill import distill
from preceptor.verbs.study import study
from preceptor.verbs.study_training import cell_file
from tests.verbs.text import sums, written_recipe

SEQUENCE = {
    "stages.0.objective": [{"ce": {}}],
    "stages.0.rollouts": {"sequence_kd": {"folder": "nowhere", "most": 6}},
}


def larger(file: Path) -> Path:
    """Which of two digits is larger, one JSON object a line."""
    pairs = [(i % 10, (3 * i + i // 10) % 10) for i in range(80)]
    lines = [{"prompt": f"{a}>{b}?", "completion": "yes" if a > b else "no"} for a, b in pairs]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def answer(folder: Path, name: str) -> Answered:
    return Answered.from_json(cell_file(folder, name).read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Study]:
    """Two ways to teach, of which one writes, on two tasks; an altered signal on one."""
    base = tmp_path_factory.mktemp("texts")
    chosen = {
        "data.source": str(larger(base / "larger.jsonl")),
        "data.test": 0.3,
        "data.verify": {"by": "choice"},
    }
    said = study_of(
        {
            "name": "texts",
            "recipe": written_recipe(
                sums(base / "sums.jsonl"), checkpoint={"every": 50}, evaluate=["accuracy"]
            ),
            "grid": {
                "tasks": {"written": {}, "chosen": chosen},
                "methods": {"kd": {}, "sequence": SEQUENCE},
            },
            "signals": {
                "alter": {"noised": {"noise": 4}},
                "tasks": ["written"],
                "methods": ["kd"],
            },
        }
    )
    return base / "study", said, study(said, out=base / "study", workers=1).study


def test_students_who_write_and_who_choose_are_compared_with_their_teachers(
    finished: tuple[Path, Any, Study],
) -> None:
    folder, said, found = finished
    assert not [trouble for trouble in found.troubles if trouble.state != "knows nothing"]
    assert {row.signal for row in found.signals} == {"true", "noised"}
    tokens = next(row for row in found.fidelity if row.measure == "agreement on each token")
    assert tokens.taught.n == 2  # pyright: ignore[reportAttributeAccessIssue]
    places = {(place.task, place.method): place.measures for place in found.places}
    for trial in study_plan(said).trials:
        if trial.signal != "true":
            continue
        taught, teacher = (answer(folder, n) for n in (trial.taught, trial.teacher_cell))
        same = [a == b for a, b in zip(taught.answers, teacher.answers, strict=True)]
        measures = places[trial.task, trial.method]
        assert measures["agreement"] == pytest.approx(sum(same) / len(same))
        likeliest = zip(taught.tokens, teacher.tokens, strict=True)
        alike = [a == b for a, b in likeliest]
        assert measures["token_agreement"] == pytest.approx(sum(alike) / len(alike))


def test_a_written_cell_answers_as_a_run_has_it(
    finished: tuple[Path, Any, Study], tmp_path: Path
) -> None:
    folder, said, _ = finished
    trial = study_plan(said).trials[0]
    teacher = next((folder / "teachers" / trial.teacher_cell).glob("teachers/*/student"))
    recipe = said.recipe | {
        "teacher": {"model": said.recipe["teacher"]["model"], "load": str(teacher)}
    }
    report = distill(recipe_of(recipe), out=tmp_path / "run").report
    cells = {"distilled": trial.taught, "control": trial.control, "teacher": trial.teacher_cell}
    for arm, name in cells.items():
        cell = answer(folder, name)
        right = [a == b for a, b in zip(cell.answers, cell.labels, strict=True)]
        measured: Any = report.arm(arm).measures["accuracy"]
        assert sum(right) / len(right) == pytest.approx(measured.estimate)
