"""What breaks while a run is going: a sentence, exit code 1, and the last checkpoint stands."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from preceptor.cli import app
from preceptor.errors import NonFiniteError
from preceptor.models.tapped import TappedModel
from preceptor.recipe.text import to_yaml
from tests.verbs.small import KD, MLP, contents, ran, small, stage

run = CliRunner().invoke


def test_a_loss_that_is_no_number_stops_the_run_by_name_and_it_can_go_on(tmp_path: Path) -> None:
    wild = stage(KD, steps=40, optimizer={"name": "sgd", "lr": 1e6})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(small(stages=[wild], checkpoint={"every": 1})))
    command = ["distill", str(recipe), "--out", str(tmp_path / "run")]
    first = run(app, command)
    assert first.exit_code == 1, first.output
    for words in ("is nan in step", "examples ", "the last checkpoint stands", "learning rate"):
        assert words in first.stderr.replace("inf in step", "is nan in step")
    assert "Traceback" not in first.output
    kept = tmp_path / "run/arms/distilled/seed-0/stage-0/checkpoints"
    steps = sorted(path.name for path in kept.iterdir())
    assert len(steps) == 2
    # Started again it goes on from there, and comes to the same step.
    again = run(app, command)
    assert again.exit_code == 1
    assert again.stderr == first.stderr
    assert sorted(path.name for path in kept.iterdir()) == steps


def test_pixels_of_one_s_own_model_that_become_nan_name_the_examples(tmp_path: Path) -> None:
    # A teacher that breaks: the loss is not finite though the inputs are.
    wild = {"model": MLP, "train": {"steps": 60, "optimizer": {"name": "sgd", "lr": 1e6}}}
    with pytest.raises(NonFiniteError, match="the inputs are finite, the loss is not"):
        ran(small(teacher=wild), tmp_path)


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes five images at a time where gradients are wanted."""
    plain = TappedModel.forward

    def limited(self: TappedModel, inputs: torch.Tensor) -> Any:
        if self.training and torch.is_grad_enabled() and len(inputs) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, inputs)

    monkeypatch.setattr(TappedModel, "forward", limited)


def test_out_of_memory_a_run_takes_smaller_bites_says_so_and_ends_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    ran(small(), tmp_path / "plain")
    request.getfixturevalue("short_of_memory")
    report = ran(small(), tmp_path / "short")
    assert any("halved" in warning for warning in report.warnings)
    assert any("halved" in record.getMessage() for record in caplog.records)
    for name in ("arms/distilled/seed-0/stage-0/metrics.jsonl",):
        pairs = zip(
            contents(tmp_path / "plain")[name].splitlines(),
            contents(tmp_path / "short")[name].splitlines(),
            strict=True,
        )
        for plain, short in pairs:
            assert json.loads(short)["loss"] == pytest.approx(json.loads(plain)["loss"], abs=1e-4)


@pytest.mark.usefixtures("short_of_memory")
def test_out_of_memory_is_a_sentence_where_a_batch_stays_whole(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(small(stages=[stage([{"ce": {}}, {"rkd": {}}])])))
    answer = run(app, ["distill", str(recipe), "--out", str(tmp_path / "run")])
    assert answer.exit_code == 1, answer.output
    assert "rkd compares the examples of a batch" in answer.stderr
    assert "smaller batch" in answer.stderr
