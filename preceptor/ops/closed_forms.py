"""Divergences whose gradient is written down, not found by autograd.

An objective says what its one term is worth as a `ClosedForm`; whoever scores a projection slice
by slice then needs no graph. Each is exact: value and gradient are those of the functions in
`divergences` and `pairing`.

With p the teacher's and q the student's probabilities, z the student's logits over T, and F a
divergence, dF/dz = q (h - E_q[h]) where h = dF/dq up to a constant: each kind has its h.

Dimension key: c positions, v classes, k entries of a top-k or draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.distributions import Dense, Distribution, Sampled, TopK, check_temperature
from preceptor.ops.divergences import head_share
from preceptor.ops.pairing import same_classes

FormKind = Literal[
    "cross_entropy",
    "forward_kl",
    "reverse_kl",
    "jensen_shannon",
    "skew_kl",
    "skew_reverse_kl",
    "total_variation",
    "adaptive_kl",
]

_FARTHEST = (-100.0, 80.0)
"""Where log p - log q is cut before it is mixed: past it one side is 0 in any sum, and e^80 is
still a float32."""


@dataclass(frozen=True)
class ClosedForm:
    """What an objective's one term, named as the objective, is worth at each position.

    With p the teacher's and q the student's probabilities at `temperature`:
    "cross_entropy" is -log q_label, "forward_kl" KL(p || q), "reverse_kl" KL(q || p),
    "total_variation" half of sum |p - q|; with m = s p + (1 - s) q, "jensen_shannon" is
    s KL(p || m) + (1 - s) KL(q || m), "skew_kl" KL(p || m), "skew_reverse_kl" KL(q || m);
    "adaptive_kl" is the mean of both KLs weighted by the gaps on head and tail.

    Args:
        kind: which of them.
        temperature: of both sides.
        parameter: s, the teacher's share of the mixture, 0 < s < 1; of "adaptive_kl" the
            teacher's mass at which the head ends.
        factor: what the divergence is multiplied by.
        over: which positions count.
    """

    kind: FormKind
    temperature: float = 1.0
    parameter: float = 0.5
    factor: float = 1.0
    over: str = "all"

    def covers(self, teacher: Distribution | None) -> bool:
        """Whether it holds for such a teacher: a whole one, or for forward KL any."""
        if self.kind == "cross_entropy":
            return True
        if teacher is None or isinstance(teacher, TopK | Sampled):
            return teacher is not None and self.kind == "forward_kl"
        return True


class Slope(NamedTuple):
    """A divergence's values and their gradient.

    values: [c], without the form's factor.
    slope: [c, v], d values / d (logits / T), the caller's to overwrite; None where not asked for.
    """

    values: Float[Tensor, " c"]
    slope: Float[Tensor, "c v"] | None


class Sides:
    """A student's logits and a teacher's distribution at some positions.

    What several forms read at one temperature is computed once.

    Args:
        student: logits [c, v] in float32 or better; never written to.
        teacher: at the same positions; None where there is none.
        labels: classes [c], below 0 where there is none, which adds nothing; None where nobody
            asks.
        finite: the teacher gives every class a probability, so that no infinity is looked for.
    """

    def __init__(
        self,
        student: Float[Tensor, "c v"],
        teacher: Distribution | None,
        labels: Int[Tensor, " c"] | None,
        *,
        finite: bool = False,
    ) -> None:
        self.student, self.teacher, self.labels, self.finite = student, teacher, labels, finite
        self._both: dict[float, _Both] = {}

    def evaluate(self, form: ClosedForm, *, gradient: bool) -> Slope:
        """One form's values, and where asked its gradient."""
        if form.temperature not in self._both:
            both = _Both(self.student, self.teacher, form.temperature, self.finite)
            self._both[form.temperature] = both
        both = self._both[form.temperature]
        if form.kind == "cross_entropy":
            assert self.labels is not None
            return _cross_entropy(both, self.labels, gradient)
        if isinstance(self.teacher, TopK):
            return _top_k(both, self.teacher, gradient)
        if isinstance(self.teacher, Sampled):
            return _sampled(both, self.teacher, gradient)
        if form.kind == "forward_kl":
            return _forward_kl(both, gradient)
        if form.kind == "adaptive_kl":
            return _adaptive_kl(both, form.parameter, gradient)
        values, through = _THROUGH_Q[form.kind](both, form.parameter)
        return Slope(values, _centred(both, through()) if gradient else None)


