"""What can go wrong between two language models, looked at on the user's own pair."""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from preceptor.data.text import TextSet
from preceptor.evaluate.diagnosis import (
    Finding,
    far_ahead,
    settled,
    support,
    token_confidence,
    token_lead,
)
from preceptor.evaluate.tokens import some_log_probs
from preceptor.evaluate.tokens import support as covered
from preceptor.models.causal import language_head
from preceptor.models.tapped import TappedModel
from preceptor.ops.calibration import temperature_interval
from preceptor.ops.projection import projected, slice_length
from preceptor.recipe.text_answers import Numbers, batches_of, predicted, shows_of
from preceptor.recipe.text_subject import TextSubject
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Projected, Signal, Whole
from preceptor.verbs.prospects import times_larger

_ROWS = 4
_HELD = 64
"""Held-out rows on which the two are compared."""
_PLACES = 10
"""Likeliest tokens of each that are compared."""
_LOOKED_AT = 200
"""Rows whose endings are looked at."""


def diagnosis(
    subject: TextSubject, student: TappedModel, teacher: Teacher | None, *, writes: bool
) -> list[str]:
    """Sentences about data, vocabularies and models; those that begin with "!" are warnings.

    The teacher may be None, where there is none yet; `writes` says whether the student is to learn
    from its own text. Nothing is trained or kept.
    """
    missing = subject.left_out()
    lines = [*_rows(subject), *(f"! {each}" for each in missing)]
    lines += [*subject.remarks()[len(missing) :], *_sizes(student, "student")]
    batch = subject.train.batch(np.arange(min(_ROWS, len(subject.train))))
    lines.append(_projection(student, batch))
    if teacher is None:
        return lines
    model = getattr(teacher, "model", None)
    if isinstance(model, TappedModel):
        lines += _sizes(model, "teacher")
    if subject.voice.joining is None:
        lines += _vocabulary(student, teacher, batch)
    return lines + _better(subject, student, teacher, writes)


def _rows(subject: TextSubject) -> list[str]:
    texts = subject.train
    looked = np.arange(min(_LOOKED_AT, len(texts)))
    lines = []
    if texts.rows and texts.rows[0].form != "text":
        ended = _ended(texts, looked)
        if ended < len(looked):
            lines.append(
                f"! {len(looked) - ended} of {len(looked)} responses do not end with a token that "
                "ends them: the student will not learn where to stop"
            )
    if texts.teacher is not None and texts.teacher_lengths is not None:
        lines.append(
            "the teacher reads another template or prompt than the student; only the responses' "
            "own tokens are compared"
        )
    return lines


def _ended(texts: TextSet, rows: Any) -> int:
    tokenizer = texts.rendering.tokenizer
    ends = {tokenizer.eos_token_id, *tokenizer.added_tokens_decoder}
    return sum(int(ids[-1]) in ends for ids in texts.responses(rows) if len(ids))


def _sizes(model: TappedModel, who: str) -> list[str]:
    moving = [p for p in model.parameters() if p.requires_grad]
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    rows = len(language_head(model.module).weight)
    line = f"{who}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
    if model.vocabulary and model.vocabulary < rows:
        line += f", {rows - model.vocabulary:,} of {rows:,} head rows set aside"
    line += f", weights {_mib(held)}"
    if who == "student":
        grown = sum(p.numel() * p.element_size() for p in moving)
        line += f", gradients {_mib(grown)}, Adam's moments {_mib(2 * grown)}"
    return [line]


