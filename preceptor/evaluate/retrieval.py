"""How well embeddings find a sentence's neighbour, and how like a teacher's they are.

Both need no annotation: which sentence follows which is known from the text. It is what Ming-Wei
Chang et al. call an inverse cloze task at the length of one sentence ("Pre-training Tasks for
Embedding-based Large-scale Retrieval", ICLR 2020).

Dimension key: n pairs, d and e widths.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

Embeddings = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]
"""Of the first and the second sentence of each pair."""

_Others = tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "n e"]]


def retrieval_scores(
    own: Embeddings, beside: _Others | None = None
) -> Mapping[str, Float[np.ndarray, " n"]]:
    """One number a pair: accuracy, mrr, recall_at_5 and _10; beside a teacher two more.

    The first sentence asks; the second sentences of all pairs are candidates, ordered by cosine.
    accuracy is 1 where the pair's own comes first, mrr one over its place. A candidate that is as
    near counts as nearer, so that embeddings that are all the same find nothing. agreement is 1
    where both put the same candidate first, similarity_correlation is Spearman's over candidates,
    0 where one side's similarities do not vary.
    """
    similarity = cosines(*own)
    place = (similarity >= np.diagonal(similarity)[:, None]).sum(axis=1)
    found = {
        "accuracy": (place == 1).astype(float),
        "mrr": 1.0 / place,
        "recall_at_5": (place <= 5).astype(float),
        "recall_at_10": (place <= 10).astype(float),
    }
    if beside is not None:
        other = cosines(*beside)
        same = similarity.argmax(axis=1) == other.argmax(axis=1)
        found["agreement"] = same.astype(float)
        found["similarity_correlation"] = _spearman(similarity, other)
    return found


def cosines(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n n"]:
    """Of each first with each second; 0 for a vector of zeros."""
    units = [
        side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
        for side in (first.astype(np.float64), second.astype(np.float64))
    ]
    return units[0] @ units[1].T


def pair_cosines(embeddings: Embeddings) -> Float[np.ndarray, " n"]:
    """Of each first sentence with its own second one."""
    return np.array([cosines(a[None], b[None])[0, 0] for a, b in zip(*embeddings, strict=True)])


def _spearman(
    one: Float[np.ndarray, "n n"], other: Float[np.ndarray, "n n"]
) -> Float[np.ndarray, " n"]:
    """Row by row."""
    ranks = [rankdata(side, axis=1) for side in (one, other)]
    ours, theirs = (side - side.mean(axis=1, keepdims=True) for side in ranks)
    scale = np.sqrt((ours**2).sum(axis=1) * (theirs**2).sum(axis=1))
    return (ours * theirs).sum(axis=1) / np.where(scale > 0, scale, 1.0)
