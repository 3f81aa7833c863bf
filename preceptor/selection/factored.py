"""Sketches of every example's gradient of all parameters from one forward and backward pass.

The first examples prove that rows are right (`proving.py`). Modules whose rows nobody can tell
apart are run one example at a time (`apart.py`).
"""

from typing import final

import torch
from torch import Tensor

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.selection.axes import learn_axes
from preceptor.selection.batch_kinds import BatchKinds
from preceptor.selection.ledger import Ledger, Sketching
from preceptor.selection.passes import Passes
from preceptor.selection.proof import SOME, are_near, expect_unmixed
from preceptor.selection.proving import fuse, prove
from preceptor.selection.rows import Details, Rows, Soft, joined
from preceptor.selection.strange import Strange


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
        self._run = Passes(model, sketching or Sketching(), bfloat16=bfloat16, soft=soft)
        self._is_proven = self._has_axes = False
        self._kinds = BatchKinds()

    @property
    def ledger(self) -> Ledger:
        """What its passes add to."""
        return self._run.ledger

    @property
    def parameters(self) -> int:
        """D, how many numbers the gradient has."""
        return self.ledger.size

    @property
    def apart(self) -> tuple[str, ...]:
        """The modules that are run one example at a time; '' is the whole model."""
        return self._run.apart.names

    @property
    def details(self) -> Details:
        """What a probe says of it."""
        return self.ledger.sketching.details("factored", self._run.bfloat16)

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
                if self.ledger.channels.leave():
                    continue  # Not every view can be taken of images whose channels lie last.
                # A module that keeps something from one call for the next one, or a function that
                # takes no parameters that notice it.
                if self._run.apart.is_whole or len(batch) == 1 or "memory" in str(error):
                    raise _ended(error) from error
                self.losses(batch)  # Where the student itself fails, its own words are the best.
                self._run.apart.is_whole = True

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
            if learn_axes(self._run.model.module, self.ledger, self._run.before_head, some):
                return
        self._run.apart.extend(found.chains, self.losses, batch)

    def _proven(self, batch: Batch) -> Rows:
        run, some = self._run, batch.rows(0, min(len(batch), SOME))
        if not self.ledger.is_used:
            run.begin(some)
        if not self._is_proven and (len(batch) > 1 or not self.ledger.is_used):
            self.ledger.running = []
            prove(run, some)
            self.ledger.channels.settle()
            fuse(run, some)
            self._is_proven, self.ledger.running = len(batch) > 1, None
        rows = run.rows(batch)
        if len(batch) > 1 and not run.apart.is_whole and self._kinds.is_new(batch):
            rows = self._compared(batch, rows)
        self.ledger.is_used = True
        return rows

    def _compared(self, batch: Batch, rows: Rows) -> Rows:
        """The rows of a batch of a new kind: each example's alone, where some are not as alone.

        Raises:
            ModelError: an example's loss is another alone.
        """
        run, some = self._run, sorted({0, len(batch) // 2, len(batch) - 1})
        alone = joined([run.rows(batch.rows(i, i + 1)) for i in some])
        if not run.bfloat16:
            expect_unmixed(rows.losses[some], alone.losses)
        kind = torch.bfloat16 if run.bfloat16 else run.dtype
        if are_near(rows.sketches[some], alone.sketches, kind):
            return rows
        run.apart.is_whole = True
        return run.rows(batch)

    def losses(self, batch: Batch) -> Tensor:
        """Each example's loss by a plain forward pass."""
        return self._run.losses(batch)


def _ended(error: RuntimeError | IndexError) -> Exception:
    """What is raised where nothing else helps."""
    if "memory" in str(error):
        return error
    return ModelError(
        "the student was run with parameters that notice where they are used",
        f"torch ended it: {str(error).splitlines()[0]}",
        "Use exact features for this model (kind: exact, projection: counts).",
    )
