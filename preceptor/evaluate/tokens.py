"""How well a language model predicts held-out text, and how like its teacher: one number a row.

Numbers are columns whose mean over rows is the mean over all tokens (the bits of all bytes), and
whose drawn means are those of drawn rows, long and short ones: `linearised.ratio`.

Dimension key: n rows, t positions of a slice, v classes, k places.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.evaluate.confidences import Confidences
from preceptor.evaluate.scores import PLACES
from preceptor.ops import rankings
from preceptor.ops.linearised import ratio
from preceptor.types import Batch, Distribution, Sampled, TopK

SLICE = 1 << 22
"""Entries t v of a slice of logits."""

Shows = Callable[[Batch], Distribution]
"""What a model answers at each position of a batch."""


@dataclass
class _Sums:
    """Sums over each row's scored tokens."""

    rows: int
    of: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, row: Int[Tensor, " t"], values: Float[Tensor, " t"]) -> None:
        held = self.of.setdefault(name, np.zeros(self.rows))
        np.add.at(held, row.cpu().numpy(), values.double().cpu().numpy())

    def by_token(self) -> dict[str, Float[np.ndarray, " n"]]:
        """Columns whose means are those over all tokens."""
        tokens = self.of["tokens"]
        return {name: ratio(sums, tokens) for name, sums in self.of.items() if name != "tokens"}


