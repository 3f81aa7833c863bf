"""What a language model answers to rows of text: how well it predicts them, and what it writes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from torch import Tensor, nn

from preceptor.data.compose import compose
from preceptor.data.text import TextSet
from preceptor.data.verifiers import verifier
from preceptor.errors import DataError
from preceptor.evaluate.confidences import Confidences
from preceptor.evaluate.tokens import token_scores, unlikeliness
from preceptor.models.generate import generate
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import Verify
from preceptor.recipe.writing import ends_of
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.types import Batch, Distribution

EVALUATION_BATCH = 16
_MOST_CHOICES = 20
TEXT, TEXT_ENDS = "text", "text_ends"
"""Names under which what was written stands beside the numbers."""

SURENESS = "reliability"
"""And how sure the model is of its next tokens: `Confidences.bins`."""

SIZES = "bytes"
"""And how many bytes are scored of each row, over which its bits are counted."""

BESIDE = (TEXT, TEXT_ENDS, SURENESS, SIZES)
"""All that is no measure of a row."""

Numbers = Mapping[str, np.ndarray]
"""One number a row, by the measure's name."""


def predicted(
    model: TappedModel | Teacher,
    texts: TextSet,
    rows: np.ndarray,
    beside: Teacher | None,
    confidences: Confidences | None = None,
) -> Numbers:
    """How well a model predicts some rows, and how near it is to another one there.

    `confidences` is told how sure it is of each token.
    """
    batches = batches_of(texts, rows)
    other = None if beside is None else lambda batch: beside.signal(batch).distribution
    return token_scores(shows_of(model), batches, len(rows), texts.bytes(rows), other, confidences)


def batches_of(texts: TextSet, rows: np.ndarray) -> Iterator[Batch]:
    """Some rows, a few at a time."""
    for start in range(0, len(rows), EVALUATION_BATCH):
        yield texts.batch(rows[start : start + EVALUATION_BATCH])


def written(model: TappedModel | Teacher, texts: TextSet, verify: Verify) -> Numbers:
    """Greedy answers to every prompt: right or not, how long, and whether they came to an end.

    Nothing where the model is none that writes.

    Raises:
        DataError: a row has no answer to compare with.
    """
    writer = model.model if isinstance(model, Live) else model
    if not isinstance(writer, TappedModel):
        return {}
    right = verifier(verify.by, verify.after, verify.pattern)
    said, length, ended = greedily(writer, texts, verify.most, verify.batch)
    hit = np.array([right(text, reference(texts, row)) for row, text in enumerate(said)])
    return {"accuracy": hit.astype(float), "length": length, "ended": ended, **joined(said)}


def greedily(
    writer: TappedModel, texts: TextSet, most: int, batch: int, begun: Sequence[str] = ()
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What a model writes to every prompt, how many tokens, and whether it came to an end.

    With `begun`, one text a row, it goes on from there, and what it began with is told too.
    """
    tokenizer = texts.rendering.tokenizer
    said, length, ended = [""] * len(texts), np.zeros(len(texts)), np.zeros(len(texts))
    first = [np.array(tokenizer.encode(text, add_special_tokens=False), int) for text in begun]
    # Of one length together, so that little is padded.
    order = np.argsort(texts.lengths, kind="stable")
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        prompts = texts.prompts(rows)
        if first:
            prompts = [np.append(p, first[row]) for p, row in zip(prompts, rows, strict=True)]
        found = generate(
            writer,
            prompts,
            Sampling(max_new=most, temperature=0.0),
            seeds=rows.tolist(),
            ends=ends_of(texts.rendering),
            pad=texts.rendering.pad,
        )
        for row, ids, end in zip(rows, found.ids, found.ended, strict=True):
            before = begun[row] if begun else ""
            said[row] = before + tokenizer.decode(ids, skip_special_tokens=True)
            length[row], ended[row] = len(ids), end
    return said, length, ended


def chosen(model: TappedModel | Teacher, texts: TextSet, verify: Verify) -> Numbers:
    """Of all answers that the rows have, the likeliest after each prompt: right or not.

    accuracy is that of the largest log-probability, accuracy_by_length that of the largest a byte
    (as the Language Model Evaluation Harness calls acc and acc_norm).

    Raises:
        DataError: a row has no answer, or there are more than 20 different ones.
    """
    rows = np.arange(len(texts))
    answers = [reference(texts, int(row)).strip() for row in rows]
    choices = sorted(dict.fromkeys(answers))
    if len(choices) > _MOST_CHOICES:
        raise DataError(
            f"{len(choices)} different answers stand in the {texts.name} part",
            f"each is scored after every prompt, and {_MOST_CHOICES} are the most",
            "Verify by exact, numeric or regex, which score what is written.",
        )
    encode = texts.rendering.tokenizer.encode
    responses = [encode(choice, add_special_tokens=False) for choice in choices]
    count = len(choices)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(rows), max(1, verify.batch // count)):
            part = rows[start : start + max(1, verify.batch // count)]
            prompts = [each for each in texts.prompts(part) for _ in choices]
            ids = [row * count + k for row in part.tolist() for k in range(count)]
            pad = texts.rendering.pad
            yield compose(prompts, responses * len(part), "data", ids=ids, pad=pad)

    sizes = np.array([len(choice.encode()) for choice in choices])
    found = unlikeliness(shows_of(model), batches(), len(rows) * count)
    unlikely = found.reshape(len(rows), count)
    label = np.array([choices.index(answer) for answer in answers])
    best = unlikely.argmin(axis=1)
    return {
        "accuracy": (best == label).astype(float),
        "accuracy_by_length": ((unlikely / sizes).argmin(axis=1) == label).astype(float),
        **joined([choices[k] for k in best]),
    }


def joined(texts: Sequence[str]) -> Numbers:
    """Texts as arrays: the bytes of all, and where each ends."""
    each = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in each], dtype=np.int64)
    return {TEXT: np.frombuffer(b"".join(each), np.uint8).copy(), TEXT_ENDS: ends}


def parted(answers: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The texts that `joined` joined; none where there are none.

    >>> from torch import from_numpy
    >>> parted({name: from_numpy(part) for name, part in joined(["a", "", "né"]).items()})
    ('a', '', 'né')
    """
    if TEXT not in answers:
        return ()
    whole, ends = answers[TEXT].numpy().tobytes(), answers[TEXT_ENDS].tolist()
    starts = [0, *ends[:-1]]
    return tuple(whole[a:b].decode() for a, b in zip(starts, ends, strict=True))


def reference(texts: TextSet, row: int) -> str:
    """The answer that a row's own is held against.

    Raises:
        DataError: it has none.
    """
    said = texts.row(row)
    found = said.answer if said.answer is not None else said.completion
    if found is None:
        raise DataError(
            f"{said.place} has no answer",
            "what a model writes is compared with one",
            "Name the column (columns: {answer: ...}), or leave `verify` out.",
        )
    return found


def shows_of(model: TappedModel | Teacher) -> Callable[[Batch], Distribution]:
    """What a model, or a teacher, answers to batches of text."""
    if isinstance(model, Teacher):
        return lambda batch: model.signal(batch).distribution

    def shows(batch: Batch) -> Distribution:
        model.eval()
        return model(batch.inputs).projection

    return shows


@final
class WithLogits(nn.Module):
    """A language model with the logits of every position, as whoever serves it computes them."""

    def __init__(self, model: TappedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Tensor:
        """Logits [b, t, v]."""
        shown = self.model(inputs).projection
        return shown.head.logits(shown.hidden)
