"""A causal language model's head: losses, ranks and the head's own gradient, a slice at a time.

The head's gradient is sum_t (softmax_t - onehot_t) h_t^T over an example's tokens, and needs no
backward pass. Alone it is a feature that ranks teachers nearly as all parameters do (the gradient
embedding of Ash et al. "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
ICLR 2020); beside the others' it is the head's part.

Dimension key: b examples, n positions that are scored, r of them in a block, v classes, w width,
k of a side.
"""

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.distributions import Head
from preceptor.errors import ModelError
from preceptor.models.causal import language_head, last_hidden, output_layer
from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.ops.projection import projected
from preceptor.selection.entry import Entry
from preceptor.selection.ledger import Ledger, Sketching
from preceptor.selection.rows import Details, Rows, Scored, ranks

Entries = tuple[Entry | None, Entry | None]
"""Those of a head's weight and bias; None where a gradient does not count."""


@final
class HeadScorer:
    """Each position's loss and rank, and the sketch of its logits' gradient (a `Scorer`).

    Args:
        head: what makes the logits.
        labels, share: of each position [n]; the loss is the sum of share times cross-entropy.
        weight, bias: entries of the head's parameters, where their gradients count.
    """

    def __init__(
        self,
        head: Head,
        labels: Int[Tensor, " n"],
        share: Float[Tensor, " n"],
        weight: Entry | None,
        bias: Entry | None,
    ) -> None:
        self._head, self._labels, self._share = head, labels, share
        self._weight, self._bias = weight, bias
        self.losses, self.ranks = (torch.zeros_like(share) for _ in range(2))
        self.slopes = None if weight is None else share.new_zeros(len(labels), weight.rows.k)
        self.of_bias = None if bias is None else share.new_zeros(len(labels), bias.buckets.k)

    def begin(self, rows: slice) -> None:
        """Nothing is better done for a whole slice."""

    def value(self, logits: Float[Tensor, "r v"], rows: slice) -> Float[Tensor, ""]:
        """A block's share of the loss; where no hidden state wants a gradient."""
        return self.gradient_(logits, rows)

    def gradient_(self, logits: Float[Tensor, "r v"], rows: slice) -> Float[Tensor, ""]:
        """The same, its gradient written over the logits and, sketched, into `slopes`."""
        labels, share = self._labels[rows], self._share[rows].to(logits.dtype)
        self.ranks[rows] = ranks(logits, labels).to(self.ranks.dtype)
        chosen, through = labels.unsqueeze(1), None
        if self._head.cap:
            through = 1 - (logits / self._head.cap).square_()
        own, most = logits.gather(1, chosen), logits.amax(dim=1, keepdim=True)
        # In few passes over the numbers: they are as many as classes times positions.
        total = logits.sub_(most).exp_().sum(dim=1, keepdim=True)
        losses = (total.log() + most - own).squeeze(1)
        self.losses[rows] = losses.to(self.losses.dtype)
        each = share.unsqueeze(1)
        logits.mul_(each / total).scatter_add_(1, chosen, -each)
        # Of the product, before it is scaled and capped.
        slope = logits if through is None else logits * through
        slope = slope if self._head.scale == 1.0 else slope * self._head.scale
        for entry, kept in ((self._weight, self.slopes), (self._bias, self.of_bias)):
            if entry is not None and kept is not None:
                sketch = entry.rows if entry is self._weight else entry.buckets
                kept[rows] = sketch.raw(_whole(slope, sketch.n)).to(kept.dtype)
        return (losses * share).sum()


def _whole(slope: Float[Tensor, "r v"], classes: int) -> Tensor:
    """With zeros for rows of the head that no token has."""
    left_out = classes - slope.shape[1]
    return torch.nn.functional.pad(slope, (0, left_out)) if left_out else slope


