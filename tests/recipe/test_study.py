from typing import Any

import pytest

from preceptor.data.bundled import BUNDLED
from preceptor.data.reasoning import REASONING
from preceptor.errors import RecipeError
from preceptor.recipe.load import load_study, plain, recipe_text, study_names, study_of
from preceptor.recipe.study_cells import StudyPlan, study_plan
from preceptor.recipe.teachers import AlteredTeacher, LiveTeacher
from preceptor.recipe.text import from_yaml

PLAN = {"steps": 20, "batch": 16}


LIVE = {"model": {"zoo": "mlp"}, "train": PLAN}
CACHED = {"cached": {"teacher": LIVE, "folder": "signals"}}
TEXT = {"kind": "text", "source": "arithmetic"}


def said(**more: Any) -> dict[str, Any]:
    recipe = {
        "seed": {"count": 2},
        "data": {"source": "toy"},
        "teacher": {"model": {"zoo": "mlp"}, "train": PLAN},
        "student": {"model": {"zoo": "mlp", "arguments": {"widths": [8]}}},
        "stages": [{"objective": [{"ce": {}}, {"kd": {"temperature": 2}}], "plan": PLAN}],
    }
    return {"recipe": recipe, **more}


def widths(*sizes: int) -> dict[str, dict[str, Any]]:
    return {f"{n} units": {"student.model.arguments.widths": [n]} for n in sizes}


TEMPERATURE = "stages.0.objective.1.kd.temperature"


def counted(plan: StudyPlan) -> dict[str, int]:
    roles = [cell.role for cell in plan.cells]
    return {role: roles.count(role) for role in ("teacher", "control", "taught")}


def test_without_a_grid_a_study_is_its_recipe() -> None:
    plan = study_plan(study_of(said()))
    assert counted(plan) == {"teacher": 2, "control": 2, "taught": 2}
    assert [trial.seed for trial in plan.trials] == [0, 1]
    assert plan.trials[0].rival == plan.trials[1].teacher_cell


def test_each_model_is_trained_once_however_many_comparisons_it_stands_in() -> None:
    teachers = {"one": {}, "other": {"teacher.train.steps": 30}}
    methods = {"kd": {}, "sure": {"stages.0.objective.1.weight": 3.0}}
    plan = study_plan(
        study_of(
            said(
                grid={"students": widths(4, 8), "teachers": teachers, "methods": methods},
                choose={TEMPERATURE: [1, 2, 4]},
            )
        )
    )
    assert counted(plan) == {"teacher": 4, "control": 4, "taught": 2 * 2 * 2 * 3 * 2}
    assert len(plan.trials) == 48
    assert [cell.role for cell in plan.cells][:4] == ["teacher"] * 4


def test_a_teacher_that_brings_its_weights_is_asked_once_and_has_no_rival() -> None:
    loaded = {"teacher": {"model": {"zoo": "mlp"}, "load": "somewhere"}}
    plan = study_plan(study_of(said(grid={"teachers": {"loaded": loaded}})))
    assert counted(plan) == {"teacher": 1, "control": 2, "taught": 2}
    assert {trial.rival for trial in plan.trials} == {None}


def test_a_choice_that_concerns_the_control_gives_it_as_many_runs() -> None:
    plan = study_plan(study_of(said(choose={"stages.0.plan.optimizer.lr": [0.1, 0.2]})))
    assert counted(plan) == {"teacher": 2, "control": 4, "taught": 4}


def test_altered_signals_keep_what_the_recipe_says_and_stand_where_they_are_asked() -> None:
    signals = {"alter": {"noised": {"noise": 2}}, "students": ["4 units"]}
    plan = study_plan(
        study_of(
            said(grid={"students": widths(4, 8)}, choose={TEMPERATURE: [1, 2]}, signals=signals)
        )
    )
    spoilt = [trial for trial in plan.trials if trial.signal == "noised"]
    assert [(t.student, t.option) for t in spoilt] == [("4 units", "temperature 2")] * 2
    cells = {cell.name: cell for cell in plan.cells}
    teacher = cells[spoilt[0].taught].recipe.teacher
    assert isinstance(teacher, AlteredTeacher)
    assert teacher.altered.noise == 2
    assert isinstance(cells[spoilt[0].teacher_cell].recipe.teacher, LiveTeacher)
    true = [t for t in plan.trials if t.signal == "true" and t.option == "temperature 2"]
    assert {t.teacher_cell for t in true} == {t.teacher_cell for t in spoilt}


