"""Every example's gradient of all parameters, one at a time, and its projection.

The reference that the others are held to, and of use for small models: an example costs a forward
and a backward pass, and its gradient D numbers.

Dimension key: b examples, p parameters, d numbers a sketch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from preceptor.batches import Batch
from preceptor.models.dry import forgetful, keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.ops.sketching import count_sketch, signs_sketch
from preceptor.selection.probe import Projection
from preceptor.selection.rows import (
    Details,
    Rows,
    Scored,
    Soft,
    classified,
    joined,
    learned_parameters,
    ranks,
)

HELD = 1 << 28
"""Numbers of gradients that are held at once: one set of signs serves them all."""


@final
class ExactSketcher:
    """Projections of the exact gradient of all parameters that are learned, batch by batch.

    Args:
        model: the student; it is run in eval mode, and is afterwards as before.
        dimension: d.
        seed: of the random signs.
        projection: "signs" as in the paper, or "counts", which is cheaper by far and no less
            exact on average; its spread is as large where the gradient has many large numbers.
        soft: of a model with one answer an example, the teacher's probabilities for it.
    """

    def __init__(
        self,
        model: TappedModel,
        *,
        dimension: int = 512,
        seed: int = 0,
        projection: Projection = "signs",
        soft: Soft | None = None,
    ) -> None:
        self._model, self._soft = model, soft
        self._dimension, self._seed = dimension, seed
        self._projection: Projection = projection
        self._project = signs_sketch if projection == "signs" else count_sketch
        self._named = learned_parameters(model.module)

    @property
    def parameters(self) -> int:
        """D, how many numbers the gradient has."""
        return sum(parameter.numel() for parameter in self._named.values())

    @property
    def details(self) -> Details:
        """What a probe says of it."""
        return Details("exact", self._dimension, self._seed, {"projection": self._projection})

    def __call__(self, batch: Batch) -> Rows:
        """The rows of a batch, in its order."""
        step = max(1, HELD // self.parameters)
        parts: list[Rows] = []
        for start in range(0, len(batch), step):
            found, rows = self.gradients(batch.rows(start, min(start + step, len(batch))))
            sketches = self._project(found, self._dimension, self._seed)
            parts.append(Rows(sketches, rows.losses, rows.lengths, rows.rank_sums))
        return joined(parts)

    @torch.enable_grad()
    def gradients(self, batch: Batch) -> tuple[Float[Tensor, "b p"], Rows]:
        """The gradients themselves, parameters in their order and flat; rows without sketches."""
        found: list[Tensor] = []
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        with keeping_modes(self._model):
            for index in range(len(batch)):
                forgetful(self._model)
                loss, *rest = self.loss(batch.rows(index, index + 1))
                found.append(self._gradient(loss))
                rows.append((loss.detach().reshape(1), rest[0], rest[1]))
        losses, lengths, sums = (torch.cat(column) for column in zip(*rows, strict=True))
        return torch.stack(found), Rows(losses.new_zeros(len(batch), 0), losses, lengths, sums)

    def loss(self, single: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """An example's mean loss with its graph, how many tokens it has, the sum of their ranks."""
        with _slopes_laid_out(self._model):
            outputs = self._model(single.inputs)
        if not self._model.causal:
            losses, placed = classified(outputs.logits, single, self._soft)
            return losses.squeeze(0), torch.ones_like(placed, dtype=torch.int64), placed
        scored = Scored.of(single)
        logits = outputs.projection.at(scored.index).logits
        loss = torch.nn.functional.cross_entropy(logits, scored.labels)
        return loss, scored.lengths, ranks(logits.detach(), scored.labels).sum().reshape(1)

    def _gradient(self, loss: Tensor) -> Float[Tensor, " p"]:
        parameters = list(self._named.values())
        each = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        wide = [torch.promote_types(one.dtype, torch.float32) for one in each]
        return torch.cat([one.flatten().to(kind) for one, kind in zip(each, wide, strict=True)])


@contextmanager
def _slopes_laid_out(module: nn.Module) -> Iterator[None]:
    """In the block what batch norms give gets its gradient in the usual order of axes.

    Where one image's places were made rows of tokens, the gradient's strides fit two orders of
    axes, and torch (2.13, CPU) reads the wrong one: silently, for a batch of one alone.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    handles = [part.register_forward_hook(_lay_out) for part in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _lay_out(_: nn.Module, __: Any, gave: Tensor) -> None:
    if gave.requires_grad:
        gave.register_hook(Tensor.contiguous)
