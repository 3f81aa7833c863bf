"""Divergences whose gradient is written down, not found by autograd.

An objective says what its one term is worth as a `ClosedForm`; whoever scores a projection slice
by slice then needs no graph.

Dimension key: c positions, v classes.
"""

from dataclasses import dataclass
from typing import Literal

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
            teacher's mass in the head.
        factor: what the divergence is multiplied by.
        over: which positions count.
    """

    kind: FormKind
    temperature: float = 1.0
    parameter: float = 0.5
    factor: float = 1.0
    over: str = "all"
