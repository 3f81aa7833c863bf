"""Yonglong Tian, Dilip Krishnan, Phillip Isola.

"Contrastive Representation Distillation". ICLR 2020. arXiv:1910.10699.

Dimension key: b examples, n examples in the data, k negatives, d width, e embedding width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import DataError, NeedsError
from preceptor.fields import Count, Fraction, Positive
from preceptor.objectives._pairs import flat_rows, only_pair, spread
from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.objectives.reduction import by_example
from preceptor.ops.relations import unit
from preceptor.types import Batch, Context, Needs, Outputs, Progress, Signal, Term, Terms

_NOBODY = -1
"""Stands for the id of an example that does not count."""

_POSITIVE = 2**63 - 1
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


@final
class Memory(nn.Module):
    """Both embeddings, what they were for every example, and who is a negative to whom.

    Everything that moves is a buffer, so that a saved and loaded memory goes on with the same
    bits: the banks, the partition constants, the step and the seed of the draws.
    """

    student_bank: Float[Tensor, "n e"]
    teacher_bank: Float[Tensor, "n e"]
    log_partition: Float[Tensor, " 2"]
    step: Int[Tensor, ""]
    seed: Int[Tensor, ""]
    order: Int[Tensor, " n"]
    first: Int[Tensor, " n"]
    size: Int[Tensor, " n"]

    def __init__(
        self, student_width: int, teacher_width: int, width: int, labels: Int[Tensor, " n"]
    ) -> None:
        super().__init__()
        self.student = nn.Linear(student_width, width)
        self.teacher = nn.Linear(teacher_width, width)
        bound = math.sqrt(3 / width)  # entries of variance 1 / width: rows of length about one
        for bank in ("student_bank", "teacher_bank"):
            self.register_buffer(bank, (2 * torch.rand(len(labels), width) - 1) * bound)
        self.register_buffer("log_partition", torch.zeros(2))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("seed", torch.randint(2**62, ()))
        # Ids sorted by class, and for each id where its class begins and how large it is. Who has
        # no label is a class of its own.
        own = torch.arange(len(labels)) + labels.amax().clamp_min(-1) + 1
        _, group, sizes = torch.where(labels >= 0, labels, own).unique(
            return_inverse=True, return_counts=True
        )
        self.register_buffer("order", group.argsort(stable=True))
        self.register_buffer("first", (sizes.cumsum(0) - sizes)[group])
        self.register_buffer("size", sizes[group])

    def embeddings(
        self, student: Float[Tensor, "b d"], teacher: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
        """Both sides' features as vectors of length one."""
        dtype = self.student.weight.dtype
        return unit(self.student(student.to(dtype))), unit(self.teacher(teacher.to(dtype)))

    def negatives(self, ids: Int[Tensor, " b"], count: int) -> Int[Tensor, "b k"]:
        """Ids of other classes, drawn with replacement.

        A function of the seed, the step and the id alone: whichever examples stand beside it in
        a micro-batch or on a rank, an example meets the same negatives.
        """
        key = mixed(mixed(mixed(self.seed) + self.step) + ids)
        draws = mixed(key[:, None] + torch.arange(count, device=ids.device)) & _POSITIVE
        first, size = self.first[ids][:, None], self.size[ids][:, None]
        place = draws % (len(self.order) - size)
        return self.order[torch.where(place < first, place, place + size)]


