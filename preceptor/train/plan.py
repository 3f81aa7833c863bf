"""How a stage is trained: steps, batch, optimizer, schedule, precision."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from preceptor.errors import RecipeError
from preceptor.fields import Count, Fraction, Index, NonNegative, Positive, check_ranges

_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class OptimizerPlan:
    """Which optimizer, and its numbers.

    Args:
        name: stochastic gradient descent with momentum, Adam, or Adam with decoupled decay.
        lr: the peak learning rate.
        momentum: of SGD.
        nesterov: SGD's look-ahead form.
        weight_decay: L2 for SGD and Adam, decoupled for AdamW.
        betas: of Adam and AdamW.
        auxiliary_lr: the learning rate of the methods' own modules, as a multiple of `lr`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.05
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    auxiliary_lr: Positive = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class SchedulePlan:
    """How the learning rate moves over a stage.

    Args:
        name: "constant", "cosine" to zero, "linear" to zero, or "drops" by `factor`.
        warmup: the share of the steps over which the rate rises linearly from zero.
        drops: for "drops", the shares of the stage at which the rate falls (150/240 is 0.625).
        factor: what the rate is multiplied with at each drop.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    name: Literal["constant", "cosine", "linear", "drops"] = "constant"
    warmup: Fraction = 0.0
    drops: tuple[Fraction, ...] = ()
    factor: Positive = 0.1

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.name == "drops") != bool(self.drops):
            raise RecipeError(
                f"schedule {self.name!r} with drops {list(self.drops)}",
                "`drops` belongs to the schedule of that name, and that schedule needs it",
                "Write {name: drops, drops: [0.625, 0.75, 0.875]}, or leave `drops` out.",
            )


@dataclass(frozen=True)
class Plan:
    """How long and how one stage trains.

    Args:
        steps: optimiser steps; 0 where `epochs` says how long.
        epochs: passes over the labelled data; 0 where `steps` says how long.
        batch: labelled examples in an optimiser step, over all processes and micro-batches.
        unlabelled_batch: unlabelled examples drawn beside them in each step; 0 means as many as
            `batch` where the data has any. The control arm draws none of them.
        accumulate: micro-batches a step is split into, for memory; it changes no number.
        clip: the gradient norm is clipped to this; 0 for no clipping.
        optimizer, schedule: see there.
        trainable: globs of parameter names that move; all others stand still.
        precision: the student's forward pass runs in this; losses are computed in float32.
        ema: the decay of an average of the student's weights, which is then what is evaluated and
            saved; 0 for none.
        sharded: spread the student's weights, gradients and optimizer state, and a live language
            model's weights, over the processes (FSDP2); changes no number.
        keep_auxiliary: whether the next stage begins with this one's auxiliary modules.
        probe_every: each method's share of the gradient is measured in the first steps and then
            every so many; 0 for the first steps only.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    steps: Index = 0
    epochs: Index = 0
    batch: Count = 64
    unlabelled_batch: Index = 0
    accumulate: Count = 1
    clip: NonNegative = 0.0
    optimizer: OptimizerPlan = field(default_factory=OptimizerPlan)
    schedule: SchedulePlan = field(default_factory=SchedulePlan)
    trainable: tuple[str, ...] = ("*",)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: Fraction = 0.0
    sharded: bool = False
    keep_auxiliary: bool = False
    probe_every: Index = 100

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.steps == 0) == (self.epochs == 0):
            raise RecipeError(
                f"a plan with steps={self.steps} and epochs={self.epochs}",
                "exactly one of them says how long to train",
                "Give one and leave the other out.",
            )
