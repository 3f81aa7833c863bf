"""Run by test_language_ranks.py, in one process and in two: trains each case and writes the end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from preceptor.models.load import save_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.ce import CE
from preceptor.teachers.adapter_base import AdapterBase
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.train import checkpoint
from preceptor.train.fit import run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.processes import make_accelerator
from preceptor.train.sharding import own_part
from preceptor.train.training import Training
from tests.train.sentences import LLAMA, SGD, language_model, language_training

ADAM = OptimizerPlan(name="adamw", lr=0.01)
GEMMA = {
    **LLAMA,
    "model_type": "gemma2",
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "final_logit_softcapping": 3.0,
}
LORA = {"rank": 2, "targets": ["q_proj", "down_proj", "lm_head"]}
CASES: dict[str, dict[str, Any]] = {
    "untied": {},
    # Several methods have their gradients taken apart in the first steps; one never has.
    "one method": {},
    "tied, soft-capped": {"causal": GEMMA},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "adapters": {"lora": LORA},
    "adapters, taught by their base": {"lora": LORA},
}


def made(case: str, plan: Plan) -> Training:
    student = language_model(1, **CASES[case])
    for name, parameter in student.module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    teacher: Teacher | None = AdapterBase(student) if "base" in case else None
    objective = CE() if case == "one method" else None
    return language_training(student, teacher=teacher, objective=objective, plan=plan)


def finish(training: Training) -> list[dict[str, float]]:
    return [step.terms | {"total": step.total} for step in run(training)]


def weights(student: TappedModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in student.module.named_parameters()}


def assert_spread(training: Training) -> None:
    """Sharding that was asked for was had, of the student and of a teacher with its own model."""
    models = [training.trainees[0].member.student.module]
    if isinstance(training.teacher, Live):
        models.append(training.teacher.model.module)
    for model in models:
        # A teacher's root, which has no backward pass, stays whole.
        layers = [p for name, p in model.named_parameters() if ".layers." in name]
        assert sum(own_part(p).numel() for p in layers) <= 0.6 * sum(p.numel() for p in layers)


def resumed(plan: Plan, out: Path) -> dict[str, torch.Tensor]:
    """Four steps, and two, a checkpoint and two more: the difference of each weight."""
    plan = replace(plan, optimizer=ADAM, ema=0.5, accumulate=1)
    straight = made("untied", plan)
    finish(straight)
    first = made("untied", plan)
    for losses in run(first):
        if losses.step == 2:
            checkpoint.save(first, out / "checkpoints")
            break
    again = made("untied", plan)
    assert not checkpoint.resume(again, out / "checkpoints")
    assert again.step == 2
    finish(again)
    one, other = weights(straight.students()[0]), weights(again.students()[0])
    return {f"resumed/{name}": other[name] - tensor for name, tensor in one.items()}


def main(out: Path, sharded: bool) -> None:
    plan = Plan(steps=4, batch=8, optimizer=SGD, accumulate=2, sharded=sharded, clip=0.7)
    tensors: dict[str, torch.Tensor] = {}
    losses: dict[str, Any] = {}
    main_process = make_accelerator(plan).is_main_process
    for case in CASES:
        training = made(case, plan)
        started = weights(training.students()[0])
        losses[case] = finish(training)
        if sharded:
            assert_spread(training)
        student = training.students()[0]
        tensors |= {f"{case}/{name}": tensor for name, tensor in weights(student).items()}
        tensors |= {f"moved/{case}/{n}": t - started[n] for n, t in weights(student).items()}
        if main_process:
            save_model(student, out / case.replace(" ", "-").replace(",", ""))
    tensors |= resumed(plan, out)
    if main_process:
        (out / "losses.json").write_text(json.dumps(losses))
        save_file(tensors, out / "weights.safetensors")
