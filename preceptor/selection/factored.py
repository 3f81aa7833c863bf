"""Sketches of every example's gradient of all parameters from one forward and backward pass.

The loss is a sum over examples of their mean losses, so one backward pass serves a batch. Each
layer's backward adds the sketch of its own parameters' per-example gradients to a ledger and
returns the gradient of its input; no gradient of a weight is formed. After "What is Your Data Worth
to GPT? LLM-Scale Data Valuation with Influence Functions" (Choe et al., 2024) and GraSS (Hu et al.,
NeurIPS 2025); what differs is said in `linear.py`. Modules whose rows nobody can tell apart are run
one example at a time (`apart.py`).
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
from preceptor.selection.axes import learn_axes
from preceptor.selection.batch_kinds import BatchKinds
from preceptor.selection.derived import expect_examples
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.fusing import doubled, fit
from preceptor.selection.head import (
    Entries,
    autocast,
    head_entries,
    head_parameters,
    plain_head,
    scored_by_head,
)
from preceptor.selection.ledger import Ledger, Sketching
from preceptor.selection.proof import (
    SOME,
    Shown,
    are_near,
    expect_own,
    expect_seen,
    expect_unmixed,
    unlike,
)
from preceptor.selection.rows import (
    Details,
    Rows,
    Soft,
    classified,
    joined,
    learned_parameters,
)
from preceptor.selection.strange import Strange
from preceptor.selection.tracked import Held, held, tracking
from preceptor.selection.uses import USES


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
        named = self._named = learned_parameters(model.module)
        tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
        if model.causal:
            tables.append(language_head(model.module).weight)
        self.ledger = Ledger(named, sketching or Sketching(), tables)
        own = head_parameters(model) if model.causal else {}
        self._entries = head_entries(own, self.ledger)
        self._is_proven = self._has_axes = False
        self._apart = Apart(model.module, self.ledger)
        self._device = next(iter(named.values())).device
        self._held: list[Held] = []
        self._parts = tuple(model.modules())
        self._kinds = BatchKinds()
        self._empty = [each for each in model.parameters() if not each.numel()]

    @property
    def parameters(self) -> int:
        """D, how many numbers the gradient has."""
        return self.ledger.size

    @property
    def apart(self) -> tuple[str, ...]:
        """The modules that are run one example at a time; '' is the whole model."""
        return self._apart.names

    @property
    def details(self) -> Details:
        """What a probe says of it."""
        return self.ledger.sketching.details("factored", self._bfloat16)

    @torch.enable_grad()
    def __call__(self, batch: Batch) -> Rows:
        """The rows of a batch, in its order.

        The first batch, and the first of several examples, prove that rows are right (`proof.py`);
        what is not is run one example at a time from then on. Of later batches that are the first
        of their kind some rows are compared with those of the same examples alone.

        Raises:
            ModelError: an example's row depends on the examples beside it, or a parameter has a
                gradient that is not seen.
        """
        while True:
            try:
                return self._proven(batch)
            except Strange as found:
                if len(batch) == 1 and found.entry is None:
                    raise
                self._is_proven = self._is_proven and len(batch) == 1
                self._make_way(found, batch)
            except (RuntimeError, IndexError) as error:
                # A module that keeps something from one call for the next one, or a function that
                # takes no parameters that notice it.
                if self._apart.is_whole or len(batch) == 1 or "memory" in str(error):
                    raise _ended(error) from error
                self.losses(batch)  # Where the student itself fails, its own words are the best.
                self._apart.is_whole = True

    def _make_way(self, found: Strange, batch: Batch) -> None:
        """Change what is run one example at a time, so that something strange does not recur.

        Raises:
            Strange: it would.
        """
        noted = self.ledger.running is not None
        if noted:
            self.ledger.settle(found)
        self.ledger.running = []
        if not noted or len(batch) == 1:
            return
        if not self._has_axes:
            self._has_axes = True
            some = batch.rows(0, min(len(batch), SOME))
            if learn_axes(self._model.module, self.ledger, self._passed, some):
                return
        self._apart.extend(found.chains, self.losses, batch)

    def _proven(self, batch: Batch) -> Rows:
        if not self.ledger.is_used:
            self._begin(batch.rows(0, min(len(batch), SOME)))
        if not self._is_proven and (len(batch) > 1 or not self.ledger.is_used):
            self.ledger.running = []
            some = batch.rows(0, min(len(batch), SOME))
            self._prove(some)
            self._fuse(some)
            self._is_proven, self.ledger.running = len(batch) > 1, None
        rows = self._rows(batch)
        if len(batch) > 1 and not self._apart.is_whole and self._kinds.is_new(batch):
            rows = self._compared(batch, rows)
        self.ledger.is_used = True
        return rows

    def _begin(self, some: Batch) -> None:
        self.losses(some)  # A model may set itself up where it is first run.
        self._held = held(self._model.module, self.ledger, USES)

    def _compared(self, batch: Batch, rows: Rows) -> Rows:
        """The rows of a batch of a new kind: each example's alone, where some are not as alone.

        Raises:
            ModelError: an example's loss is another alone.
        """
        some = sorted({0, len(batch) // 2, len(batch) - 1})
        alone = joined([self._rows(batch.rows(i, i + 1)) for i in some])
        if not self._bfloat16:
            expect_unmixed(rows.losses[some], alone.losses)
        kind = torch.bfloat16 if self._bfloat16 else next(iter(self._named.values())).dtype
        if are_near(rows.sketches[some], alone.sketches, kind):
            return rows
        self._apart.is_whole = True
        return self._rows(batch)

    def _prove(self, some: Batch) -> None:
        """Show that the rows of some are right.

        Raises:
            ModelError: they are not.
        """
        alone = [self._shown(some.rows(i, i + 1)) for i in range(len(some))]
        together = None if self._apart.is_whole or len(some) == 1 else self._shown(some)
        losses = torch.cat([rows.losses for rows, _ in alone])
        expect_unmixed(self.losses(some), losses)
        if together is not None:
            expect_unmixed(together[0].losses, losses)
            expect_own(self.ledger, together, alone)
        exact, named = ExactSketcher(self._model, soft=self._soft), self._named
        found: list[dict[str, float]] = []
        for i, shown in enumerate(alone):
            with self._asked():
                found.append(unlike(self.ledger, named, exact.loss(some.rows(i, i + 1))[0], shown))
        expect_seen(self.ledger, found)

    def _fuse(self, some: Batch) -> None:
        """Take convolutions and their norms as one from here on, where sketches stay the same.

        A copy in float64 shows which: there rounding switches nothing.
        """
        fusions = self.ledger.fusions
        if self._bfloat16 or self._apart.is_whole or not fusions or fusions.is_on:
            return
        if not (self._has_axes or self.apart):  # Else a copy would have to learn them anew.
            try:
                twin, wide = self._doubled(), doubled(some)
                twin._begin(wide)
                fit(twin.ledger, lambda: twin._shown(wide))
            except (ModelError, RuntimeError):
                pass  # Not every model has a copy, or runs in float64.
            else:
                fusions.follow(twin.ledger.fusions)
                return
        fit(self.ledger, lambda: self._shown(some))

    def _doubled(self) -> "FactoredSketcher":
        """The same of a copy in float64."""
        model = copy.deepcopy(self._model).double()
        return FactoredSketcher(model, self.ledger.sketching, soft=self._soft)

    def _shown(self, some: Batch) -> Shown:
        """Rows, and what each parameter added, without rounding to bfloat16."""
        self.ledger.is_shared, held = True, self._bfloat16
        self._bfloat16 = False
        try:
            rows = self._rows(some)
            return rows, [self.ledger.share(entry) for entry in self.ledger.entries]
        finally:
            self.ledger.is_shared, self._bfloat16 = False, held

    def _rows(self, batch: Batch) -> Rows:
        """The rows of a batch as they come."""
        if self._apart.is_whole and len(batch) > 1:
            return joined([self._rows(batch.rows(i, i + 1)) for i in range(len(batch))])
        self.ledger.begin(len(batch))
        head = self._head()
        with self._asked(), tracking(self._held), self._apart.running():
            with autocast(self._device, self._bfloat16):
                loss, rows = self._scored(batch, head, self._entries)
            _backward(loss)
        for each in self._empty:  # They are not noticed, and have a gradient without numbers.
            each.grad = None
        self.ledger.fusions.end()
        return replace(rows, sketches=self.ledger.sketches())

    @torch.no_grad()
    def losses(self, batch: Batch) -> Tensor:
        """Each example's loss by a plain forward pass."""
        self.ledger.begin(len(batch))
        with self._asked():
            return self._scored(batch, self._head(), (None, None))[1].losses

    def _passed(self, batch: Batch) -> None:
        """What comes before a head, by a plain forward pass."""
        self.ledger.begin(len(batch))
        with self._asked():
            if self._model.causal:
                assert not isinstance(batch.inputs, Tensor), "as when it is scored"
                last_hidden(self._model.module, batch.inputs)
            else:
                self._scored(batch, None, (None, None))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        if not any(part.training or _keeps(part) for part in self._parts):
            yield
            return
        with keeping_modes(self._model):
            forgetful(self._model)
            yield

    def _head(self) -> Head | None:
        """A language model's; asked for before its weight is tracked."""
        if not self._model.causal:
            return None
        head = plain_head(self._model)
        return head.first(self._model.vocabulary or len(head.weight))

    def _scored(self, batch: Batch, head: Head | None, entries: Entries) -> tuple[Tensor, Rows]:
        """The sum of the examples' losses, and what is known of them before a backward pass."""
        if head is not None:
            assert not isinstance(batch.inputs, Tensor), "a language model reads keyword tensors"
            hidden = expect_examples(last_hidden(self._model.module, batch.inputs))
            return scored_by_head(hidden, head, entries, batch, self.ledger)
        shown = copy.copy(self._model)
        shown.head_name = ""  # Its classifier is a layer like the others here.
        logits = expect_examples(shown(batch.inputs).logits)
        losses, placed = classified(logits, batch, self._soft)
        ones = torch.ones_like(losses, dtype=torch.int64)
        return losses.sum(), Rows(self.ledger.sketches(), losses.detach(), ones, placed)


def _ended(error: RuntimeError | IndexError) -> Exception:
    """What is raised where nothing else helps."""
    if "memory" in str(error):
        return error
    return ModelError(
        "the student was run with parameters that notice where they are used",
        f"torch ended it: {str(error).splitlines()[0]}",
        "Use exact features for this model (kind: exact, projection: counts).",
    )


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