@final
@dataclass(frozen=True)
class CRD(Objective[Memory]):
    """Tell an example's own teacher embedding from those of k examples of other classes.

    Section 3.1 with noise-contrastive estimation as in the authors' code:

        D(u, v) = exp(u.v / tau) / (exp(u.v / tau) + Z k / n)
        loss = -log D(u_i, v_i) - sum_j log(1 - D(u_i, v_j))

    for the student's embedding against a memory of the teacher's, plus the same with the sides
    exchanged. Embeddings are linear maps to length one, trained for both models (the teacher
    itself is not), and the memories follow them by a moving average after each optimiser step.
    The literature's weight is 0.8 beside cross-entropy.

    Z is n times the mean of exp(u.v / tau), estimated in the first step and then fixed. Unlike
    the authors' code, that first step itself uses an estimate from the two examples of the dry
    pass, so that its loss does not depend on how the batch is split; and negatives are always
    drawn with replacement, where the authors do so only when fewer than k exist. So k may exceed
    the data; the loss grows with k. Examples without a label take every other example for a
    negative.

    Takes 8 n e bytes for the memories, and in a step a few times B (n + k) numbers: anchors are
    compared with the whole memory and counted as often as drawn, which needs no gathering of
    B k rows and adds up in the same order on every device.

    Args:
        layers: one pair of embeddings; "auto" is the classifier's input.
        width: e, of the embeddings.
        negatives: k; 16384 is the paper's.
        temperature: tau; 0.07 in the authors' code.
        momentum: the share of an old memory that is kept.
    """

    reads: ClassVar[LayerKind | None] = "embedding"

    layers: Layers = "auto"
    width: Count = 128
    negatives: Count = 16384
    temperature: Positive = 0.07
    momentum: Fraction = 0.5

    def needs(self) -> Needs:
        """An embedding of each, and the examples' ids."""
        return pair_needs(self.layers, Needs(ids=True, scope="example"))

    def auxiliary(self, context: Context) -> Memory:
        """Embeddings and memories, with a first guess of Z."""
        ours, theirs = only_pair(self)
        s, t = context.student.tap(ours), context.teacher.tap(theirs)
        labels = context.labels.cpu() if len(context.labels) else _unlabelled(context.num_examples)
        if len(labels) == 0:
            raise NeedsError(
                "crd was to remember 0 examples",
                "it keeps one row for each id, 0 to the number of examples - 1",
                "Give `num_examples=`, or each id's label as `all_labels=`.",
            )
        memory = Memory(s[0].numel(), t[0].numel(), self.width, labels).to(s.device)
        if bool((memory.size == len(labels)).any()):
            raise DataError(
                f"all {len(labels)} examples are of one class",
                "crd contrasts an example with examples of other classes",
                "Give data of two classes or more, or another objective.",
            )
        with torch.no_grad():
            u, v = memory.embeddings(s.flatten(1), t.flatten(1))
            for side, likeness in enumerate(self._likenesses(u, v, memory)):
                mean = likeness.logsumexp(dim=(0, 1)) - math.log(likeness.numel())
                memory.log_partition[side] = mean + math.log(len(labels))
        return memory

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: Memory) -> Terms:
        """One number an example; both sides added."""
        ours, theirs = only_pair(self)
        s = flat_rows(student.tap(ours), batch)
        t = flat_rows(teacher.tap(theirs).detach(), batch)
        counted = by_example(batch.mask("all"))
        ids = batch.ids[counted]
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(aux.order):
            raise DataError(
                f"crd met the ids {int(ids.min())} to {int(ids.max())}",
                f"its memory has rows for 0 to {len(aux.order) - 1}",
                "Number the examples from 0, and build `aux` for all of them.",
            )
        u, v = aux.embeddings(s, t)
        positive = _counts(ids[:, None], len(aux.order), u.dtype)
        negative = _counts(aux.negatives(ids, self.negatives), len(aux.order), u.dtype)
        losses, means = [], []
        for side, likeness in enumerate(self._likenesses(u, v, aux)):
            # D = sigmoid(odds): the quotient in the class docstring, without its exponentials.
            odds = likeness - aux.log_partition[side] - math.log(self.negatives / len(aux.order))
            told = positive * F.softplus(-odds) + negative * F.softplus(odds)
            losses.append(told.sum(dim=1))
            seen = likeness.detach() + (positive + negative).log()
            means.append(seen.logsumexp(dim=1) - math.log(1 + self.negatives))
        remember = {
            "ids": torch.where(counted, batch.ids, _NOBODY),
            "student": spread(u.detach(), batch),
            "teacher": spread(v.detach(), batch),
            "log_means": spread(torch.stack(means, dim=1), batch),
        }
        loss = spread(torch.stack(losses).sum(dim=0), batch)
        return {"crd": Term(loss, per="example", remember=remember)}

    @torch.no_grad()
    def advance(
        self,
        aux: Memory,
        remembered: Mapping[str, Tensor],
        losses: Mapping[str, float],
        at: Progress,
    ) -> None:
        """Move the memories towards this step's embeddings, settle Z once, and count the step."""
        del losses, at
        # In a sum the keys come without "crd/", alone they may come with it.
        seen = {key.rpartition("/")[2]: tensor for key, tensor in remembered.items()}
        seen = {key: tensor[seen["ids"] != _NOBODY] for key, tensor in seen.items()}
        if len(seen["ids"]):
            if aux.step == 0:
                means = seen["log_means"].logsumexp(dim=0) - math.log(len(seen["ids"]))
                aux.log_partition.copy_(means + math.log(len(aux.order)))
            ids, rows = last_of_each(seen["ids"])
            for bank, new in (
                (aux.student_bank, seen["student"]),
                (aux.teacher_bank, seen["teacher"]),
            ):
                bank[ids] = unit(
                    self.momentum * bank[ids] + (1 - self.momentum) * new[rows].to(bank.dtype)
                )
        aux.step += 1

    def _likenesses(
        self, u: Float[Tensor, "b e"], v: Float[Tensor, "b e"], memory: Memory
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """u.v / tau of the student's side, then of the teacher's."""
        ours, theirs = u @ memory.teacher_bank.T, v @ memory.student_bank.T
        return ours / self.temperature, theirs / self.temperature


def last_of_each(ids: Int[Tensor, " b"]) -> tuple[Int[Tensor, " u"], Int[Tensor, " u"]]:
    """The distinct ids, and where each stands last: two writes to one place have no order.

    >>> last_of_each(torch.tensor([7, 3, 7]))
    (tensor([3, 7]), tensor([1, 2]))
    """
    distinct, inverse = ids.unique(return_inverse=True)
    places = torch.arange(len(ids), device=ids.device)
    last = torch.zeros_like(distinct).scatter_reduce(0, inverse, places, "amax")
    return distinct, last


def mixed(keys: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """64 well-mixed bits for each 64-bit key, the same on every device.

    The finaliser of Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014, figure 15 (variant 13); integers wrap around.

    >>> mixed(torch.tensor([1, 2])) & 1023
    tensor([193, 718])
    """
    keys = keys + _GOLDEN
    keys = (keys ^ _shifted(keys, 30)) * _FIRST
    keys = (keys ^ _shifted(keys, 27)) * _SECOND
    return keys ^ _shifted(keys, 31)


def _shifted(keys: Int[Tensor, "*n"], by: int) -> Int[Tensor, "*n"]:
    # Torch's shift copies the sign; the algorithm's fills with zeros.
    return (keys >> by) & (2 ** (64 - by) - 1)


def _counts(ids: Int[Tensor, "b k"], length: int, dtype: torch.dtype) -> Float[Tensor, "b n"]:
    """How often each of `length` ids stands in each row: whole numbers, the same in any order."""
    rows = torch.arange(len(ids), device=ids.device)[:, None] * length
    return (rows + ids).flatten().bincount(minlength=len(ids) * length).view(-1, length).to(dtype)


def _unlabelled(count: int) -> Int[Tensor, " n"]:
    return torch.full((count,), -1)
