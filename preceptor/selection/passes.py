"""Passes of a student that sketch each example's gradient, and plain ones beside them.

The loss is a sum over examples of their mean losses, so one backward pass serves a batch. Each
layer's backward adds the sketch of its own parameters' per-example gradients to a ledger and
returns the gradient of its input; no gradient of a weight is formed. After "What is Your Data Worth
to GPT? LLM-Scale Data Valuation with Influence Functions" (Choe et al., 2024) and GraSS (Hu et al.,
NeurIPS 2025); what differs is said in `linear.py`.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.distributions import Head
from preceptor.errors import ModelError
from preceptor.models.causal import language_head, last_hidden
from preceptor.models.dry import forgetful, keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.selection.apart import Apart
from preceptor.selection.derived import expect_examples
from preceptor.selection.head import (
    Entries,
    autocast,
    head_entries,
    head_parameters,
    plain_head,
    scored_by_head,
)
from preceptor.selection.ledger import Ledger, Sketching
from preceptor.selection.proof import Shown
from preceptor.selection.rows import Rows, Soft, classified, joined, learned_parameters
from preceptor.selection.tracked import Held, held, tracking
from preceptor.selection.uses import USES
from preceptor.types import map_tensors


@final
class Passes:
    """A student's passes, and what they add to.

    Args:
        model, sketching, bfloat16, soft: as of a `FactoredSketcher`.
    """

    def __init__(
        self,
        model: TappedModel,
        sketching: Sketching,
        *,
        bfloat16: bool = False,
        soft: Soft | None = None,
    ) -> None:
        self.model, self.bfloat16, self.soft = model, bfloat16, soft
        named = self.named = learned_parameters(model.module)
        tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
        if model.causal:
            tables.append(language_head(model.module).weight)
        self.ledger = Ledger(named, sketching, tables)
        self.apart = Apart(model.module, self.ledger)
        self._entries = head_entries(head_parameters(model) if model.causal else {}, self.ledger)
        self._held: list[Held] = []
        self._parts = tuple(model.modules())
        self._is_kept = any(_keeps(part) for part in self._parts)
        self._empty = [each for each in model.parameters() if not each.numel()]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(iter(self.named.values())).dtype

    @property
    def is_plain(self) -> bool:
        """Whether nothing was learned of the student: a copy would be run in the same way."""
        learned = any(entry.axis or entry.is_whole for entry in self.ledger.entries)
        return not (learned or self.apart.names)

    def begin(self, some: Batch) -> None:
        """Set up what is run, with some examples."""
        self.losses(some)  # A model may set itself up where it is first run.
        self._held = held(self.model.module, self.ledger, USES)

    def doubled(self) -> "Passes":
        """The same of a copy in float64.

        Raises:
            RuntimeError: torch cannot copy it.
        """
        model = copy.deepcopy(self.model).double()
        return Passes(model, self.ledger.sketching, soft=self.soft)

    def rows(self, batch: Batch) -> Rows:
        """The rows of a batch as they come."""
        if self.apart.is_whole and len(batch) > 1:
            return joined([self.rows(batch.rows(i, i + 1)) for i in range(len(batch))])
        self.ledger.begin(len(batch))
        head, device = self._head(), next(iter(self.named.values())).device
        with self.asked(), tracking(self._held), self.apart.running():
            with autocast(device, self.bfloat16):
                loss, rows = self._scored(batch, head, self._entries)
            _backward(loss)
        for each in self._empty:  # They are not noticed, and have a gradient without numbers.
            each.grad = None
        self.ledger.fusions.end()
        return replace(rows, sketches=self.ledger.sketches())

    def shown(self, some: Batch) -> Shown:
        """Rows, and what each parameter added, without rounding to bfloat16."""
        self.ledger.is_shared, held = True, self.bfloat16
        self.bfloat16 = False
        try:
            rows = self.rows(some)
            return rows, [self.ledger.share(entry) for entry in self.ledger.entries]
        finally:
            self.ledger.is_shared, self.bfloat16 = False, held

    @torch.no_grad()
    def losses(self, batch: Batch) -> Tensor:
        """Each example's loss by a plain forward pass."""
        self.ledger.begin(len(batch))
        with self.asked():
            return self._scored(batch, self._head(), (None, None))[1].losses

    def before_head(self, batch: Batch) -> None:
        """What comes before a head, by a plain forward pass."""
        self.ledger.begin(len(batch))
        with self.asked():
            if self.model.causal:
                assert not isinstance(batch.inputs, Tensor), "as when it is scored"
                last_hidden(self.model.module, batch.inputs)
            else:
                self._scored(batch, None, (None, None))

    @contextmanager
    def asked(self) -> Iterator[None]:
        """In the block the student is as it is when it is asked."""
        with _as_trained():
            if not self._is_kept and not any(part.training for part in self._parts):
                yield
                return
            with keeping_modes(self.model):
                forgetful(self.model)
                yield

    def _head(self) -> Head | None:
        """A language model's; asked for before its weight is tracked."""
        if not self.model.causal:
            return None
        head = plain_head(self.model)
        return head.first(self.model.vocabulary or len(head.weight))

    def _scored(self, batch: Batch, head: Head | None, entries: Entries) -> tuple[Tensor, Rows]:
        """The sum of the examples' losses, and what is known of them before a backward pass."""
        if head is not None:
            assert not isinstance(batch.inputs, Tensor), "a language model reads keyword tensors"
            hidden = expect_examples(last_hidden(self.model.module, batch.inputs))
            return scored_by_head(hidden, head, entries, batch, self.ledger)
        shown = copy.copy(self.model)
        shown.head_name = ""  # Its classifier is a layer like the others here.
        logits = expect_examples(shown(batch.inputs).logits)
        losses, placed = classified(logits, batch, self.soft)
        ones = torch.ones_like(losses, dtype=torch.int64)
        return losses.sum(), Rows(self.ledger.sketches(), losses.detach(), ones, placed)


def doubled(batch: Batch) -> Batch:
    """What a model of float64 reads."""
    fields = batch.fields().items()
    return Batch(**{name: map_tensors(value, _wide) for name, value in fields})


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


@contextmanager
def _as_trained() -> Iterator[None]:
    """In the block torch's encoders are run as with gradients: without, padding comes out as 0."""
    held = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(held)


def _keeps(part: nn.Module) -> bool:
    """Whether it may keep something in eval mode: `PreTrainedModel` itself does not."""
    own = type(part).train
    return own is not nn.Module.train and own.__module__ != "transformers.modeling_utils"


def _backward(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ModelError(
            "the student's loss has no gradient",
            "none of its parameters is learned, or none plays a part in the answer",
            "Use a student that learns.",
        )
    loss.backward()
