import errno
import json
from pathlib import Path

import pytest
import torch

from preceptor.errors import StorageError
from preceptor.objectives.ce import CE
from preceptor.objectives.crd import CRD
from preceptor.objectives.kd import KD
from preceptor.objectives.schedules import Auto
from preceptor.objectives.taid import TAID
from preceptor.teachers.ema import EMA
from preceptor.train import checkpoint
from preceptor.train.fit import run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.record import Metrics, read
from preceptor.train.session import Keeping, train
from preceptor.train.training import Training
from tests.train.tiny import SGD, mlp, training, weights


def everything(optimizer: OptimizerPlan = SGD) -> Training:
    """All that a checkpoint holds: dropout, a memory, averages, found weights, a moving target."""
    student = mlp(1, dropout=0.3)
    objective = CE() + KD() + Auto(0.2) * CRD(layers=(("1", "1"),), negatives=16) + TAID()
    plan = Plan(steps=12, batch=12, optimizer=optimizer, ema=0.9)
    torch.manual_seed(7)
    return training(objective, student=student, teacher=EMA(student), plan=plan)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("stop", [2, 7])
def test_a_resumed_training_is_the_same_training(tmp_path: Path, name: str, stop: int):
    optimizer = OptimizerPlan(name=name, lr=0.01)  # pyright: ignore[reportArgumentType]
    whole = everything(optimizer)
    all_losses = list(run(whole))

    first = everything(optimizer)
    going = run(first)
    for _ in range(stop):
        next(going)
    checkpoint.save(first, tmp_path)
    resumed = everything(optimizer)
    torch.manual_seed(99)  # the checkpoint brings the generator back
    assert checkpoint.resume(resumed, tmp_path) == ()
    assert list(run(resumed)) == all_losses[stop:]
    for name_, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name_], value)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path):
    going = everything()
    steps = run(going)
    for _ in range(2):
        next(steps)
        checkpoint.save(going, tmp_path)
    newest = tmp_path / "step-00000002" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    again = everything()
    notices = checkpoint.resume(again, tmp_path)
    assert again.step == 1
    assert len(notices) == 1
    assert "step-00000002 is damaged (tensors.safetensors has" in notices[0]


def test_a_flipped_byte_is_seen(tmp_path: Path):
    going = everything()
    steps = run(going)
    next(steps)
    checkpoint.save(going, tmp_path)
    file = tmp_path / "step-00000001" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    again = everything()
    assert "contents of tensors.safetensors have changed" in checkpoint.resume(again, tmp_path)[0]
    assert again.step == 0


def test_only_the_last_checkpoints_are_kept(tmp_path: Path):
    going = everything()
    for _ in run(going):
        checkpoint.save(going, tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000011", "step-00000012"]


def test_nothing_is_pickled(tmp_path: Path):
    going = everything()
    next(run(going))
    checkpoint.save(going, tmp_path)
    kinds = {p.suffix for p in tmp_path.rglob("*") if p.is_file()}
    assert kinds == {".safetensors", ".json"}
    for file in tmp_path.rglob("*.json"):
        json.loads(file.read_text())


def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    going = everything()
    steps = run(going)
    next(steps)
    checkpoint.save(going, tmp_path)
    next(steps)

    def full(*args: object) -> None:
        del args
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        checkpoint.save(going, tmp_path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    again = everything()
    assert checkpoint.resume(again, tmp_path) == ()
    assert again.step == 1


def test_metrics_after_the_checkpoint_are_forgotten_and_a_cut_line_too(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    metrics = Metrics(file, step=2)
    metrics.add({"step": 3, "again": True})
    metrics.close()
    assert read(file) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_a_stage_writes_one_line_a_step_and_goes_on_from_its_end(tmp_path: Path):
    seen: list[int] = []
    keeping = Keeping(every=5, keep=2)
    train(everything(), tmp_path, keeping, lambda losses: seen.append(losses.step))
    assert seen == list(range(1, 13))
    assert [entry["step"] for entry in read(tmp_path / "metrics.jsonl")] == seen
    train(everything(), tmp_path, keeping, lambda losses: seen.append(losses.step))
    assert seen == list(range(1, 13))
