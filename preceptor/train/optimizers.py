"""A plan's optimizer, its learning rate at a step, and its state by parameter names."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from preceptor.errors import RecipeError, nearest
from preceptor.models.lora import movable
from preceptor.train.plan import OptimizerPlan, SchedulePlan
from preceptor.train.sharding import part_of

_LARGE = 1_000_000


def make_optimizer(
    plan: OptimizerPlan, student: Mapping[str, nn.Parameter], aux: Mapping[str, nn.Parameter]
) -> torch.optim.Optimizer:
    """An optimizer over the parameters that move; groups carry their share of the learning rate."""
    groups: list[dict[str, Any]] = []
    for named, factor in ((student, 1.0), (aux, plan.auxiliary_lr)):
        if named:
            groups.append({"params": list(named.values()), "lr": plan.lr * factor, "share": factor})
    if plan.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=plan.lr,
            momentum=plan.momentum,
            nesterov=plan.nesterov,
            weight_decay=plan.weight_decay,
        )
    kind = torch.optim.Adam if plan.name == "adam" else torch.optim.AdamW
    # One pass over the memory in place of a dozen: ten times as quick at ten million numbers. Small
    # models hardly feel it, and keep the roundings that their published figures were made with.
    large = sum(p.numel() for group in groups for p in group["params"]) >= _LARGE
    return kind(
        groups, lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay, fused=large or None
    )


def rate_factor(schedule: SchedulePlan, step: int, steps: int) -> float:
    """What the learning rate is multiplied with in the step after `step` done ones.

    >>> rate_factor(SchedulePlan(name="cosine"), 50, 100)
    0.5
    """
    done = step / max(1, steps)
    if done < schedule.warmup:
        return (step + 1) / max(1.0, schedule.warmup * steps)
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "drops":
        return schedule.factor ** sum(done >= drop for drop in schedule.drops)
    rest = (done - schedule.warmup) / (1 - schedule.warmup) if schedule.warmup < 1 else 1.0
    if schedule.name == "linear":
        return 1.0 - rest
    return 0.5 * (1 + math.cos(math.pi * rest))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]


def trainable(module: nn.Module, globs: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """The parameters that a plan's globs name; a glob that names none is an error.

    Of a student with adapters, those of the adapters alone.
    """
    named = movable(module)
    for glob in globs:
        if named and not any(fnmatchcase(name, glob) for name in named):
            raise RecipeError(
                f"trainable: {glob!r}",
                "no parameter of the student has such a name",
                f"Nearest: {nearest(glob, named)}.",
            )
    return {n: p for n, p in named.items() if any(fnmatchcase(n, glob) for glob in globs)}


def optimizer_state(
    optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Every state tensor under "parameter|slot"; the numbers of the groups stand in the plan."""
    return {
        f"{name}|{slot}": torch.as_tensor(value)
        for name, parameter in names.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    names: Mapping[str, nn.Parameter],
    state: Mapping[str, Tensor],
) -> None:
    """Takes back what `optimizer_state` gave."""
    for key, value in state.items():
        name, _, slot = key.rpartition("|")
        parameter = names[name]
        # Adam's step counter stays on the CPU, as torch keeps it, unless one kernel does it all.
        beside = value.dim() > 0 or bool(optimizer.param_groups[0].get("fused"))
        there = value.to(parameter.device) if beside else value
        moved = part_of(there, parameter.data).clone()
        optimizer.state[parameter][slot] = moved