@torch.no_grad()
def token_scores(
    shows: Shows,
    batches: Iterable[Batch],
    rows: int,
    byte_counts: Int[np.ndarray, " n"],
    beside: Shows | None = None,
    confidences: Confidences | None = None,
) -> Mapping[str, Float[np.ndarray, " n"]]:
    """token_nll (nats), bits_per_byte, token_brier, token_accuracy and token_overconfidence, which
    is how far the largest probability lies above it; beside a teacher how alike the two are.

    That is token_agreement, kl_teacher_model, kl_model_teacher, js, acceptance, entropy_drift,
    kendall_top5, jaccard_top5, rbo. Of each slice a few numbers a position outlive it.

    Args:
        shows: the model.
        batches: all rows once; `ids` are 0 to rows - 1, `extra["row"]` says whose each position is.
        rows: n.
        byte_counts: UTF-8 bytes of what is scored of each row.
        beside: its teacher, of the same vocabulary; divergences are of whole distributions.
        confidences: where given, is told of every position.
    """
    sums = _Sums(rows)
    for batch in batches:
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        shown, other = shows(batch), None if beside is None else beside(batch)
        row = batch.extra["row"].flatten()
        labels = batch.labels.flatten()
        for part in index.split(max(1, SLICE // _classes(shown))):
            q = _log_probs(shown, part)
            sums.add("tokens", row[part], torch.ones(len(part)))
            chosen = q.gather(-1, labels[part].unsqueeze(-1)).squeeze(-1)
            sums.add("token_nll", row[part], -chosen)
            # sum_v (p_v - [v = label])^2, without a matrix of [v = label].
            squares = q.exp().square_().sum(dim=-1)
            sums.add("token_brier", row[part], 1 - 2 * chosen.exp() + squares)
            logs, first = q.max(dim=-1)
            sure, hit = logs.double().exp(), (first == labels[part]).double()
            sums.add("token_accuracy", row[part], hit)
            sums.add("token_overconfidence", row[part], sure - hit)
            if confidences is not None:
                confidences.add(*(each.cpu().numpy() for each in (row[part], sure, hit.bool())))
            if other is None or isinstance(other, TopK | Sampled):
                continue
            p = _log_probs(other, part)
            if p.shape == q.shape:  # Else it has another vocabulary, and nothing to compare.
                _compare(sums, row[part], q, p)
    bits = sums.of["token_nll"] / math.log(2)
    return {**sums.by_token(), "bits_per_byte": ratio(bits, byte_counts.astype(np.float64))}


@torch.no_grad()
def unlikeliness(shows: Shows, batches: Iterable[Batch], rows: int) -> Float[np.ndarray, " n"]:
    """-log p of all that is scored of each row, in nats."""
    sums = _Sums(rows)
    for batch in batches:
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        shown, row, labels = shows(batch), batch.extra["row"].flatten(), batch.labels.flatten()
        for part in index.split(max(1, SLICE // _classes(shown))):
            q = _log_probs(shown, part)
            sums.add("nats", row[part], -q.gather(-1, labels[part].unsqueeze(-1)).squeeze(-1))
    return sums.of["nats"]


@torch.no_grad()
def first_choices(shows: Shows, batches: Iterable[Batch]) -> tuple[Int[np.ndarray, " p"], str]:
    """The likeliest token at each of the p scored positions, and a hash of those that stand there.

    Two models whose hashes are the same were asked of the same tokens, one after the other.
    """
    chosen: list[np.ndarray] = []
    asked = hashlib.sha256()
    for batch in batches:
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        asked.update(batch.labels.flatten()[index].cpu().numpy().tobytes())
        shown = shows(batch)
        for part in index.split(max(1, SLICE // _classes(shown))):
            chosen.append(_log_probs(shown, part).argmax(dim=-1).cpu().numpy())
    return np.concatenate(chosen), asked.hexdigest()[:16]


@torch.no_grad()
def support(
    shows: Shows, teacher: Shows, batches: Iterable[Batch], rows: int, places: int
) -> Mapping[str, Float[np.ndarray, " n"]]:
    """How much of a teacher a student would ever write: see `diagnosis.support`.

    mass is the teacher's probability of the student's `places` likeliest tokens, overlap the share
    of its own `places` likeliest among them.
    """
    sums = _Sums(rows)
    for batch in batches:
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        shown, other, row = shows(batch), teacher(batch), batch.extra["row"].flatten()
        for part in index.split(max(1, SLICE // _classes(shown))):
            q, p = _log_probs(shown, part), _log_probs(other, part)
            count = min(places, q.shape[-1])
            first, theirs = q.topk(count).indices, p.topk(count).indices
            sums.add("tokens", row[part], torch.ones(len(part)))
            sums.add("mass", row[part], p.gather(-1, first).exp().sum(dim=-1))
            shared = (first.unsqueeze(-1) == theirs.unsqueeze(-2)).any(dim=-1)
            sums.add("overlap", row[part], shared.double().mean(dim=-1))
    return sums.by_token()


@torch.no_grad()
def some_log_probs(
    shows: Shows, batches: Iterable[Batch], most: int = 512
) -> tuple[Float[np.ndarray, "t v"], Int[np.ndarray, " t"]]:
    """Log-probabilities and labels of the first scored tokens, `most` or as many as memory is for.

    What a temperature is fitted on.
    """
    found: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in batches:
        index = batch.mask("all").flatten().nonzero().squeeze(1)
        shown = shows(batch)
        index = index[: min(most, 4 * SLICE // _classes(shown)) - sum(map(len, labels))]
        if not len(index):
            break
        found.append(_log_probs(shown, index).cpu())
        labels.append(batch.labels.flatten()[index].cpu())
    return torch.cat(found).double().numpy(), torch.cat(labels).numpy()


def _compare(sums: _Sums, row: Tensor, q: Tensor, p: Tensor) -> None:
    sums.add("token_agreement", row, (p.argmax(dim=-1) == q.argmax(dim=-1)).double())
    sums.add("kl_teacher_model", row, (p.exp() * (p - q)).sum(dim=-1))
    sums.add("kl_model_teacher", row, (q.exp() * (q - p)).sum(dim=-1))
    middle = torch.logaddexp(p, q) - math.log(2)
    sums.add("js", row, (p.exp() * (p - middle) + q.exp() * (q - middle)).sum(dim=-1) / 2)
    sums.add("acceptance", row, torch.minimum(p, q).exp().sum(dim=-1))
    more = torch.special.entr(q.exp()) - torch.special.entr(p.exp())
    sums.add("entropy_drift", row, more.sum(dim=-1))
    for name, each in _ranked(q, p).items():
        sums.add(name, row, torch.from_numpy(each))


def _ranked(
    q: Float[Tensor, "t v"], p: Float[Tensor, "t v"]
) -> Mapping[str, Float[np.ndarray, " t"]]:
    """How alike both order the likeliest tokens; of a slice only those leave it."""
    count = min(2 * PLACES, q.shape[-1])
    (_, ours), (logs, theirs) = q.topk(count), p.topk(count)
    sides = logs, q.gather(-1, theirs)
    order = (side[:, :PLACES].double().cpu().numpy() for side in sides)
    own, master = (side.cpu().numpy() for side in (ours, theirs))
    return {
        "kendall_top5": rankings.order_of_firsts(*order),
        "jaccard_top5": rankings.jaccard_of_firsts(master[:, :PLACES], own[:, :PLACES]),
        "rbo": rankings.overlap_of_firsts(master, own),
    }


def _log_probs(shown: Distribution, index: Tensor) -> Tensor:
    here = shown.at(index)
    assert not isinstance(here, TopK | Sampled)
    return here.log_probs(1.0)


def _classes(shown: Distribution) -> int:
    if isinstance(shown, TopK | Sampled):
        return shown.classes
    first = shown.at(torch.zeros(1, dtype=torch.int64, device=_device(shown)))
    return first.log_probs(1.0).shape[-1]


def _device(shown: Distribution) -> torch.device:
    tensors = [value for value in vars(shown).values() if isinstance(value, Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")
