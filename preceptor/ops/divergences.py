"""Divergences between a teacher's and a student's distribution: one number a position.

What has `_between_logs` in its name takes log-probabilities [*n, b] over the same bins, which may
be classes or what `ops.pairing` makes of a teacher that is not whole. The others take logits
[*n, v] and a temperature, in float32 or better. Sides are said by name. A bin that the teacher
rules out (-inf) adds nothing, unless the divergence is infinite by definition there.

None has a factor T^2. Objectives of the vision literature multiply by it (KD, DKD, NKD, ...: with
it the gradient keeps its scale as T grows, Hinton et al.); those of language models do not (GKD,
skewed, adaptive, ...: as their papers and code, all at T = 1, where the two are the same).

Dimension key: *n positions, v classes, b bins.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from preceptor.types import at_least_float32


def forward_kl(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float = 1.0
) -> Float[Tensor, "*n"]:
    """KL(p || q) with p = softmax(teacher / T), q = softmax(student / T).

    >>> logits = torch.tensor([[0.0, 0.0]])
    >>> forward_kl(teacher=logits, student=logits)
    tensor([0.])
    """
    return kl_between_logs(log_probs_of(teacher, temperature), log_probs_of(student, temperature))


def reverse_kl(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float = 1.0
) -> Float[Tensor, "*n"]:
    """KL(q || p) with p = softmax(teacher / T), q = softmax(student / T).

    Infinite where the student gives mass to a class that the teacher rules out.
    """
    return kl_between_logs(log_probs_of(student, temperature), log_probs_of(teacher, temperature))


def jensen_shannon(
    *,
    teacher: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    temperature: float = 1.0,
    beta: float = 0.5,
    normalised: bool = False,
) -> Float[Tensor, "*n"]:
    """`jensen_shannon_between_logs` of softmax(teacher / T) and softmax(student / T).

    >>> far = torch.tensor([[0.0, 1e4]])
    >>> round(float(jensen_shannon(teacher=far, student=-far)), 4) == round(math.log(2), 4)
    True
    """
    return jensen_shannon_between_logs(
        teacher=log_probs_of(teacher, temperature),
        student=log_probs_of(student, temperature),
        beta=beta,
        normalised=normalised,
    )


def skew_kl(
    *,
    teacher: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Float[Tensor, "*n"]:
    """`skew_kl_between_logs` of softmax(teacher / T) and softmax(student / T)."""
    return skew_kl_between_logs(
        teacher=log_probs_of(teacher, temperature),
        student=log_probs_of(student, temperature),
        skew=skew,
    )


def skew_reverse_kl(
    *,
    teacher: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Float[Tensor, "*n"]:
    """`skew_reverse_kl_between_logs` of softmax(teacher / T) and softmax(student / T)."""
    return skew_reverse_kl_between_logs(
        teacher=log_probs_of(teacher, temperature),
        student=log_probs_of(student, temperature),
        skew=skew,
    )


def total_variation(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float = 1.0
) -> Float[Tensor, "*n"]:
    """`total_variation_between_logs` of softmax(teacher / T) and softmax(student / T).

    >>> total_variation(teacher=torch.tensor([0.0, 0.0]), student=torch.tensor([0.0, 99.0]))
    tensor(0.5000)
    """
    return total_variation_between_logs(
        teacher=log_probs_of(teacher, temperature), student=log_probs_of(student, temperature)
    )


def adaptive_kl(
    *,
    teacher: Float[Tensor, "*n v"],
    student: Float[Tensor, "*n v"],
    temperature: float = 1.0,
    head: float = 0.5,
) -> Float[Tensor, "*n"]:
    """`adaptive_kl_between_logs` of softmax(teacher / T) and softmax(student / T)."""
    return adaptive_kl_between_logs(
        teacher=log_probs_of(teacher, temperature),
        student=log_probs_of(student, temperature),
        head=head,
    )


def kl_from_logs(
    *, p: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"], temperature: float
) -> Float[Tensor, "*n"]:
    """KL(p || q) for log-probabilities p and student logits; classes with p = 0 add nothing."""
    return kl_between_logs(p, log_probs_of(student, temperature))


def kl_between_logs(p: Float[Tensor, "*n b"], q: Float[Tensor, "*n b"]) -> Float[Tensor, "*n"]:
    """KL(p || q): forward where p is the teacher's side, reverse where q is."""
    return kl_shares(p, q, p == -torch.inf).sum(dim=-1)


def jensen_shannon_between_logs(
    *,
    teacher: Float[Tensor, "*n b"],
    student: Float[Tensor, "*n b"],
    beta: float,
    normalised: bool = False,
) -> Float[Tensor, "*n"]:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.

    At beta = 1/2 it is symmetric and at most log 2. Towards either end it fades: near q = p it is
    beta (1 - beta) KL, 25 times less at 0.01 than at 1/2. `normalised` divides by beta (1 - beta),
    so that it goes over into KL(p || q) at 0 and KL(q || p) at 1. Exactly 0 and exactly 1 are
    these two, normalised or not.
    """
    if beta in (0.0, 1.0):
        first, second = (teacher, student) if beta == 0.0 else (student, teacher)
        return kl_between_logs(first, second)
    m = mixture_of_logs(teacher, student, beta)
    value = beta * kl_between_logs(teacher, m) + (1 - beta) * kl_between_logs(student, m)
    return value / (beta * (1 - beta)) if normalised else value


def skew_kl_between_logs(
    *, teacher: Float[Tensor, "*n b"], student: Float[Tensor, "*n b"], skew: float
) -> Float[Tensor, "*n"]:
    """KL(p || skew p + (1 - skew) q), at most -log(skew); `skew` is the teacher's share, 0 to 1."""
    return kl_between_logs(teacher, mixture_of_logs(teacher, student, skew))


