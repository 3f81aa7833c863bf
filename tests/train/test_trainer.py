"""transformers' Trainer and `fit`, on the same batches: the same losses and the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset, SequentialSampler
from transformers import TrainerCallback, TrainingArguments

from preceptor.errors import DataError, RecipeError
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.attention_maps import AttentionMaps
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.distillm2 import DistiLLM2
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.objectives.kd import KD
from preceptor.objectives.minillm import MiniLLM
from preceptor.objectives.reverse_kl import ReverseKL
from preceptor.objectives.schedules import Auto, Ramp
from preceptor.teachers.adapter_base import AdapterBase
from preceptor.teachers.base import Teacher
from preceptor.teachers.ema import EMA
from preceptor.teachers.live import Live
from preceptor.train.plan import Plan
from preceptor.train.trainer import DistillationTrainer, as_batch
from preceptor.types import Batch
from tests.train.sentences import SGD, Sentences, inputs, language_model, language_training
from tests.warm import together

STEPS = 3


class Rows(Dataset[int]):
    """Rows by number, in the order in which `Sentences` takes them."""

    def __len__(self) -> int:
        return 8 * STEPS

    def __getitem__(self, index: int) -> int:
        return index


def as_ours(numbers: Any) -> Batch:
    """The rows as a batch; numbers within one step."""
    step, first = divmod(numbers[0], 8)
    return Sentences().rows(step + 1, 8).rows(first, first + len(numbers))


def as_theirs(numbers: Any) -> dict[str, torch.Tensor]:
    """The same rows with labels where their tokens stand, -100 where they are not scored."""
    batch = as_ours(numbers)
    labels = torch.full_like(batch.labels, -100)
    labels[:, 1:] = batch.labels[:, :-1].masked_fill(batch.labels[:, :-1] < 0, -100)
    return {**inputs(batch), "labels": labels}


class Seen(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        del args, state, control, rest
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


class InOrder(DistillationTrainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        del train_dataset
        return SequentialSampler(Rows())


def trainer_of(
    student: TappedModel,
    folder: Path,
    *,
    collate: Any = as_ours,
    accumulate: int = 1,
    processes: int = 1,
    saves: bool = False,
    **said: Any,
) -> tuple[DistillationTrainer, Seen]:
    seen = Seen()
    optimizer = torch.optim.SGD(
        [p for p in student.module.parameters() if p.requires_grad], lr=SGD.lr
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8 // accumulate // processes,
        gradient_accumulation_steps=accumulate,
        max_steps=STEPS,
        max_grad_norm=0.7,
        logging_steps=1,
        save_strategy="steps" if saves else "no",
        save_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = InOrder(
        student,
        said.get("teacher") or Live(language_model(7, width=32)),
        said.get("objective") or 0.3 * CE() + 0.7 * KD(temperature=2.0),
        args=arguments,
        data_collator=collate,
        train_dataset=Rows(),
        callbacks=[seen],
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
    )
    return trainer, seen


def by_fit(student: TappedModel, **said: Any) -> list[float]:
    from preceptor.train.fit import run

    plan = Plan(steps=STEPS, batch=8, optimizer=SGD, clip=0.7)
    return [losses.total for losses in run(language_training(student, plan=plan, **said))]


@pytest.mark.parametrize("collate", [as_ours, as_theirs])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_numbers_are_those_of_fit(tmp_path: Path, collate: Any, accumulate: int) -> None:
    one, other = language_model(1), language_model(1)
    expected = by_fit(one)
    trainer, seen = trainer_of(other, tmp_path, collate=collate, accumulate=accumulate)
    trainer.train()
    assert seen.losses == pytest.approx(expected, abs=2e-4)  # as many places as it logs
    for tensor, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        torch.testing.assert_close(theirs, tensor, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_the_trainer_is_gone_on_from_with_the_same_numbers(tmp_path: Path) -> None:
    objective = CE() + Ramp(0.0, 1.0) * KD()
    whole, cut = language_model(1), language_model(1)
    trainer_of(whole, tmp_path / "whole", objective=objective, saves=True)[0].train()
    trainer, _ = trainer_of(cut, tmp_path / "cut", objective=objective)
    trainer.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-2"))
    for tensor, theirs in zip(whole.module.parameters(), cut.module.parameters(), strict=True):
        assert torch.equal(theirs, tensor)


MAPS = "model.layers.0.self_attn:output[1]"


def in_each_process(out: Path) -> None:
    """What transformers' Trainer makes of two processes."""
    student = language_model(1)
    trainer, _ = trainer_of(student, out / "trainer", accumulate=2, processes=2)
    trainer.train()
    if trainer.is_world_process_zero():
        tensors = {n: p.detach().clone() for n, p in student.module.named_parameters()}
        save_file(tensors, out / "student.safetensors")


