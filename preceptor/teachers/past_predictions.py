"""Two teachers made of the student's own past answers.

Samuli Laine, Timo Aila. "Temporal Ensembling for Semi-Supervised Learning". ICLR 2017.
arXiv:1610.02242.
Kyungyul Kim, ByeongMoon Ji, Doyoung Yoon, Sangheum Hwang. "Self-Knowledge Distillation with
Progressive Refinement of Targets" (PS-KD). ICCV 2021. arXiv:2006.12000.

Dimension key: b examples, v classes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from preceptor.errors import DataError, NeedsError, RecipeError
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Dense, Mixture, Needs, Outputs, Signal, at_least_float32

_SURE = 1e4
"""A logit that leaves no probability, at any temperature in use, and no infinity."""


@final
class PastPredictions(Teacher):
    """What the student answered to each example when it last saw it, or an average of that.

    Each time an example is trained on, Z <- momentum Z + (1 - momentum) z with z = softmax of the
    student's logits; the answer is Z / (1 - momentum^t) after t times (temporal ensembling,
    algorithm 2). With momentum 0 that is the last epoch's answer (PS-KD's P_{t-1}), which can be
    read at any temperature; an average of probabilities exists at temperature 1 alone.

    An example that was not seen yet answers with its label, as PS-KD's first epoch does; without a
    label, with the uniform distribution, which pulls the student towards knowing nothing: begin
    with weight 0 and ramp it up after the first epoch, as temporal ensembling does.

    Views are not told apart: an answer to one augmentation teaches the next.

    Args:
        num_examples: ids are 0 to num_examples - 1; the memory holds num_examples x num_classes
            float32 numbers.
        num_classes: v.
        momentum: 0 to below 1; 0.6 is temporal ensembling's.
    """

    def __init__(self, num_examples: int, num_classes: int, momentum: float = 0.0) -> None:
        if not 0 <= momentum < 1:
            raise RecipeError(
                f"past_predictions(momentum={momentum})",
                "momentum must be >= 0 and < 1",
                "Choose 0 for the last answer alone, or 0.6 for the paper's average.",
            )
        self.momentum = momentum
        # Z in log space, so that unlikely classes are not rounded to impossible ones.
        self._log_z = torch.full((num_examples, num_classes), -torch.inf)
        self._times = torch.zeros(num_examples, dtype=torch.int64)

    def offers(self) -> Needs:
        """Probabilities: at any temperature without momentum, else at 1."""
        fixed = frozenset({1.0}) if self.momentum else frozenset[float]()
        return Needs(kinds=frozenset({"probabilities"}), temperatures=fixed)

    def signal(self, batch: Batch) -> Signal:
        """What is remembered of these ids."""
        ids = batch.ids.to(self._times.device)
        times = self._times[ids]
        bias = torch.log1p(-(self.momentum ** times.clamp_min(1).float()))
        remembered = self._log_z[ids] - bias.unsqueeze(-1)
        seen = (times > 0).unsqueeze(-1)
        logits = torch.where(seen, remembered, self._unseen(batch)).to(batch.ids.device)
        if self.momentum:
            return Signal(Dense(logits, temperature=1.0))
        # A mixture of one: labels stand in for unseen ids, so these are not raw logits.
        return Signal(Mixture((Dense(logits),), torch.ones(1, len(batch), device=logits.device)))

    def _unseen(self, batch: Batch) -> Float[Tensor, "b v"]:
        answer = torch.zeros(len(batch), self._log_z.shape[1], device=self._log_z.device)
        labelled = batch.mask("labelled").to(answer.device)
        if labelled.any():
            rows = labelled.nonzero().squeeze(-1)
            answer[rows] = -_SURE
            answer[rows, batch.labels.to(answer.device)[rows]] = 0.0
        return answer

    @torch.no_grad()
    def learn(self, student: nn.Module, seen: Sequence[tuple[Batch, Outputs]]) -> None:
        """Remembers the step's answers."""
        del student
        for batch, outputs in seen:
            if outputs.logits.ndim != 2:
                raise NeedsError(
                    f"past predictions were shown logits {tuple(outputs.logits.shape)}",
                    "they remember one answer an example, [b, v]",
                    "Use another teacher for text.",
                )
            self._remember(batch.ids, outputs.logits, batch.mask("all"))

    def _remember(
        self, ids: Int[Tensor, " b"], logits: Float[Tensor, "b v"], counts: Bool[Tensor, " b"]
    ) -> None:
        device = self._log_z.device
        fresh = torch.log_softmax(at_least_float32(logits[counts]), dim=-1).to(device)
        ids = ids[counts].to(device)
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(self._times):
            raise DataError(
                f"ids from {int(ids.min())} to {int(ids.max())}",
                f"the memory has room for ids 0 to {len(self._times) - 1}",
                "Number the examples from 0, and give their count as `num_examples`.",
            )
        keep = math.log(self.momentum) if self.momentum else -math.inf
        for rows in _rounds(ids):
            at = ids[rows]
            new = fresh[rows].to(self._log_z.dtype) + math.log1p(-self.momentum)
            self._log_z[at] = torch.logaddexp(self._log_z[at] + keep, new)
            self._times[at] += 1

    def to(self, device: Any) -> "PastPredictions":
        """The memory moved to a device."""
        self._log_z, self._times = self._log_z.to(device), self._times.to(device)
        return self

    def state(self) -> dict[str, Tensor]:
        """The memory."""
        return {"log_z": self._log_z.clone(), "times": self._times.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        self._log_z.copy_(state["log_z"])
        self._times.copy_(state["times"])


def _rounds(ids: Int[Tensor, " b"]) -> Iterator[Int[Tensor, " r"]]:
    """Positions of ids, in rounds within which no id stands twice, in their order.

    Writing one row twice at once has no defined order; a batch that crosses an epoch's end may
    hold an example twice.
    """
    rows = torch.arange(len(ids), device=ids.device)
    while len(rows):
        _, group = torch.unique(ids[rows], return_inverse=True)
        first = torch.full_like(rows, len(rows)).scatter_reduce(
            0, group, torch.arange(len(rows), device=ids.device), "amin"
        )
        now = first[first < len(rows)]
        yield rows[now]
        rest = torch.ones_like(rows, dtype=torch.bool)
        rest[now] = False
        rows = rows[rest]
