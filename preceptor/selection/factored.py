"""Sketches of every example's gradient of all parameters from one forward and backward pass.

The loss is a sum over examples of their mean losses, so one backward pass serves a batch. Each
layer's backward adds the sketch of its own parameters' per-example gradients to a ledger and
returns the gradient of its input; no gradient of a weight is formed. After "What is Your Data Worth
to GPT? LLM-Scale Data Valuation with Influence Functions" (Choe et al., 2024) and GraSS (Hu et al.,
NeurIPS 2025); what differs is said in `linear.py`.
"""

import copy
from typing import final

import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.causal import language_head, last_hidden
from preceptor.models.dry import keeping_modes
from preceptor.models.lora import movable
from preceptor.models.tapped import TappedModel
from preceptor.selection.head import (
    autocast,
    head_entries,
    head_parameters,
    plain_head,
    scored_by_head,
)
from preceptor.selection.ledger import Ledger, Sketching
from preceptor.selection.rows import Details, Rows, Soft, classified
from preceptor.selection.tracked import tracking
from preceptor.selection.uses import USES

_APART = 0.1
"""How far, of its size, a row may move when others stand beside it: bfloat16 rounds."""


@final
class FactoredSketcher:
    """Sketches of the gradient of all parameters that are learned, batch by batch.

    Args:
        model: the student: any model, on the device where it is to be run; it is run in eval
            mode, and is afterwards as before. Of one with adapters, the adapters' gradients.
        sketching: how the gradients are sketched.
        bfloat16: whether its products are taken in bfloat16; sums are in float32 all the same.
        soft: of a model with one answer an example, the teacher's probabilities for it; its labels
            where not given.
    """

    def __init__(
        self,
        model: TappedModel,
        sketching: Sketching | None = None,
        *,
        bfloat16: bool = False,
        soft: Soft | None = None,
    ) -> None:
        self._model, self._bfloat16, self._soft = model, bfloat16, soft
        named = movable(model.module)
        tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
        if model.causal:
            tables.append(language_head(model.module).weight)
        self.ledger = Ledger(named, sketching or Sketching(), tables)
        own = head_parameters(model) if model.causal else {}
        self._entries = head_entries(own, self.ledger)
        self._is_apart = False
        self._device = next(iter(named.values())).device

    @property
    def parameters(self) -> int:
        """D, how many numbers the gradient has."""
        return self.ledger.size

    @property
    def details(self) -> Details:
        """What a probe says of it."""
        return self.ledger.sketching.details("factored", self._bfloat16)

    @torch.enable_grad()
    def __call__(self, batch: Batch) -> Rows:
        """The rows of a batch, in its order.

        Raises:
            ModelError: a parameter is used in a way that no rule knows, or an example's row
                depends on the examples beside it.
        """
        rows = self._rows(batch)
        if not self._is_apart and len(batch) > 1:
            expect_apart(rows, self._rows(batch.rows(0, 1)))
            self._is_apart = True
        return rows

    def _rows(self, batch: Batch) -> Rows:
        self.ledger.begin(len(batch))
        with keeping_modes(self._model):
            self._model.eval()
            return self._of_text(batch) if self._model.causal else self._of_classes(batch)

    def _of_text(self, batch: Batch) -> Rows:
        module, inputs = self._model.module, batch.inputs
        assert not isinstance(inputs, Tensor), "a language model reads keyword tensors"
        head = plain_head(self._model)
        used = head.first(self._model.vocabulary or len(head.weight))
        with tracking(module, self.ledger, USES):
            with autocast(self._device, self._bfloat16):
                hidden = last_hidden(module, inputs)
                loss, rows = scored_by_head(hidden, used, self._entries, batch, self.ledger)
            _backward(loss)
        return rows

    def _of_classes(self, batch: Batch) -> Rows:
        shown = copy.copy(self._model)
        shown.head_name = ""  # Its classifier is a layer like the others here.
        with tracking(shown.module, self.ledger, USES):
            with autocast(self._device, self._bfloat16):
                logits = shown(batch.inputs).logits
            losses, ranks = classified(logits, batch, self._soft)
            _backward(losses.sum())
        ones = torch.ones_like(losses, dtype=torch.int64)
        return Rows(self.ledger.total, losses.detach(), ones, ranks)


def expect_apart(together: Rows, first: Rows) -> None:
    """Raise where the first row of a batch is another than the same example's alone.

    So a layer that mixes examples, or lays them out along another axis than the first, is found.

    Raises:
        ModelError: it is.
    """
    alone = first.sketches[0]
    far = float((together.sketches[0] - alone).norm() / alone.norm().clamp_min(1e-30))
    if far > _APART:
        raise ModelError(
            "an example's gradient was sketched alone and beside others",
            f"the sketches differ by {far:.2g} of their size: the student mixes examples, or lays "
            "them out along another axis than the first",
            "Use exact features for this model.",
        )


def _backward(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ModelError(
            "the student's loss has no gradient",
            "none of its parameters is learned, or none plays a part in the answer",
            "Use a student that learns.",
        )
    loss.backward()
