"""A teacher's probabilities, however they are held: whole, mixed, projected, cut to k, or drawn.

Every kind answers `at(index)`: the same distribution at some flattened positions, dense where it
was a projection. So a loss sees a slice of positions and never knows how the whole was held.

Dimension key: *n positions, n flattened ones, v classes, d width, k members, entries or draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.errors import NeedsError


@dataclass(frozen=True)
class Head:
    """A linear classifier: logits = cap(scale (x @ weight.T + bias)).

    Args:
        weight: [v, d].
        bias: [v], or none.
        scale: what logits are multiplied by before they are capped.
        cap: soft-cap c: c tanh(logits / c); 0 for none.
    """

    weight: Float[Tensor, "v d"]
    bias: Float[Tensor, " v"] | None = None
    scale: float = 1.0
    cap: float = 0.0

    def logits(self, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        """The logits, in float32 or better; the product itself is taken in the weight's dtype."""
        return self.finished(self.product(hidden))

    def product(self, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        """x @ weight.T + bias, in the weight's dtype."""
        return torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)

    def finished(self, product: Float[Tensor, "*n v"]) -> Float[Tensor, "*n v"]:
        """The logits, scaled and capped; the product itself where there is nothing to do."""
        raw = at_least_float32(product)
        if self.scale != 1.0:
            raw = raw * self.scale
        return self.cap * torch.tanh(raw / self.cap) if self.cap else raw

    def first(self, count: int) -> "Head":
        """The classifier of the first `count` classes alone: the others get no probability."""
        if count == len(self.weight):
            return self
        bias = None if self.bias is None else self.bias[:count]
        return Head(self.weight[:count], bias, self.scale, self.cap)

    def to(self, device: torch.device | str) -> "Head":
        """The same on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        return Head(self.weight.to(device), bias, self.scale, self.cap)

    def detached(self) -> "Head":
        """The same without its graph."""
        bias = None if self.bias is None else self.bias.detach()
        return Head(self.weight.detach(), bias, self.scale, self.cap)


@dataclass(frozen=True)
class Dense:
    """A distribution given by logits over all classes.

    `temperature` is None for raw logits, which answer at any temperature; a number where the
    logits are T log p of probabilities that exist at this T alone (an average of past ones).
    """

    logits: Float[Tensor, "*n v"]
    temperature: float | None = None

    def log_probs(self, temperature: float) -> Float[Tensor, "*n v"]:
        """log softmax(logits / temperature), in float32 or better."""
        check_temperature(self.temperature, temperature)
        return torch.log_softmax(at_least_float32(self.logits) / temperature, dim=-1)

    def at(self, index: Int[Tensor, " n"]) -> "Dense":
        """The distribution at flattened positions."""
        return Dense(self.logits.flatten(0, -2)[index], self.temperature)


@dataclass(frozen=True)
class Projected:
    """Hidden states and the classifier that makes logits of them, a slice at a time.

    For a student this is what its outputs hold; for a teacher it stands for `Dense` without ever
    being [*n, v].
    """

    hidden: Float[Tensor, "*n d"]
    head: Head

    def log_probs(self, temperature: float) -> Float[Tensor, "*n v"]:
        """Of all positions at once: for small sets and tests; `at` takes a slice."""
        return Dense(self.head.logits(self.hidden)).log_probs(temperature)

    def at(self, index: Int[Tensor, " n"]) -> Dense:
        """Logits at flattened positions."""
        return Dense(self.head.logits(self.hidden.flatten(0, -2)[index]))

    def to(self, device: torch.device | str) -> "Projected":
        """The same on another device."""
        return Projected(self.hidden.to(device), self.head.to(device))

    def detached(self) -> "Projected":
        """The same without its graph."""
        return Projected(self.hidden.detach(), self.head.detached())


@dataclass(frozen=True)
class Mixture:
    """A weighted mean of several members' probabilities, at whatever temperature it is read.

    `weights` are [k, *n] and sum to one over k.
    """

    members: "tuple[Dense | Projected | Changed, ...]"
    weights: Float[Tensor, "k *n"]

    def log_probs(self, temperature: float) -> Float[Tensor, "*n v"]:
        """log sum_k w_k softmax(logits_k / temperature), computed in log space."""
        each = torch.stack([member.log_probs(temperature) for member in self.members])
        return torch.logsumexp(each + self.weights.to(each.dtype).log().unsqueeze(-1), dim=0)

    def at(self, index: Int[Tensor, " n"]) -> "Mixture":
        """The mixture at flattened positions."""
        weights = self.weights.flatten(1)[:, index]
        return Mixture(tuple(member.at(index) for member in self.members), weights)


@dataclass(frozen=True)
class TopK:
    """The k largest probabilities at one temperature, and the mass of all other classes.

    Args:
        ids: classes [*n, k], no class twice; -1 where a position has fewer than k.
        log_p: their log-probabilities at `temperature`; -inf where `ids` is -1.
        log_tail: log of the mass that is left; -inf where the k cover everything.
        temperature: the only one that these numbers exist at.
        classes: v.
    """

    ids: Int[Tensor, "*n k"]
    log_p: Float[Tensor, "*n k"]
    log_tail: Float[Tensor, "*n"]
    temperature: float
    classes: int

    def at(self, index: Int[Tensor, " n"]) -> "TopK":
        """The same at flattened positions."""
        ids, log_p = self.ids.flatten(0, -2)[index], self.log_p.flatten(0, -2)[index]
        return TopK(ids, log_p, self.log_tail.flatten()[index], self.temperature, self.classes)


@dataclass(frozen=True)
class Sampled:
    """Classes drawn from the teacher with replacement, at one temperature: unbiased where linear.

    Args:
        ids: classes that were drawn [*n, k]; -1 where a position has fewer than k different ones.
        counts: how often each was drawn; 0 where `ids` is -1.
        entropy: of the whole distribution at `temperature`, in nats [*n].
        temperature: the one they were drawn at.
        classes: v.
    """

    ids: Int[Tensor, "*n k"]
    counts: Int[Tensor, "*n k"]
    entropy: Float[Tensor, "*n"]
    temperature: float
    classes: int

    def at(self, index: Int[Tensor, " n"]) -> "Sampled":
        """The same at flattened positions."""
        ids, counts = self.ids.flatten(0, -2)[index], self.counts.flatten(0, -2)[index]
        return Sampled(ids, counts, self.entropy.flatten()[index], self.temperature, self.classes)


@dataclass(frozen=True)
class Changed:
    """Raw logits that are changed where they are read: a slice at a time, as they are made.

    Args:
        of: whose logits.
        names: numbers that name each position; a change is a function of them and the logits.
        change: from logits [n, v] and names [n, k] to logits [n, v].
    """

    of: Dense | Projected
    names: Int[Tensor, "*n k"]
    change: Callable[[Tensor, Tensor], Tensor]

    def log_probs(self, temperature: float) -> Float[Tensor, "*n v"]:
        """Of all positions at once: for small sets and tests; `at` takes a slice."""
        shape = self.names.shape[:-1]
        every = torch.arange(math.prod(shape), device=self.names.device)
        return self.at(every).log_probs(temperature).unflatten(0, shape)

    def at(self, index: Int[Tensor, " n"]) -> Dense:
        """Changed logits at flattened positions."""
        logits = at_least_float32(self.of.at(index).logits)
        return Dense(self.change(logits, self.names.flatten(0, -2)[index]))


Whole = Dense | Projected | Mixture | Changed
"""What answers with the probability of every class."""

Distribution = Dense | Projected | Mixture | Changed | TopK | Sampled


def check_temperature(held: float | None, asked: float) -> None:
    """Raise where probabilities that exist at one temperature are read at another."""
    if held is not None and asked != held:
        raise NeedsError(
            f"the teacher's probabilities were read at temperature {asked:g}",
            f"they exist at {held:g} alone",
            f"Set the objective's temperature to {held:g}, or take the teacher's answers anew.",
        )


def detached_head(head: Head | None) -> Head | None:
    """A classifier without its graph; None stays None."""
    return None if head is None else head.detached()


def at_least_float32(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """float16 and bfloat16 become float32; float32 and float64 stay."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def positions(shape: Sequence[int]) -> int:
    """How many positions a shape [*n, v] has."""
    return math.prod(shape[:-1])