def _projection(student: TappedModel, batch: Batch) -> str:
    """The loss and its gradient by slices, beside those of dense logits."""
    device = next(student.parameters()).device
    batch = batch.to(device)
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    labels = batch.labels.flatten()[index]
    student.eval()
    found = []
    for sliced in (False, True):
        shown = student(batch.inputs).projection
        hidden = shown.hidden.flatten(0, -2)[index].detach().requires_grad_()
        if sliced:
            loss = projected(hidden, shown.head, _Labels(labels), length=max(1, len(index) // 3))
        else:
            loss = _Labels(labels).value(shown.head.logits(hidden), slice(0, len(index)))
        (grad,) = torch.autograd.grad(loss, hidden)
        found.append((float(loss.detach()), grad))
    (dense, wide), (thin, narrow) = found
    value = abs(dense - thin) / max(1e-12, abs(dense))
    gradient = float((wide - narrow).norm() / wide.norm().clamp_min(1e-12))
    classes = len(shown.head.weight)
    length = slice_length(classes)
    held = 12 * length * classes
    return (
        f"by slices of up to {length} positions the loss differs from dense logits by "
        f"{value:.1e}, its gradient by {gradient:.1e}; a slice takes about {_mib(held)}"
    )


@final
class _Labels:
    """Cross-entropy against labels, for both ways of computing it."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def begin(self, rows: slice) -> None:
        del rows

    def value(self, logits: Tensor, rows: slice) -> Tensor:
        return torch.nn.functional.cross_entropy(logits, self.labels[rows], reduction="sum")

    def gradient_(self, logits: Tensor, rows: slice) -> None:
        del logits, rows


def _vocabulary(student: TappedModel, teacher: Teacher, batch: Batch) -> list[str]:
    own = student(batch.inputs).shape[-1]
    other = _classes(teacher.signal(batch))
    if other is not None and other != own:
        return [f"! the teacher answers with {other} classes, the student with {own}"]
    return []


def _classes(signal: Signal) -> int | None:
    if not signal.has_distribution():
        return None
    shown = signal.distribution
    if isinstance(shown, Projected):
        return len(shown.head.weight)
    if isinstance(shown, Whole):
        return shown.log_probs(1.0).shape[-1]
    return shown.classes


def _better(
    subject: TextSubject, student: TappedModel, teacher: Teacher, writes: bool
) -> list[str]:
    rows = np.arange(min(_HELD, len(subject.validation)))
    if "probabilities" not in teacher.offers().kinds:
        return []  # A server tells its largest probabilities alone.
    ours = predicted(student, subject.validation, rows, None)
    theirs = predicted(teacher, subject.part("validation", teacher=True), rows, None)
    if subject.voice.joining is not None:
        each = [found["token_nll"].mean() for found in (theirs, ours)]
        return [
            f"on {len(rows)} held-out rows the teacher needs {each[0]:.3f} nats a token, the "
            f"student before training {each[1]:.3f}, each in its own tokens"
        ]
    gained = theirs["token_nll"], ours["token_nll"], "the student as it begins"
    found = [
        token_lead(*gained),
        _sure(subject, teacher, rows, theirs),
        far_ahead(times_larger(teacher, student)),
    ]
    if subject.voice.reading is None:
        found.append(_supported(subject, student, teacher, rows, writes))
    return [f"{'! ' if each.advice else ''}{each}" for each in settled(found)]


def _sure(subject: TextSubject, teacher: Teacher, rows: Any, found: Numbers) -> Finding | None:
    """Whether the teacher is surer than it may be, and at which temperature it is not."""
    texts = subject.part("validation", teacher=True)
    temperature = temperature_interval(*some_log_probs(shows_of(teacher), batches_of(texts, rows)))
    right = float(found["token_accuracy"].mean())
    return token_confidence(found["token_overconfidence"], right, temperature)


def _supported(
    subject: TextSubject, student: TappedModel, teacher: Teacher, rows: Any, writes: bool
) -> Finding | None:
    """Whether a student that writes would come upon what its teacher would say."""
    sides = shows_of(student), shows_of(teacher)
    found = covered(*sides, batches_of(subject.validation, rows), len(rows), _PLACES)
    return support(found["mass"], float(found["overlap"].mean()), _PLACES, writes=writes)


def _mib(count: float) -> str:
    return f"{count / 2**20:.1f} MiB"
