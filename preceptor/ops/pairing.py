"""A teacher's distribution and a student's, over the same bins, whatever the teacher's is.

Whole distributions keep every class as a bin. A top-k one has k bins and one for all the rest:
the student's mass outside the k is summed. Draws have no bins; they serve losses that are linear
in the teacher (`forward_kl_to`).

A divergence over fewer bins is at most the one over all classes, and zero for an equal student.

Dimension key: *n positions, v classes, k entries, b bins.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.distributions import Distribution, Sampled, TopK, at_least_float32, check_temperature
from preceptor.errors import ModelError, NeedsError
from preceptor.ops.divergences import kl_between_logs, log_probs_of


@dataclass(frozen=True)
class Paired:
    """Log-probabilities over the same bins: the teacher's, detached, and the student's.

    `rest` says that the last bin is all classes that have none of their own.
    """

    teacher: Float[Tensor, "*n b"]
    student: Float[Tensor, "*n b"]
    rest: bool = False


def paired(teacher: Distribution, student: Float[Tensor, "*n v"], temperature: float) -> Paired:
    """Both over the bins that the teacher's distribution knows.

    Args:
        teacher: any distribution but draws.
        student: logits over all classes.
        temperature: of both.

    Raises:
        NeedsError: draws were given, or the teacher exists at another temperature alone.
        ModelError: the two do not have the same number of classes.
    """
    if isinstance(teacher, Sampled):
        raise NeedsError(
            "a teacher's draws were read as probabilities",
            "what is drawn is unbiased only where the loss is linear in the teacher",
            "Use forward KL, or a cache of the largest probabilities.",
        )
    if not isinstance(teacher, TopK):
        p = teacher.log_probs(temperature).detach()
        same_classes(p.shape[-1], student.shape[-1])
        return Paired(p, log_probs_of(student, temperature))
    check_temperature(teacher.temperature, temperature)
    same_classes(teacher.classes, student.shape[-1])
    p = torch.cat([teacher.log_p, teacher.log_tail.unsqueeze(-1)], dim=-1)
    q = _binned(student, teacher.ids, temperature)
    return Paired(at_least_float32(p).detach(), q, rest=True)


def forward_kl_to(
    teacher: Distribution, student: Float[Tensor, "*n v"], temperature: float
) -> Float[Tensor, "*n"]:
    """KL(p || q) over the teacher's bins; for draws its unbiased estimate, which may be below 0."""
    if not isinstance(teacher, Sampled):
        both = paired(teacher, student, temperature)
        return kl_between_logs(both.teacher, both.student)
    check_temperature(teacher.temperature, temperature)
    same_classes(teacher.classes, student.shape[-1])
    chosen = log_probs_at(student, teacher.ids, temperature)
    # What was never drawn adds 0, and not 0 * inf; a position without draws has no cross-entropy.
    counts = teacher.counts.to(chosen.dtype)
    crossed = counts * chosen.masked_fill(teacher.counts == 0, 0.0)
    return -crossed.sum(dim=-1) / counts.sum(dim=-1).clamp_min(1.0) - teacher.entropy


def log_probs_at(
    logits: Float[Tensor, "*n v"], ids: Int[Tensor, "*n k"], temperature: float
) -> Float[Tensor, "*n k"]:
    """log softmax(logits / T) of some classes, none of them twice; -inf where an id is -1."""
    return _binned(logits, ids, temperature)[..., :-1]


def _binned(
    logits: Float[Tensor, "*n v"], ids: Int[Tensor, "*n k"], temperature: float
) -> Float[Tensor, "*n b"]:
    found = _Binned.apply(logits, ids.long(), temperature)
    assert isinstance(found, Tensor)
    return found


class _Binned(torch.autograd.Function):
    """log-probabilities [*n, k + 1] of k classes and of all others together, from logits [*n, v].

    Autograd's own way through a log-softmax, a mask and a logsumexp keeps four tensors [*n, v];
    here one is made in the forward pass and dropped, and one in the backward pass is the gradient.
    The rest is summed over its own classes, from its own largest on: 1 - sum, or exponentials
    taken from the largest of all, would lose a small tail's digits.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
        work, places = _with_a_place_for_nobody(logits, ids, temperature)
        kept = work.gather(-1, places)
        work.scatter_(-1, places, -torch.inf)
        top = _or_zero(work.amax(dim=-1, keepdim=True))
        tail = work.sub_(top).exp_().sum(dim=-1, keepdim=True).log() + top
        bins = torch.cat([kept, tail], dim=-1)
        logs = bins - bins.logsumexp(dim=-1, keepdim=True)
        ctx.save_for_backward(logits, places, logs, tail)
        ctx.temperature = temperature
        return logs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, places, logs, tail = ctx.saved_tensors
        grad = torch.where(logs == -torch.inf, 0.0, outer[0])  # what is ruled out cannot move
        of_bins = (grad - logs.exp() * grad.sum(dim=-1, keepdim=True)) / ctx.temperature
        # A class in the tail has its share of the tail's gradient.
        work, _ = _with_a_place_for_nobody(logits, places, ctx.temperature)
        shares = work.sub_(_or_zero(tail)).exp_().mul_(of_bins[..., -1:])
        shares.scatter_(-1, places, of_bins[..., :-1])
        return shares[..., :-1].to(logits.dtype), None, None


def _or_zero(top: Tensor) -> Tensor:
    # Where no class is left it is -inf, and -inf - -inf would be NaN.
    return top.masked_fill(top == -torch.inf, 0.0)


def _with_a_place_for_nobody(
    logits: Tensor, ids: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """A copy of logits / T in float32 or better, with one more class at -inf; ids of -1 mean it."""
    classes = logits.shape[-1]
    dtype = at_least_float32(logits[..., :0]).dtype
    work = logits.new_empty((*logits.shape[:-1], classes + 1), dtype=dtype)
    work[..., :-1].copy_(logits).div_(temperature)
    work[..., -1] = -torch.inf
    return work, torch.where(ids >= 0, ids, classes)


def same_classes(teacher: int, student: int) -> None:
    """Raise `ModelError` where two distributions are over different numbers of classes."""
    if teacher != student:
        raise ModelError(
            f"the teacher's distribution is over {teacher} classes, the student's over {student}",
            "both are read class by class",
            "Use models that share a vocabulary, set padded rows aside, or use a method for two "
            "tokenisers (uld, byte_chunks).",
        )
