"""What a finished model of a study answered, item by item: right or not, and what.

Answers are compared as what they are: a class's number, or the final answer of what was written.
"""

import numpy as np
import torch

from preceptor.data.verifiers import final_answer
from preceptor.errors import DataError
from preceptor.evaluate.study.cells import Answered
from preceptor.evaluate.tokens import first_choices
from preceptor.models.tapped import TappedModel
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.subject import Answers, Subject
from preceptor.recipe.text_answers import EVALUATION_BATCH, parted, reference, shows_of
from preceptor.recipe.text_subject import TextSubject
from preceptor.teachers.base import Teacher

NOT_FINITE = Answered("collapsed", "its numbers are not finite", (), (), 0.0, 0, 0.0)


def answered(subject: Subject, model: TappedModel | Teacher, parameters: int) -> Answered:
    """A model's answer to every test item, and how good it is on the validation items.

    Args:
        subject: the data, of images or of text with `verify`.
        model: a finished student, or a teacher; it is moved to the GPU where there is one.
        parameters: how many it has.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    held, test = (
        subject.answers(model, part, device, lambda: None) for part in ("validation", "test")
    )
    if isinstance(subject, TextSubject):
        return _of_text(subject, model, parameters, held, test)
    assert isinstance(subject, ImageSubject), "refused when the study was planned"
    if not (held[""].isfinite().all() and test[""].isfinite().all()):
        return NOT_FINITE
    return Answered(
        state="done",
        why="",
        answers=tuple(test[""].argmax(dim=-1).tolist()),
        labels=tuple(subject.labels.tolist()),
        validation=subject.quality(held),
        parameters=parameters,
        seconds=0.0,
    )


def _of_text(
    subject: TextSubject,
    model: TappedModel | Teacher,
    parameters: int,
    held: Answers,
    test: Answers,
) -> Answered:
    """Final answers, and the likeliest token at each place of the data's own responses."""
    if not (held["token_nll"].isfinite().all() and test["token_nll"].isfinite().all()):
        return NOT_FINITE
    given, labels = _finals(subject, test)
    texts = subject.part("test", isinstance(model, Teacher))
    tokens, asked = first_choices(shows_of(model), texts.batches(EVALUATION_BATCH))
    return Answered(
        state="done",
        why="",
        answers=given,
        labels=labels,
        validation=subject.quality(held),
        parameters=parameters,
        seconds=0.0,
        tokens=tuple(tokens.tolist()),
        asked=asked,
    )


def _finals(subject: TextSubject, test: Answers) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was answered and what is right: the same words exactly where the verifier says so."""
    said, texts = subject.said.verify, subject.test
    assert said is not None, "asked for when the study was planned"
    written = parted(test)
    if len(written) != len(texts):
        raise DataError(
            f"a model answered {len(written)} test rows, and its student reads {len(texts)}",
            "answers are compared row by row, and rows were dropped as too long for one of them",
            "Raise data.max_length, or leave the longest rows out of the data.",
        )
    ways = said.by, said.after, said.pattern
    references = [reference(texts, row).strip() for row in range(len(texts))]
    labels = tuple(final_answer(each, *ways) or each for each in references)
    right = np.asarray(test["accuracy"], dtype=bool)
    # Numbers are shortened where they are told: a wrong one may read as the right one does.
    finals = (final_answer(each, *ways) for each in written)
    wrong = (f"not {f}" if f == label else f for f, label in zip(finals, labels, strict=True))
    given = zip(right, wrong, labels, strict=True)
    return tuple(label if hit else other for hit, other, label in given), labels
