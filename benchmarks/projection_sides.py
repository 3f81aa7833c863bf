"""Head and divergence, forward and backward, in every way that is compared: one call a step.

All start from the same hidden states and weights and end with the same two gradients.
"""

# pyright: reportMissingImports=false
# The peers lie in the folder that `projection.py` makes, and nowhere else.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from preceptor import DKD, GKD, TAID, AdaptiveKL, SkewKL, SkewReverseKL, TotalVariation
from preceptor.distributions import Dense, Head, Projected
from preceptor.objectives.base import Objective, Sum
from preceptor.ops.projection import slice_length
from preceptor.train.scoring import Share, Worth
from preceptor.types import Batch, Needs, Outputs, Signal, Terms

Step = Callable[[], object]

DIVERGENCES: dict[str, Objective[Any]] = {
    "forward KL": GKD(beta=0.0),
    "reverse KL": GKD(beta=1.0),
    "JSD": GKD(beta=0.5),
    "skewed KL": SkewKL(),
    "skewed reverse KL": SkewReverseKL(),
    "total variation": TotalVariation(),
    "adaptive KL": AdaptiveKL(),
}
OPEN: dict[str, Objective[Any]] = {"DKD": DKD(), "TAID": TAID()}
"""Methods that have no closed form."""
PEERS_BETA = {"forward KL": 0.0, "JSD": 0.5, "reverse KL": 1.0}


@final
@dataclass(frozen=True)
class Opened(Objective[nn.Module]):
    """A method that says no closed form, so that autograd scores it: the generic path."""

    part: Objective[Any]

    def needs(self) -> Needs:
        """The method's."""
        return self.part.needs()

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """The method's."""
        return self.part.terms(student, teacher, batch, aux)


@dataclass(frozen=True)
class Problem:
    """Hidden states and heads of a student and a teacher that it has come near to.

    Args:
        hidden, weight: the student's, [1, n, d] and [v, d], both wanting a gradient.
        teacher_hidden, teacher_weight: the teacher's.
    """

    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor

    @classmethod
    def of(cls, positions: int, width: int, classes: int) -> "Problem":
        """The same at every call: logits with a standard deviation of about 3, sides 1 apart."""
        draw = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw)

        weight, hidden = normal(classes, width) * 3 / width**0.5, normal(1, positions, width)
        near = hidden + normal(1, positions, width) / 3
        return cls(hidden.requires_grad_(), weight.clone().requires_grad_(), near, weight)

    def to(self, dtype: torch.dtype) -> "Problem":
        """The same numbers in another precision."""
        leaves = (t.detach().to(dtype) for t in (self.hidden, self.weight))
        hidden, weight = (leaf.requires_grad_() for leaf in leaves)
        return Problem(hidden, weight, self.teacher_hidden.to(dtype), self.teacher_weight.to(dtype))

    def clear(self) -> None:
        """Drops the gradients."""
        self.hidden.grad = self.weight.grad = None

    def gradients(self) -> tuple[Tensor, Tensor]:
        """What a step left."""
        assert self.hidden.grad is not None
        assert self.weight.grad is not None
        return self.hidden.grad, self.weight.grad


def ours(problem: Problem, objective: Objective[Any], length: int = 0) -> Step:
    """As the loop scores a micro-batch; `length` overrides the default slice."""
    import preceptor.train.scoring as scoring

    whole = Sum(objective.parts())
    count = problem.hidden.shape[1]
    positions = torch.zeros(1, count, dtype=torch.int64)
    batch = Batch(positions, labels=positions, mask=torch.ones(1, count).bool())
    signal = Signal(Projected(problem.teacher_hidden, Head(problem.teacher_weight)))
    few = objective.context_on(student_logits=torch.zeros(1, 2), teacher_logits=torch.zeros(1, 2))
    modules = nn.ModuleList([objective.auxiliary(few) or nn.Module()])
    plain = scoring.projected

    def step() -> None:
        problem.clear()
        share = Share(
            whole, whole.labels(), signal, batch, modules, lambda _, t: Worth(t.weight, 1 / count)
        )
        shown = Outputs(Projected(problem.hidden, Head(problem.weight)))
        scoring.projected = lambda h, head, scorer: plain(h, head, scorer, length=length)
        try:
            scored = share.scored(shown)
        finally:
            scoring.projected = plain
        torch.stack(list(scored.losses.values())).sum().backward()

    return step


def dense(problem: Problem, objective: Objective[Any]) -> Step:
    """Whole logits and autograd."""
    count = problem.hidden.shape[1]

    def step() -> None:
        problem.clear()
        with torch.no_grad():
            other = problem.teacher_hidden[0] @ problem.teacher_weight.T
        logits = problem.hidden[0] @ problem.weight.T
        batch = Batch(torch.zeros(count, dtype=torch.int64))
        terms = objective.terms(Outputs(logits), Signal(Dense(other)), batch, nn.Module())
        (term,) = terms.values()
        (term.values.sum() / count).backward()

    return step


def products(problem: Problem, length: int = 0) -> Step:
    """The four matrix products alone, with the same slices."""
    count, classes = problem.hidden.shape[1], len(problem.weight)
    size = length or slice_length(classes)

    @torch.no_grad()
    def step() -> None:
        of_hidden, of_weight = torch.zeros_like(problem.hidden[0]), torch.zeros_like(problem.weight)
        for start in range(0, count, size):
            rows = slice(start, start + size)
            own = problem.hidden[0][rows]
            logits = own @ problem.weight.T
            other = problem.teacher_hidden[0][rows] @ problem.teacher_weight.T
            of_hidden[rows] = logits @ problem.weight
            of_weight.addmm_(logits.T, own)
            del other

    return step


def trl(problem: Problem, beta: float, length: int = 0) -> Step:
    """TRL's chunked kernel on its path without Triton; its own chunk is 4096 positions."""
    from trl.kernels import chunked_divergence as kernel

    own, count = kernel.TOKEN_CHUNK_SIZE, problem.hidden.shape[1]

    def step() -> None:
        problem.clear()
        kernel.TOKEN_CHUNK_SIZE = length or own
        try:
            values, _ = kernel.ChunkedDivergenceFunction.apply(
                problem.hidden[0],
                problem.weight,
                None,
                problem.teacher_hidden[0],
                problem.teacher_weight,
                None,
                beta,
            )
            (values.sum() / count).backward()
        finally:
            kernel.TOKEN_CHUNK_SIZE = own

    return step


def liger(problem: Problem, beta: float, length: int = 0) -> Step:
    """Liger's chunked JSD, eager as all the others; its own chunk is 1024 positions."""
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDFunction

    labels = torch.zeros(problem.hidden.shape[1], dtype=torch.int64)

    def step() -> None:
        problem.clear()
        loss = LigerFusedLinearJSDFunction.apply(
            problem.hidden[0],
            problem.weight,
            problem.teacher_hidden[0],
            problem.teacher_weight,
            labels,
            None,
            None,
            0.0,
            1.0,
            beta,
            -100,
            1.0,
            False,
            length or 1024,
        )
        assert isinstance(loss, Tensor)
        loss.backward()

    return step
