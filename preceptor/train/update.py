"""From terms to gradients: the one reduction, jointly or method by method.

A term's total is divided by its count over the whole optimiser step. In most steps all methods
share one backward pass. In the first steps, and now and then, each method's gradient is taken
apart: that gives its share, settles `weight: auto`, and costs one backward pass a method.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import RecipeError
from preceptor.objectives.base import group
from preceptor.objectives.reduction import by_example, total
from preceptor.types import Batch, Over, Term, Terms

SETTLING_STEPS = 5
"""Steps over which an automatic weight averages the norms that it balances."""


@final
@dataclass(frozen=True)
class Counts:
    """How many values count in one optimiser step, over all micro-batches and ranks."""

    numbers: Mapping[tuple[str, str], float]

    def of(self, term: Term) -> float:
        """What a term's total is divided by; at least 1, so that nothing to learn is zero."""
        return 1.0 if term.per == "batch" else max(1.0, self.numbers[(term.over, term.per)])


def count_step(batch: Batch) -> Counts:
    """The counts of this rank's rows, added over ranks."""
    overs: tuple[Over, ...] = ("all", "labelled", *sorted(batch.masks))
    pers = ("position", "example")
    keys = [(over, per) for over in overs for per in pers]
    numbers: list[Tensor] = []
    for over in overs:
        mask = batch.mask(over)
        positions = mask.sum()
        numbers += [positions, positions if mask.ndim == 1 else by_example(mask).sum()]
    sums = torch.stack(numbers)
    if dist.is_initialized():
        dist.all_reduce(sums)
    return Counts(dict(zip(keys, sums.double().tolist(), strict=True)))


def reduced(
    terms: Terms, batch: Batch, counts: Counts, factor: float
) -> dict[str, Float[Tensor, ""]]:
    """Each term's share of the step's mean, unweighted; `factor` undoes an averaging over ranks."""
    return {name: total(term, batch) * (factor / counts.of(term)) for name, term in terms.items()}


@final
@dataclass
class Balance:
    """The weights that the loop finds, and each method's latest share of the gradient."""

    weights: dict[str, float] = field(default_factory=dict)
    norms: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    measured: int = 0

    def weight(self, name: str, term: Term) -> float:
        """A term's weight, found or given."""
        return term.weight if term.auto is None else term.weight * self.weights[group(name)]

    def settled(self) -> bool:
        """Whether automatic weights are fixed by now."""
        return self.measured >= SETTLING_STEPS

    def measure(self, norms: Mapping[str, float], autos: Mapping[str, float]) -> None:
        """Take note of each method's gradient norm (automatic ones without a weight).

        Automatic methods are to have `autos[name]` of the sum of all norms: with fixed methods
        of norm F in total, the sum is F / (1 - all automatic shares).
        """
        if autos and not self.settled():
            for name, norm in norms.items():
                self.norms.setdefault(name, []).append(norm)
            mean = {name: sum(values) / len(values) for name, values in self.norms.items()}
            fixed = sum(norm for name, norm in mean.items() if name not in autos)
            rest = 1.0 - sum(autos.values())
            if rest <= 0 or fixed == 0:
                raise RecipeError(
                    f"automatic weights for {', '.join(autos)} with shares {list(autos.values())}",
                    "they are balanced against methods with a weight of their own, which keep the "
                    "rest of the gradient; here nothing is left for them",
                    "Give one method a number, and shares that add up to less than 1.",
                )
            for name, share in autos.items():
                self.weights[name] = share * fixed / rest / mean[name] if mean[name] else 1.0
        self.measured += 1
        scaled = {name: norm * self.weights.get(name, 1.0) for name, norm in norms.items()}
        everything = sum(scaled.values())
        self.shares = {n: v / everything if everything else 0.0 for n, v in scaled.items()}

    def state(self) -> dict[str, Any]:
        """For a checkpoint, as JSON."""
        return {
            "weights": self.weights,
            "norms": self.norms,
            "shares": self.shares,
            "measured": self.measured,
        }


class MethodGradients:
    """Gradients method by method, added over the micro-batches of one step."""

    def __init__(self, parameters: Sequence[nn.Parameter], shared: int) -> None:
        """`parameters` are all that move; the first `shared` are the student's own."""
        self.parameters = list(parameters)
        self.shared = shared
        self.grads: dict[str, list[Tensor | None]] = {}
        self.autos: dict[str, float] = {}

    def add(self, losses: Mapping[str, Tensor], terms: Terms, scale: float) -> None:
        """One micro-batch: each method's weighted loss; automatic weights are left out."""
        for name, term in terms.items():
            if term.auto is not None:
                self.autos[group(name)] = term.auto
        for index, (method, weighted) in enumerate(losses.items()):
            loss = weighted * scale
            held = self.grads.setdefault(method, [None] * len(self.parameters))
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(
                loss, self.parameters, retain_graph=index < len(losses) - 1, allow_unused=True
            )
            self.grads[method] = [
                new if old is None else old if new is None else old + new
                for old, new in zip(held, found, strict=True)
            ]

    def settle(self, balance: Balance, scale: float) -> None:
        """Average over ranks, measure, and put the weighted sum where an optimizer finds it."""
        if dist.is_initialized():
            self._average()
        norms = {
            method: math.sqrt(
                sum(float(g.double().square().sum()) for g in grads[: self.shared] if g is not None)
            )
            for method, grads in self.grads.items()
        }
        balance.measure({method: norm / scale for method, norm in norms.items()}, self.autos)
        for index, parameter in enumerate(self.parameters):
            weighted = [
                grad * (balance.weights[method] if method in self.autos else 1.0)
                for method, grads in self.grads.items()
                if (grad := grads[index]) is not None
            ]
            # A parameter that nobody reads keeps no gradient: a zero would let decay move it.
            parameter.grad = torch.stack(weighted).sum(dim=0) if weighted else None

    def _average(self) -> None:
        for grads in self.grads.values():
            for index, parameter in enumerate(self.parameters):
                used = torch.tensor(float(grads[index] is not None), device=parameter.device)
                dist.all_reduce(used)
                if used == 0:
                    continue
                grad = grads[index]
                grad = torch.zeros_like(parameter) if grad is None else grad.contiguous()
                dist.all_reduce(grad)
                grads[index] = grad / dist.get_world_size()