def test_a_true_signal_is_added_where_the_recipe_says_what_is_not_among_the_choices() -> None:
    signals = {"alter": {"random": {"random": True}}}
    plan = study_plan(study_of(said(choose={TEMPERATURE: [1, 4]}, signals=signals)))
    assert {t.option for t in plan.trials if t.signal == "true"} == {
        "temperature 1",
        "temperature 4",
        "temperature 2",
    }


def test_names_of_cells_depend_on_what_is_trained_and_on_nothing_else() -> None:
    first = study_plan(study_of(said(grid={"tasks": {"a": {}}})))
    renamed = study_plan(study_of(said(grid={"tasks": {"b": {"evaluate": ["accuracy"]}}})))
    assert [c.name for c in first.cells] == [c.name for c in renamed.cells]
    longer = study_plan(study_of(said(grid={"tasks": {"a": {"stages.0.plan.steps": 21}}})))
    names = {
        role: {c.name for c in p.cells if c.role == role} for p in (first,) for role in ("taught",)
    }
    assert not names["taught"] & {c.name for c in longer.cells}
    teachers = [{c.name for c in p.cells if c.role == "teacher"} for p in (first, longer)]
    assert teachers[0] == teachers[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"grid": {"tasks": {"bad": {"data.sauce": "toy"}}}}, "at bad, .*sauce"),
        ({"grid": {"tasks": {}}}, "tasks"),
        ({"grid": {"rows": {}}}, "rows"),
        ({"choose": {TEMPERATURE: []}}, "choose"),
        ({"signals": {"alter": {"x": {"noise": 1}}, "tasks": ["nowhere"]}}, "nowhere"),
        ({"signals": {"alter": {"true": {"noise": 1}}}}, "teacher's own answers"),
        ({"signals": {"alter": {"x": {"noise": 1, "random": True}}}}, "exactly one of smooth"),
        ({"grid": {"tasks": {"a": {"data": TEXT}}}}, "text without data.verify at a"),
        ({"grid": {"tasks": {"a": {"data": {"kind": "sentences"}}}}}, "sentences at a"),
        ({"grid": {"teachers": {"c": {"teacher": CACHED}}}}, "a cached teacher at"),
        (
            {
                "grid": {
                    "tasks": {"a": {"data": TEXT | {"verify": {"by": "numeric"}}}},
                    "teachers": {"two": {"teacher": {"ensemble": {"members": [LIVE, LIVE]}}}},
                }
            },
            "an ensemble that is to write answers",
        ),
        ({"grid": {"teachers": {"none": {"teacher": {"nobody": {}}}}}}, "it has none"),
        (
            {
                "choose": {"stages.0.plan.clip": [0.0, 1.0]},
                "signals": {"alter": {"x": {"noise": 1}}},
            },
            "says nothing there",
        ),
    ],
)
def test_what_cannot_be_studied_is_refused_in_words(more: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        study_plan(study_of(said(**more)))


def test_a_study_written_out_is_the_same_study() -> None:
    study = study_of(said(grid={"students": widths(4)}, choose={TEMPERATURE: [1, 2]}))
    assert study_of(from_yaml(recipe_text(study), "x")) == study
    assert study_of(plain(study)) == study


def test_a_study_may_begin_with_the_name_of_a_recipe(tmp_path: Any) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: digits\ngrid: {students: {a: {}, b: {student.model.zoo: mlp}}}\n")
    study = load_study(str(file), ["recipe.seed.count=1"])
    assert study.name == "mine"
    assert counted(study_plan(study)) == {"teacher": 1, "control": 2, "taught": 2}


def test_the_preset_asks_what_it_promises() -> None:
    assert "paradox" in study_names()
    study = load_study("paradox")
    assert len(study.grid.tasks) >= 14
    assert (len(study.grid.students), len(study.grid.teachers)) == (3, 2)
    sources = [changes["data.source"] for changes in study.grid.tasks.values()]
    assert len(set(sources)) == len(sources)
    assert set(sources) <= {"digits", *BUNDLED, *REASONING}
    assert study.signals is not None
    assert len(study.signals.tasks) == 2
    study = load_study("paradox", ["recipe.seed.count=1"])
    plan = study_plan(study)
    places = len(study.grid.tasks) * 3 * 2
    true = [trial for trial in plan.trials if trial.signal == "true"]
    assert len(true) == places * 3