@dataclass
class _Both:
    """Log-probabilities and probabilities of both sides at one temperature, when first read.

    It does not know its `Sides`: in a circle they would live, and hold memory, until they are
    looked for.
    """

    student: Tensor
    teacher: Distribution | None
    temperature: float
    finite: bool

    @cached_property
    def log_q(self) -> Tensor:
        return _log_softmax(self.student, self.temperature)

    @cached_property
    def log_p(self) -> Tensor:
        teacher = self.teacher
        assert teacher is not None
        assert not isinstance(teacher, TopK | Sampled)
        if isinstance(teacher, Dense):
            check_temperature(teacher.temperature, self.temperature)
            held = _log_softmax(teacher.logits, self.temperature)
        else:
            held = teacher.log_probs(self.temperature)
        same_classes(held.shape[-1], self.student.shape[-1])
        return held.to(self.log_q.dtype)  # a stored teacher may be narrower than the student

    @cached_property
    def q(self) -> Tensor:
        return self.log_q.exp()

    @cached_property
    def p(self) -> Tensor:
        return self.log_p.exp()

    @cached_property
    def near(self) -> Tensor:
        """log p - log q, cut where one side is nothing; 0 where both rule a class out."""
        gap = self.log_p - self.log_q
        if not self.finite:
            gap.nan_to_num_(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
        return gap.clamp_(*_FARTHEST)

    def above(self, share: float) -> Tensor:
        """log q - log m for m = share p + (1 - share) q; exact digits where p is near q."""
        return self.near.expm1().mul_(share).log1p_().neg_()


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if temperature == 1.0:
        return torch.log_softmax(logits, dim=-1, dtype=wide)
    return torch.log_softmax(logits.to(wide) / temperature, dim=-1)


def _dot(weights: Tensor, values: Tensor) -> Tensor:
    return torch.linalg.vecdot(weights, values)


def _centred(both: _Both, through: Tensor) -> Tensor:
    """q (h - E_q[h]), written over h."""
    mean = _dot(both.q, through)
    return through.sub_(mean.unsqueeze(-1)).mul_(both.q)


def _cross_entropy(both: _Both, labels: Tensor, gradient: bool) -> Slope:
    index, none = labels.clamp_min(0).unsqueeze(-1), labels < 0
    values = -both.log_q.gather(-1, index).squeeze(-1).masked_fill(none, 0.0)
    if not gradient:
        return Slope(values, None)
    slope = both.q.scatter_add(-1, index, both.q.new_full(index.shape, -1.0))
    return Slope(values, slope.masked_fill_(none.unsqueeze(-1), 0.0))


def _forward_kl(both: _Both, gradient: bool) -> Slope:
    gap = both.log_p - both.log_q
    if not both.finite:
        gap.masked_fill_(both.log_p == -torch.inf, 0.0)
    return Slope(_dot(both.p, gap), both.q - both.p if gradient else None)


def _reverse_kl(both: _Both, _: float) -> "_Through":
    gap = both.log_q - both.log_p
    if not both.finite:
        gap.masked_fill_(both.log_q == -torch.inf, 0.0)
    return _dot(both.q, gap), lambda: gap


def _jensen_shannon(both: _Both, share: float) -> "_Through":
    above = both.above(share)
    of_teacher = _dot(both.p, both.near + above)
    values = share * of_teacher + (1 - share) * _dot(both.q, above)
    return values, lambda: above.mul_(1 - share)


def _skew_kl(both: _Both, share: float) -> "_Through":
    over_mixture = both.above(share).add_(both.near)
    return _dot(both.p, over_mixture), lambda: over_mixture.expm1_().mul_(share - 1)


def _skew_reverse_kl(both: _Both, share: float) -> "_Through":
    above = both.above(share)
    return _dot(both.q, above), lambda: above.sub_(above.expm1(), alpha=1 - share)


def _total_variation(both: _Both, _: float) -> "_Through":
    gap = both.q - both.p
    return torch.linalg.vector_norm(gap, ord=1, dim=-1) / 2, lambda: gap.sign_().div_(2)


def _adaptive_kl(both: _Both, head: float, gradient: bool) -> Slope:
    share = head_share(both.p, (both.p - both.q).abs_(), head).unsqueeze(-1)
    forward = _forward_kl(both, gradient)
    backward, through = _reverse_kl(both, 0.0)
    of_forward = share.squeeze(-1)  # Not a lerp, in which an infinite side becomes NaN.
    values = of_forward * forward.values + (1 - of_forward) * backward
    if forward.slope is None:
        return Slope(values, None)
    return Slope(values, torch.lerp(_centred(both, through()), forward.slope, share))


_Through = tuple[Tensor, Callable[[], Tensor]]
"""Values, and h on demand."""

_THROUGH_Q: dict[str, Callable[[_Both, float], _Through]] = {
    "reverse_kl": _reverse_kl,
    "jensen_shannon": _jensen_shannon,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
    "total_variation": _total_variation,
}


def _top_k(both: _Both, teacher: TopK, gradient: bool) -> Slope:
    """KL over k bins and one for the rest, whose slope is spread in proportion to q."""
    check_temperature(teacher.temperature, both.temperature)
    log_q = both.log_q
    same_classes(teacher.classes, log_q.shape[-1])
    there, ids = teacher.ids >= 0, teacher.ids.clamp_min(0).long()
    log_p, log_tail = teacher.log_p.to(log_q.dtype), teacher.log_tail.to(log_q.dtype)
    kept = log_q.gather(-1, ids).masked_fill(~there, -torch.inf)
    # Adding, so that an absent entry, which stands at class 0, takes nothing away there.
    rest = log_q.scatter_add(-1, ids, torch.zeros_like(kept).masked_fill_(there, -torch.inf))
    log_rest = rest.logsumexp(dim=-1)
    in_bins = torch.cat([log_p - kept, (log_tail - log_rest).unsqueeze(-1)], dim=-1)
    masses = torch.cat([log_p, log_tail.unsqueeze(-1)], dim=-1)
    values = (masses.exp() * in_bins.masked_fill(masses == -torch.inf, 0.0)).sum(dim=-1)
    if not gradient:
        return Slope(values, None)
    covered = torch.where(log_tail == -torch.inf, 0.0, (log_tail - log_rest).exp())
    slope = rest.exp_().mul_((1 - covered).unsqueeze(-1))
    return Slope(values, slope.scatter_add_(-1, ids, kept.exp() - log_p.exp()))


def _sampled(both: _Both, teacher: Sampled, gradient: bool) -> Slope:
    """The unbiased estimate from draws: its slope is q less the share of each class drawn."""
    check_temperature(teacher.temperature, both.temperature)
    same_classes(teacher.classes, both.log_q.shape[-1])
    ids, counts = teacher.ids.clamp_min(0).long(), teacher.counts.to(both.log_q.dtype)
    drawn = counts.sum(dim=-1, keepdim=True)
    shares = counts / drawn.clamp_min(1.0)
    chosen = both.log_q.gather(-1, ids).masked_fill(counts == 0, 0.0)
    values = -(shares * chosen).sum(dim=-1) - teacher.entropy
    if not gradient:
        return Slope(values, None)
    slope = both.q.scatter_add(-1, ids, -shares)
    return Slope(values, slope.masked_fill_(drawn == 0, 0.0))