def scored_by_head(
    hidden: Float[Tensor, "b t w"], head: Head, entries: Entries, batch: Batch, ledger: Ledger
) -> tuple[Float[Tensor, ""], Rows]:
    """The sum of the examples' mean losses, and all that is known of them before `backward`.

    The head's part is in the ledger's sum afterwards, and all there is in `rows.sketches`: a
    backward pass of the loss adds the other parameters' to the ledger.
    """
    scored = Scored.of(batch)
    own = hidden.flatten(0, 1)
    if len(scored.index) < len(own):
        own = own[scored.index]
    share = scored.share().to(ledger.dtype)
    scorer = HeadScorer(head, scored.labels, share, *entries)
    loss = projected(own, head, scorer)
    weight, bias = entries
    with torch.no_grad():
        if weight is not None and scorer.slopes is not None:
            given = weight.columns.raw(own.detach())
            weight.add(scored.padded(scorer.slopes), scored.padded(given))
        if bias is not None and scorer.of_bias is not None:
            bias.add_bucketed(scored.padded(scorer.of_bias).sum(dim=1))
    rank_sums = scored.sums(scorer.ranks)
    losses = scored.sums(scorer.losses * share)
    return loss, Rows(ledger.sketches(), losses, scored.lengths, rank_sums)


def plain_head(model: TappedModel) -> Head:
    """A language model's head without a gradient of its own, its padded rows left out.

    Raises:
        ModelError: an adapter on it is learned.
    """
    head = language_head(model.module)
    if head.weight.requires_grad and not isinstance(head.weight, nn.Parameter):
        raise ModelError(
            "the head carries an adapter that is learned",
            "its gradient is sketched from the head's own weight",
            "Leave the head out of `targets`, or use exact features.",
        )
    return head.detached()


def head_parameters(model: TappedModel) -> dict[str, nn.Parameter]:
    """A language model's head's own parameters: "weight", and "bias" where it has one."""
    head, layer = plain_head(model), output_layer(model.module)
    named = {"weight": head.weight, "bias": head.bias}
    held = {parameter.data_ptr(): parameter for parameter in layer.parameters()}
    return {
        name: held[tensor.data_ptr()]
        for name, tensor in named.items()
        if tensor is not None and tensor.data_ptr() in held
    }


def head_entries(parameters: Mapping[str, nn.Parameter], ledger: Ledger) -> Entries:
    """Of what `head_parameters` gave, what the ledger knows."""
    return ledger.find(parameters.get("weight")), ledger.find(parameters.get("bias"))


@final
class HeadSketcher:
    """Sketches of the gradient of a causal language model's head alone: forward passes only.

    Args:
        model: the student; it is run in eval mode, and its modes are afterwards as before.
        sketching: how the gradients are sketched.
        bfloat16: whether its products are taken in bfloat16.

    Raises:
        ModelError: the model is no language model, or its head carries an adapter.
    """

    def __init__(
        self, model: TappedModel, sketching: Sketching | None = None, *, bfloat16: bool = False
    ) -> None:
        if not model.causal:
            raise ModelError(
                "a head's features were asked of a model that gives logits",
                "hidden states and a head are told apart in causal language models",
                "Use factored features.",
            )
        self._model, self._bfloat16 = model, bfloat16
        own = head_parameters(model)
        self.ledger = Ledger(own, sketching or Sketching(), [own["weight"]])
        self._entries = head_entries(own, self.ledger)

    @property
    def parameters(self) -> int:
        """D, how many numbers the gradient has."""
        return self.ledger.size

    @property
    def details(self) -> Details:
        """What a probe says of it."""
        return self.ledger.sketching.details("head", self._bfloat16)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Rows:
        """The rows of a batch, in its order."""
        assert not isinstance(batch.inputs, Tensor)
        self.ledger.begin(len(batch))
        head = plain_head(self._model)
        with keeping_modes(self._model), autocast(head.weight.device, self._bfloat16):
            self._model.eval()
            hidden = last_hidden(self._model.module, batch.inputs)
            used = head.first(self._model.vocabulary or len(head.weight))
            return scored_by_head(hidden, used, self._entries, batch, self.ledger)[1]


def autocast(device: torch.device, bfloat16: bool) -> torch.autocast:
    """Products in bfloat16, or in whatever precision tensors have."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16)