def test_two_processes_give_the_numbers_of_fit_on_one(tmp_path: Path) -> None:
    one = language_model(1)
    by_fit(one)
    together(2, in_each_process, tmp_path, log=tmp_path / "log")
    other = load_file(tmp_path / "student.safetensors")
    for name, tensor in one.module.named_parameters():
        torch.testing.assert_close(other[name], tensor.detach(), rtol=1e-5, atol=1e-6)


CASES: dict[str, Objective] = {
    "layers": CE() + AttentionMaps(layers=((MAPS, MAPS),)),
    "a moving weight": CE() + Ramp(0.0, 1.0) * KD(),
}


@pytest.mark.parametrize("objective", CASES.values(), ids=CASES.keys())
def test_layers_and_moving_weights_have_the_numbers_of_fit(
    tmp_path: Path, objective: Objective
) -> None:
    one, other = (language_model(1, attention="eager") for _ in range(2))
    teacher: Teacher = Live(language_model(7, attention="eager"))
    expected = by_fit(one, objective=objective, teacher=teacher)
    trainer, seen = trainer_of(other, tmp_path, objective=objective, teacher=teacher)
    trainer.train()
    assert seen.losses == pytest.approx(expected, abs=2e-4)
    for tensor, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        torch.testing.assert_close(theirs, tensor, rtol=1e-5, atol=1e-6)


def test_a_student_with_adapters_learns_from_its_base_and_is_saved(tmp_path: Path) -> None:
    lora = {"rank": 2, "targets": ["q_proj", "lm_head"]}
    one, other = language_model(1, lora=lora), language_model(1, lora=lora)
    expected = by_fit(one, teacher=AdapterBase(one))
    trainer, seen = trainer_of(other, tmp_path, teacher=AdapterBase(other))
    trainer.train()
    assert seen.losses == pytest.approx(expected, abs=2e-4)
    for tensor, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        torch.testing.assert_close(theirs, tensor, rtol=1e-5, atol=1e-6)


def test_what_it_saves_is_loaded(tmp_path: Path) -> None:
    student = language_model(1)
    trainer, _ = trainer_of(student, tmp_path)
    trainer.train()
    trainer.save_model(str(tmp_path / "student"))
    again = load_model({"folder": str(tmp_path / "student")})
    for tensor, theirs in zip(student.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(tensor, theirs)


def test_its_evaluation_is_the_mean_loss_of_the_examples(tmp_path: Path) -> None:
    trainer, _ = trainer_of(language_model(1), tmp_path)
    found = trainer.evaluate(Rows())  # pyright: ignore[reportArgumentType]
    assert found["eval_loss"] > 0


def test_labels_are_shifted_once_and_masked_by_themselves() -> None:
    # The padding id is also that of a scored token.
    ids = torch.tensor([[5, 6, 0, 0]])
    labels = torch.tensor([[-100, 6, 0, -100]])
    batch = as_batch({"input_ids": ids, "labels": labels})
    assert batch.labels.tolist() == [[6, 0, -1, -1]]
    assert batch.mask("all").tolist() == [[True, True, False, False]]
    with pytest.raises(DataError, match="no labels"):
        as_batch({"input_ids": ids})


def test_what_needs_the_loop_itself_is_refused(tmp_path: Path) -> None:
    student = language_model(1)
    with pytest.raises(RecipeError, match="moves with the student"):
        trainer_of(student, tmp_path, teacher=EMA(student))
    with pytest.raises(RecipeError, match="weight that the loop finds"):
        trainer_of(student, tmp_path, objective=CE() + Auto(0.5) * KD())
    with pytest.raises(RecipeError, match="name them"):
        trainer_of(student, tmp_path, objective=CE() + AttentionMaps())
    with pytest.raises(RecipeError, match="has modules of its own"):
        trainer_of(student, tmp_path, objective=CE() + HiddenStates(layers=((MAPS, MAPS),)))


@pytest.mark.parametrize(
    "objective", [DistiLLM2(), ReverseKL(over="student_written"), MiniLLM()], ids=lambda o: o.name
)
def test_what_the_student_writes_is_refused_by_name(tmp_path: Path, objective: Objective) -> None:
    with pytest.raises(RecipeError, match=f"{objective.name} reads text that is written"):
        trainer_of(language_model(1), tmp_path, objective=objective)
