"""What speaks for or against a teacher of classes before a student is trained."""

import numpy as np
import torch
from jaxtyping import Int

from preceptor.data.image_source import ImageSource
from preceptor.evaluate.diagnosis import Finding, cover, far_ahead, lead, of_answers, settled
from preceptor.models.tapped import TappedModel
from preceptor.recipe.image_subject import ImageSubject
from preceptor.teachers.base import Teacher


def prospects(
    subject: ImageSubject, source: ImageSource, student: TappedModel, teacher: Teacher | None
) -> list[str]:
    """Sentences from the validation images; those that begin with "!" ask for something to be done.

    Args:
        subject: the data.
        source: what the student will see of it.
        student: as it begins.
        teacher: None where it is yet to be trained; then only the examples are looked at.
    """
    labels = subject.data.validation.labels.numpy()
    found = [uncovered(subject, source, labels)]
    if teacher is not None:
        theirs, own = (_logits(subject, model) for model in (teacher, student))
        found += [
            lead(_right(theirs, labels), _right(own, labels), "the student as it begins"),
            *of_answers(theirs, labels, subject.classes),
            far_ahead(times_larger(teacher, student)),
        ]
    return [f"{'! ' if each.advice else ''}{each}" for each in settled(found)]


def times_larger(teacher: Teacher, student: TappedModel) -> float:
    """The teacher's parameters over the student's; 0 where it is no one model here."""
    model = getattr(teacher, "model", None)
    if not isinstance(model, TappedModel):
        return 0.0
    theirs, own = (sum(each.numel() for each in one.parameters()) for one in (model, student))
    return theirs / max(1, own)


def uncovered(
    subject: ImageSubject, source: ImageSource, labels: Int[np.ndarray, " n"]
) -> Finding | None:
    """Classes among the labels of which the source shows no image; None where there are none."""
    seen = subject.data.train.labels[torch.cat([source.labelled, source.unlabelled])].numpy()
    # Of an image without any label nobody knows what it shows.
    return cover(seen, labels, subject.classes) if (seen >= 0).all() else None


def _logits(subject: ImageSubject, model: TappedModel | Teacher) -> np.ndarray:
    answers = subject.answers(model, "validation", torch.device("cpu"), lambda: None)
    return answers[""].numpy()


def _right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return logits.argmax(axis=-1) == labels
