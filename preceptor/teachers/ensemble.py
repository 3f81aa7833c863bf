"""Several teachers as one.

Dimension key: k members, *n positions, v classes.
"""

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.errors import ModelError, NeedsError, RecipeError
from preceptor.teachers.base import Teacher
from preceptor.teachers.weighting import agreement, confidence
from preceptor.types import (
    Batch,
    Changed,
    Dense,
    Kind,
    Mixture,
    Needs,
    Outputs,
    Projected,
    Signal,
    Whole,
    at_least_float32,
)

Combine = Literal["probabilities", "logits"]
Weights = tuple[float, ...] | Literal["uniform", "confidence", "agreement"]


@final
class Ensemble(Teacher):
    """The weighted mean of several teachers, which may be ensembles themselves.

    The mean of probabilities is exact at any temperature: members are softened, then averaged.
    The mean of logits is raw logits again; the member with the largest scale dominates it. No
    features and no classifier are shown: the members' differ in number and shape. A method that
    reads features takes one member as its teacher.

    Born-again networks (arXiv:1805.04770) end in this: the ensemble of all generations, each of
    which had the one before, alone, as its teacher.

    Args:
        members: at least one teacher.
        combine: what is averaged.
        weights: one number a member, that add up to 1; or a rule for each example, read at
            temperature 1: "confidence" and "agreement" are `weighting`'s functions. Examples
            without a label weigh all members the same under "agreement".
    """

    def __init__(
        self,
        members: Sequence[Teacher],
        combine: Combine = "probabilities",
        weights: Weights = "uniform",
    ) -> None:
        self.members, self.combine, self.weights = tuple(members), combine, weights
        if not self.members:
            raise RecipeError(
                "an ensemble of nobody", "a mean needs a member", "Name at least one teacher."
            )
        if not isinstance(weights, str):
            _check_fixed(weights, len(self.members))
        self._check_kinds()
        self._check_temperatures()

    def offers(self) -> Needs:
        """Probabilities at any temperature that all members answer at; logits if averaged."""
        kinds: set[Kind] = {"probabilities"}
        if self.combine == "logits":
            kinds.add("logits")
        return Needs(kinds=frozenset(kinds), temperatures=self._temperatures())

    def signal(self, batch: Batch) -> Signal:
        """Each member's answer, weighed."""
        signals = [member.signal(batch) for member in self.members]
        parts = [signal.whole for signal in signals]
        weights = self._weigh(parts, batch)
        if self.combine == "probabilities":
            return Signal(mixture(parts, weights))
        logits = torch.stack([at_least_float32(signal.logits) for signal in signals])
        return Signal(Dense((weights.unsqueeze(-1) * logits).sum(dim=0)))

    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        """Every member moves."""
        for member in self.members:
            member.learn(student, seen)

    def to(self, device: Any) -> "Ensemble":
        """Every member moved to a device."""
        self.members = tuple(member.to(device) for member in self.members)
        return self

    def state(self) -> dict[str, Tensor]:
        """The members' states, numbered."""
        return {
            f"{index}.{name}": tensor
            for index, member in enumerate(self.members)
            for name, tensor in member.state().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        for index, member in enumerate(self.members):
            own = f"{index}."
            member.load_state(
                {n.removeprefix(own): t for n, t in state.items() if n.startswith(own)}
            )

    def _weigh(self, parts: Sequence[Whole], batch: Batch) -> Float[Tensor, "k *n"]:
        first = _shape(parts[0])
        for part in parts[1:]:
            if (other := _shape(part)) != first:
                raise ModelError(
                    f"the ensemble's members answer {first} and {other}",
                    "a mean needs the same classes and positions from all",
                    "Choose members of one data set.",
                )
        k, n = len(parts), first[:-1]
        even = torch.full((k, *n), 1 / k, device=batch.mask("all").device)
        if self.weights == "uniform":
            return even
        if not isinstance(self.weights, str):
            fixed = even.new_tensor(self.weights)
            return fixed.view(k, *[1] * len(n)).expand(k, *n)
        if self.weights == "agreement" and not batch.mask("labelled").any():
            return even
        log_probs = torch.stack([part.log_probs(1.0) for part in parts])
        if self.weights == "confidence":
            return confidence(log_probs)
        return agreement(log_probs, batch.labels, batch.mask("labelled"))

    def _temperatures(self) -> frozenset[float]:
        bound = [t for member in self.members if (t := member.offers().temperatures)]
        return frozenset.intersection(*bound) if bound else frozenset()

    def _check_kinds(self) -> None:
        needed: Kind = "logits" if self.combine == "logits" else "probabilities"
        for index, member in enumerate(self.members):
            if needed not in member.offers().kinds:
                raise NeedsError(
                    f"member {index} ({type(member).__name__}) gives no {needed}",
                    f"the mean of {self.combine} needs them from every member",
                    "Leave that member out, or average probabilities.",
                )

    def _check_temperatures(self) -> None:
        bound = [t for member in self.members if (t := member.offers().temperatures)]
        if bound and not self._temperatures():
            given = ", ".join(f"{t:g}" for t in sorted(frozenset().union(*bound)))
            raise NeedsError(
                f"the ensemble's members answer at temperatures {given} alone",
                "their mean exists at a temperature that all have",
                "Leave one of them out.",
            )
        if self.weights in ("confidence", "agreement") and self._temperatures() - {1.0}:
            raise NeedsError(
                f"weights by {self.weights} with members that do not answer at temperature 1",
                "the weights are read there",
                "Give the weights as numbers, or leave that member out.",
            )


def mixture(parts: Sequence[Whole], weights: Float[Tensor, "k *n"]) -> Mixture:
    """The weighted mean of distributions; mixtures among them are opened up."""
    members: list[Dense | Projected | Changed] = []
    shares: list[Tensor] = []
    for part, weight in zip(parts, weights, strict=True):
        if isinstance(part, Mixture):
            members += part.members
            shares += list(weight * part.weights)
        else:
            members.append(part)
            shares.append(weight)
    return Mixture(tuple(members), torch.stack(shares))


def _shape(part: Whole) -> tuple[int, ...]:
    """[*n, v] of a distribution."""
    one = part.members[0] if isinstance(part, Mixture) else part
    one = one.of if isinstance(one, Changed) else one
    if isinstance(one, Projected):
        return (*one.hidden.shape[:-1], len(one.head.weight))
    return tuple(one.logits.shape)


def _check_fixed(weights: tuple[float, ...], count: int) -> None:
    if len(weights) != count or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise RecipeError(
            f"weights {list(weights)} for {count} members",
            "there must be one for each, none below 0, and they must add up to 1",
            "Divide each by their sum, or leave `weights` out for the plain mean.",
        )
