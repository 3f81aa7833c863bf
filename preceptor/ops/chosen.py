"""The log-probability of given tokens, differentiable, a slice of positions at a time.

For what adds up over positions before it is compared (the likelihood of a chunk, of a sequence):
such a loss gives each position its gradient only once the whole sum is known. So the head is
evaluated twice, the second time in the backward pass; no [N, V] tensor exists in either.

Dimension key: *n positions, n those that are read, c of a slice, v classes, d width.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from preceptor.distributions import Head, Projected, at_least_float32
from preceptor.ops.projection import projected, slice_length
from preceptor.types import Outputs


def chosen_log_probs(
    shown: Projected | Float[Tensor, "*n v"],
    labels: Int[Tensor, "*n"],
    read: Bool[Tensor, "*n"],
) -> Float[Tensor, "*n"]:
    """log softmax(logits) of each position's label, at temperature 1.

    Args:
        shown: hidden states and their head, or logits.
        labels: classes.
        read: the positions to look at; the answer is 0 elsewhere, whatever the label.

    Returns:
        float32 or better, with a graph where `shown` has one.
    """
    index = read.flatten().nonzero().squeeze(1)
    picked = labels.flatten()[index]
    if isinstance(shown, Projected):
        head = shown.head
        values = _Chosen.apply(
            shown.hidden.flatten(0, -2)[index],
            head.weight,
            head.bias,
            (head.scale, head.cap),
            picked,
        )
        assert isinstance(values, Tensor)
    else:
        logits = at_least_float32(shown.flatten(0, -2)[index])
        values = torch.log_softmax(logits, dim=-1).gather(-1, picked.unsqueeze(-1)).squeeze(-1)
    return values.new_zeros(read.numel()).index_put((index,), values).view(read.shape)


def shown_by(student: Outputs) -> Projected | Float[Tensor, "*n v"]:
    """What a student shows, whichever it is."""
    return student.projection if student.is_projected() else student.logits


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        form: tuple[float, float],
        labels: Tensor,
    ) -> Tensor:
        head, length = Head(weight, bias, *form), slice_length(len(weight))
        values = at_least_float32(hidden.new_zeros(len(hidden)))
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), length):
                rows = slice(start, start + length)
                logits = head.logits(hidden[rows])
                chosen = logits.gather(-1, labels[rows].unsqueeze(-1)).squeeze(-1)
                values[rows] = chosen - logits.logsumexp(dim=-1)
        ctx.save_for_backward(hidden, weight, bias, labels)
        ctx.form = form
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, labels = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        leaves = [
            None if tensor is None else tensor.detach().requires_grad_(want)
            for tensor, want in zip((hidden, weight, bias), wanted, strict=True)
        ]
        with torch.enable_grad():
            assert leaves[0] is not None
            assert leaves[1] is not None
            head = Head(leaves[1], leaves[2], *ctx.form)
            total = projected(leaves[0], head, _Weighed(labels, outer[0]))
        asked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        found = iter(torch.autograd.grad(total, asked))
        grads = [None if leaf is None or not leaf.requires_grad else next(found) for leaf in leaves]
        return (*grads, None, None)


@final
@dataclass(frozen=True)
class _Weighed:
    """The sum of weights times log-probabilities of labels."""

    labels: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]

    def begin(self, rows: slice) -> None:
        del rows

    def value(self, logits: Float[Tensor, "c v"], rows: slice) -> Float[Tensor, ""]:
        chosen = logits.gather(-1, self.labels[rows].unsqueeze(-1)).squeeze(-1)
        return (self.weights[rows] * (chosen - logits.logsumexp(dim=-1))).sum()

    def gradient_(self, logits: Float[Tensor, "c v"], rows: slice) -> Float[Tensor, ""]:
        """Weight times (one at the label, less the probability)."""
        weights = self.weights[rows].unsqueeze(-1).to(logits.dtype)
        logits.sub_(logits.logsumexp(dim=-1, keepdim=True)).exp_().mul_(-weights)
        logits.scatter_add_(-1, self.labels[rows].unsqueeze(-1), weights)
        return logits.new_zeros(())
