"""A local task of lm-evaluation-harness on a run's models."""

import json
from pathlib import Path

import numpy as np
import pytest

from preceptor.errors import ModelError
from preceptor.evaluate.report import Value
from preceptor.verbs.distill import distill
from preceptor.verbs.harness import evaluate_task
from tests.models.test_harness import TASK
from tests.verbs.small import written
from tests.verbs.text import sums, written_recipe

_TEACHER = "teachers/teacher/student"


def test_a_runs_students_controls_and_teacher_are_scored_and_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is missing: pip install 'preceptor[lm-eval]'")
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), seed={"count": 2}, evaluate=["accuracy"])
    run = distill(written(recipe, tmp_path / "sums.yaml"), out=tmp_path / "run")
    rows = [
        {"question": f"{a}+{b}=", "choices": [str(a + b), str(a + b + 1)], "label": 0}
        for a in range(5)
        for b in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK)
    found = evaluate_task(run.folder, tmp_path / "task.yaml", show=True)
    assert {arm: column.shape for arm, column in found.items["acc"].items()} == {
        "distilled": (2, 20),
        "control": (2, 20),
        "teacher": (1, 20),
    }
    student, control = (found.items["acc"][arm] for arm in ("distilled", "control"))
    value = found.values["acc"]["distilled"]
    assert isinstance(value, Value)
    assert value.estimate == student.mean()
    gain = found.differences["acc"].gain
    assert gain.estimate == pytest.approx(float((student - control).mean()))
    assert gain.low is not None
    assert gain.low <= gain.estimate
    held = json.loads((run.folder / "harness-sums.json").read_text())
    assert np.array_equal(held["items"]["acc"]["control"], control)
    assert "gained over the control" in capsys.readouterr().out
    loaded = {"model": recipe["teacher"]["model"], "load": str(run.folder / _TEACHER)}
    other = distill(
        written({**recipe, "teacher": loaded}, tmp_path / "loaded.yaml"), out=tmp_path / "other"
    )
    again = evaluate_task(other.folder, tmp_path / "task.yaml")
    assert again.items["acc"]["teacher"].tolist() == found.items["acc"]["teacher"].tolist()
    alone = evaluate_task(run.student, tmp_path / "task.yaml")
    assert alone.items["acc"]["model"].tolist() == [student[0].tolist()]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer lies beside"):
        evaluate_task(tmp_path, tmp_path / "task.yaml")
