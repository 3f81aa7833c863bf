"""A teacher's distribution and a student's, over the same bins, whatever the teacher's is.

Whole distributions keep every class as a bin. A top-k one has k bins and one for all the rest:
the student's mass outside the k is summed. Draws have no bins; they serve losses that are linear
in the teacher (`forward_kl_to`).

Dimension key: *n positions, v classes, k entries, b bins.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.distributions import Distribution, Sampled, TopK, at_least_float32, check_temperature
from preceptor.errors import ModelError, NeedsError
from preceptor.ops.divergences import kl_between_logs


@dataclass(frozen=True)
class Paired:
    """Log-probabilities over the same bins: the teacher's, detached, and the student's."""

    teacher: Float[Tensor, "*n b"]
    student: Float[Tensor, "*n b"]


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
    q = torch.log_softmax(at_least_float32(student) / temperature, dim=-1)
    if not isinstance(teacher, TopK):
        p = teacher.log_probs(temperature).detach()
        _same_classes(p.shape[-1], q.shape[-1])
        return Paired(p, q)
    check_temperature(teacher.temperature, temperature)
    _same_classes(teacher.classes, q.shape[-1])
    there = teacher.ids >= 0
    ids = teacher.ids.clamp_min(0).long()
    kept = q.gather(-1, ids).masked_fill(~there, -torch.inf)
    # The rest is summed over the classes themselves: 1 - sum would lose all digits of a small tail.
    last = torch.full_like(ids[..., :1], q.shape[-1])
    gone = torch.zeros(*q.shape[:-1], q.shape[-1] + 1, dtype=torch.bool, device=q.device)
    gone.scatter_(-1, torch.where(there, ids, last), True)
    tail = q.masked_fill(gone[..., :-1], -torch.inf).logsumexp(dim=-1, keepdim=True)
    p = torch.cat([teacher.log_p, teacher.log_tail.unsqueeze(-1)], dim=-1)
    return Paired(at_least_float32(p).detach(), torch.cat([kept, tail], dim=-1))


def forward_kl_to(
    teacher: Distribution, student: Float[Tensor, "*n v"], temperature: float
) -> Float[Tensor, "*n"]:
    """KL(p || q) over the teacher's bins; for draws its unbiased estimate, which may be below 0."""
    if not isinstance(teacher, Sampled):
        both = paired(teacher, student, temperature)
        return kl_between_logs(both.teacher, both.student)
    check_temperature(teacher.temperature, temperature)
    _same_classes(teacher.classes, student.shape[-1])
    q = torch.log_softmax(at_least_float32(student) / temperature, dim=-1)
    counts = teacher.counts.to(q.dtype)
    chosen = q.gather(-1, teacher.ids.clamp_min(0).long())
    cross = -(counts * chosen).sum(dim=-1) / counts.sum(dim=-1)
    return cross - teacher.entropy


def _same_classes(teacher: int, student: int) -> None:
    if teacher != student:
        raise ModelError(
            f"the teacher's distribution is over {teacher} classes, the student's over {student}",
            "both are read class by class",
            "Use models that share a vocabulary, set padded rows aside, or use a method for two "
            "tokenisers (uld, byte_chunks).",
        )
