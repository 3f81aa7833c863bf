"""Whether worked answers hang on their steps, and whether teacher and student follow each other's.

A model is given a part of a text up to the mark that the answer follows, and writes the answer
alone: a few tokens, so that each question costs a reading of the text and little more.

Dimension key: n rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from preceptor.data.text import TextSet
from preceptor.data.verifiers import final_answer, verifier
from preceptor.evaluate.rationales import CUTS, early_answers, shortened
from preceptor.models.causal import context_length
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import Verify
from preceptor.recipe.text_answers import greedily, reference

_BEYOND = 8
"""Tokens that an answer may have beyond the longest right one."""


@final
@dataclass(frozen=True)
class Worked:
    """A model, the test rows as it reads them, what it wrote to each, and its final answers."""

    model: TappedModel
    rows: TextSet
    texts: Sequence[str]
    finals: Sequence[str]


def hanging(own: Worked, verify: Verify) -> Mapping[str, Float[np.ndarray, " n"]]:
    """How far its answers hang on the steps before them: see `evaluate.rationales.early_answers`.

    Reads every text four times, cut short, and writes an answer each time.
    """
    right = verifier(verify.by, verify.after, verify.pattern)
    early = [_answered(own, verify, own.texts, share) for share in CUTS]
    bare = early[CUTS.index(0.0)]
    hits = [
        text is not None and right(text, reference(own.rows, row)) for row, text in enumerate(bare)
    ]
    return early_answers([_finals(each, verify) for each in early], own.finals, hits)


def following(
    own: Worked, teacher: Worked, verify: Verify
) -> Mapping[str, Float[np.ndarray, " n"]]:
    """Whether each answers as the other did, given all of the other's steps."""
    ours = _finals(_answered(own, verify, teacher.texts, 1.0), verify)
    theirs = _finals(_answered(teacher, verify, own.texts, 1.0), verify)
    return {
        "from_teachers_steps": _same(ours, teacher.finals),
        "teacher_from_its_steps": _same(theirs, own.finals),
    }


def _answered(who: Worked, verify: Verify, texts: Sequence[str], share: float) -> list[str | None]:
    """Texts cut to a share of their steps, with the answers that the model gives there.

    None where the model's context has no room for so much: that is no answer.
    """
    mark = verify.after
    assert mark is not None, "asked for when the recipe was read"
    count = len(who.rows)
    right = {reference(who.rows, row).rpartition(mark)[2] for row in range(count)}
    most = min(
        max(1, verify.most - _tokens(who, mark)),
        _BEYOND + max(_tokens(who, each) for each in right),
    )
    begun = [shortened(text, mark, share) for text in texts]
    room = context_length(who.model.module)
    lengths = who.rows.prompt_lengths
    fits = [
        room is None or lengths[row] + _tokens(who, begun[row]) + most <= room
        for row in range(count)
    ]
    started = [text if fit else mark for text, fit in zip(begun, fits, strict=True)]
    said = greedily(who.model, who.rows, most, verify.batch, started)[0]
    return [text if fit else None for text, fit in zip(said, fits, strict=True)]


def _tokens(who: Worked, text: str) -> int:
    return len(who.rows.rendering.tokenizer.encode(text, add_special_tokens=False))


def _finals(texts: Sequence[str | None], verify: Verify) -> list[str | None]:
    return [
        None if text is None else final_answer(text, verify.by, verify.after, verify.pattern)
        for text in texts
    ]


def _same(some: Sequence[str | None], others: Sequence[str]) -> Float[np.ndarray, " n"]:
    return np.array([float(a == b) for a, b in zip(some, others, strict=True)])
