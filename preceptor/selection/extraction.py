"""From a student and a candidate's answers to features: one pass, whatever sketches the gradients.

    sketcher = FactoredSketcher(student, Sketching(dimension=512, seed=0))
    probe = probed(student, sketcher, data=prompts_fingerprint)
    features = text_features(sketcher, texts, prompts, probe)

Dimension key: n examples of a set, s of them chosen.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from preceptor.batches import Batch
from preceptor.data.collate import rounded
from preceptor.data.images import ImageSet
from preceptor.data.text import TextSet
from preceptor.errors import DataError, NonFiniteError
from preceptor.models.lora import movable
from preceptor.models.tapped import TappedModel
from preceptor.selection.features import Features
from preceptor.selection.probe import Probe
from preceptor.selection.rows import Details, Rows, bucketed
from preceptor.selection.texts import repetition, text_hash

MULTIPLE = 8
"""Lengths are padded to a multiple of this."""


@runtime_checkable
class Sketcher(Protocol):
    """What makes rows of a batch: exact, factored or of the head alone."""

    @property
    def parameters(self) -> int:
        """D."""
        ...

    @property
    def details(self) -> Details:
        """What else changes its numbers."""
        ...

    def __call__(self, batch: Batch) -> Rows:
        """The rows of a batch, in its order."""
        ...


def probed(model: TappedModel, sketcher: Sketcher, data: str) -> Probe:
    """How features of this student by this sketcher are taken; `data` names the prompts."""
    said = sketcher.details
    return Probe(
        student=student_fingerprint(model),
        data=data,
        kind=said.kind,
        dimension=said.dimension,
        parameters=sketcher.parameters,
        seed=said.seed,
        details=said.others,
    )


def student_fingerprint(model: TappedModel) -> str:
    """Sha256 of every weight and buffer, and of which of the weights are learned."""
    digest = hashlib.sha256(repr(sorted(movable(model.module))).encode())
    for name, tensor in sorted(model.module.state_dict().items()):
        held = tensor.detach().contiguous().cpu()
        digest.update(f"{name}{held.dtype}{tuple(held.shape)}".encode())
        if held.numel():
            digest.update(held.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def text_features(
    sketcher: Sketcher,
    texts: TextSet,
    prompts: Int64[np.ndarray, " n"],
    probe: Probe,
    *,
    indices: Sequence[int] | None = None,
    tokens: int = 8192,
    device: torch.device | str = "cpu",
) -> Features:
    """The features of a candidate's responses, in their order.

    Args:
        sketcher: made of the student; its model lies on `device`.
        texts: the responses as the student reads them, each with its prompt.
        prompts: which prompt each example answers.
        probe: what `probed` gave.
        indices: which examples; all where not given.
        tokens: in a batch at most, its padding counted; a longer example stands alone.
        device: where batches are moved.

    Raises:
        DataError: an example has nothing that is scored.
    """
    chosen = np.arange(len(texts)) if indices is None else np.asarray(indices, dtype=np.int64)
    for index in chosen[texts.scored[chosen] == 0]:
        raise DataError(
            f"{texts.row(int(index)).place} has no token that is scored",
            "there is no mean loss of nothing",
            "Leave prompts without a response out.",
        )
    lengths = [rounded(int(texts.lengths[index]), MULTIPLE) for index in chosen]
    parts = bucketed(lengths, tokens)

    def batch(places: Sequence[int]) -> Batch:
        return texts.batch(chosen[list(places)], multiple=MULTIPLE).to(device)

    rows = _joined((places, sketcher(batch(places))) for places in parts)
    responses = [each.tolist() for each in texts.responses(chosen)]
    return Features(
        **rows,
        prompts=prompts[chosen].astype(np.int64),
        texts=np.array([text_hash(each) for each in responses], dtype=np.int64),
        repetitions=np.array([repetition(each) for each in responses], dtype=np.float32),
        probe=probe,
    )


def image_features(
    sketcher: Sketcher,
    images: ImageSet,
    probe: Probe,
    *,
    rows: Sequence[int] | None = None,
    batch: int = 64,
    device: torch.device | str = "cpu",
) -> Features:
    """The features of a teacher's answers to images, which the sketcher was given as `soft`.

    Each image is a prompt, named by its id; no two answers are the same text.

    Args:
        sketcher: made of the student; its model lies on `device`.
        images: what the teacher answered.
        probe: what `probed` gave.
        rows: which images; all where not given.
        batch: images at once.
        device: where batches are moved.
    """
    chosen = torch.arange(len(images)) if rows is None else torch.as_tensor(rows)
    parts = (images.batch(chosen[part]) for part in torch.arange(len(chosen)).split(batch))
    return batch_features(sketcher, (part.to(device) for part in parts), probe)


def batch_features(sketcher: Sketcher, batches: Iterable[Batch], probe: Probe) -> Features:
    """The features of a teacher's answers to any examples, of an encoder's texts too.

    Each example is a prompt, named by its id, and answered by the probabilities that the sketcher
    was given as `soft`, or by its label.

    Args:
        sketcher: made of the student.
        batches: with ids, where the student lies.
        probe: what `probed` gave.

    Raises:
        NeedsError: a batch has no ids.
    """
    ids: list[int] = []

    def parts() -> Iterator[tuple[Sequence[int], Rows]]:
        for batch in batches:
            first = len(ids)
            ids.extend(batch.ids.tolist())
            yield range(first, len(ids)), sketcher(batch)

    found, names = _joined(parts()), np.array(ids, dtype=np.int64)
    zeros = np.zeros(len(ids), dtype=np.float32)
    return Features(**found, prompts=names, texts=names, repetitions=zeros, probe=probe)


def _expect_numbers(rows: Rows) -> None:
    if not (rows.losses.isfinite().all() and rows.sketches.isfinite().all()):
        raise NonFiniteError(
            "an example's loss, or its gradient, is no number",
            "the student's own pass gives none for it, and no score can be made of it",
            "Look for padding that is longer than a sliding window (another `attn_implementation` "
            "may take it), or for weights that are no numbers.",
        )


def _joined(parts: Iterable[tuple[Sequence[int], Rows]]) -> dict[str, np.ndarray]:
    """Rows of batches, back in the order of the examples that they are of."""
    places: list[int] = []
    rows: list[Rows] = []
    for where, found in parts:
        _expect_numbers(found)
        places += where
        rows.append(found)
    order = np.argsort(places)

    def column(name: str, kind: type) -> np.ndarray:
        each: list[Tensor] = [getattr(found, name).detach().cpu() for found in rows]
        return torch.cat(each).numpy().astype(kind)[order]

    return {
        "sketches": column("sketches", np.float32),
        "losses": column("losses", np.float32),
        "lengths": column("lengths", np.int64),
        "rank_sums": column("rank_sums", np.float32),
    }