def skew_reverse_kl_between_logs(
    *, teacher: Float[Tensor, "*n b"], student: Float[Tensor, "*n b"], skew: float
) -> Float[Tensor, "*n"]:
    """KL(q || (1 - skew) p + skew q), at most -log(skew); `skew` is the student's share, 0 to 1."""
    return kl_between_logs(student, mixture_of_logs(student, teacher, skew))


def total_variation_between_logs(
    *, teacher: Float[Tensor, "*n b"], student: Float[Tensor, "*n b"]
) -> Float[Tensor, "*n"]:
    """Half of sum |p - q|: the largest difference in probability of any event, 0 to 1."""
    return (teacher.exp() - student.exp()).abs().sum(dim=-1) / 2


def adaptive_kl_between_logs(
    *,
    teacher: Float[Tensor, "*n b"],
    student: Float[Tensor, "*n b"],
    head: float = 0.5,
    rest: bool = False,
) -> Float[Tensor, "*n"]:
    """g_h / (g_h + g_t) KL(p || q) + g_t / (g_h + g_t) KL(q || p), the g without gradient.

    The head is the teacher's most likely bins, up to and with the one at which their mass reaches
    `head`; all others are the tail. g is sum |p - q| over either. `rest` says that the last bin is
    many classes taken together: it lies in the tail, however heavy. Of equally likely bins the
    first comes first. Equal sides have halves for weights.
    """
    with torch.no_grad():
        p = teacher.exp()
        share = head_share(p, (p - student.exp()).abs(), head, rest=rest)
    forward, reverse = kl_between_logs(teacher, student), kl_between_logs(student, teacher)
    return share * forward + (1 - share) * reverse


_FEW = 256
"""Bins among which a head is looked for before all are sorted."""


def head_share(
    p: Float[Tensor, "*n b"], gaps: Float[Tensor, "*n b"], head: float, *, rest: bool = False
) -> Float[Tensor, "*n"]:
    """The share of the gaps that lies at the head of p; a half where there are no gaps.

    The head is the likeliest bins, up to and with the one at which their mass reaches `head`, the
    first of equally likely ones first; with `rest` the last bin is never in it.
    """
    own = p[..., :-1] if rest else p
    top, order = own.topk(min(_FEW, own.shape[-1]), dim=-1)
    inside = top.cumsum(dim=-1) - top < head
    at_head = (gaps.gather(-1, order) * inside).sum(dim=-1)
    # Past the few, or where what comes next is as likely as the last, a stable order decides.
    if top.shape[-1] < own.shape[-1]:
        last = (inside.sum(dim=-1, keepdim=True) - 1).clamp_min(0)
        after = (last + 1).clamp_max(top.shape[-1] - 1)
        open_ = (top.gather(-1, last) == top.gather(-1, after)).squeeze(-1)
    else:
        open_ = torch.ones_like(at_head, dtype=torch.bool)
    if open_.any():
        mass, order = own[open_].sort(dim=-1, descending=True, stable=True)
        inside = mass.cumsum(dim=-1) - mass < head
        at_head[open_] = (gaps[open_].gather(-1, order) * inside).sum(dim=-1)
    gap = gaps.sum(dim=-1)
    return torch.where(gap > 0, at_head / gap.clamp_min(torch.finfo(gap.dtype).tiny), 0.5)


def mixture_of_logs(
    first: Float[Tensor, "*n b"], second: Float[Tensor, "*n b"], share: float
) -> Float[Tensor, "*n b"]:
    """log(share a + (1 - share) b) for log a and log b, 0 < share < 1; 0 where both are -inf.

    A log of averaged probabilities underflows on confident, disjoint sides; logaddexp does not.
    """
    # Where both rule a bin out, logaddexp's gradient is NaN; such a bin adds nothing anyway.
    nobody = (first == -torch.inf) & (second == -torch.inf)
    a = first.masked_fill(nobody, 0.0) + math.log(share)
    return torch.logaddexp(a, second.masked_fill(nobody, 0.0) + math.log1p(-share))


def log_probs_of(logits: Float[Tensor, "*n v"], temperature: float) -> Float[Tensor, "*n v"]:
    """log softmax(logits / T), in float32 or better."""
    return torch.log_softmax(at_least_float32(logits) / temperature, dim=-1)


def kl_shares(
    p: Float[Tensor, "*n b"], q: Float[Tensor, "*n b"], ruled_out: Bool[Tensor, "*n b"]
) -> Float[Tensor, "*n b"]:
    """Each bin's part of KL(p || q), for logarithms: 0 (and not 0 * inf) where p is 0."""
    return p.masked_fill(ruled_out, -torch.inf).exp() * (p - q).masked_fill(ruled_out, 0.0)
