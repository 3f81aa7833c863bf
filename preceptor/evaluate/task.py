"""How well a model does the task: one number an item, or a number over all items.

Dimension key: *s seeds, n items, v classes.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from preceptor.ops import linearised


def hits(
    logits: Float[np.ndarray, "*s n v"], labels: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, "*s n"]:
    """Whether the largest logit is the label's; its mean is the accuracy."""
    return logits.argmax(axis=-1) == labels


def top_k_hits(
    logits: Float[np.ndarray, "*s n v"], labels: Int[np.ndarray, " n"], k: int = 5
) -> Bool[np.ndarray, "*s n"]:
    """Whether fewer than k other classes have at least the label's logit: a tie is no hit.

    >>> top_k_hits(np.array([[3.0, 2.0, 1.0]]), np.array([1]), k=2)
    array([ True])
    """
    index = np.broadcast_to(labels[:, None], (*logits.shape[:-1], 1))
    own = np.take_along_axis(logits, index, axis=-1)
    return (logits >= own).sum(axis=-1) <= k


def per_class_accuracy(
    hit: Bool[np.ndarray, "*s n"], labels: Int[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, "*s v"]:
    """The accuracy within each class (its recall); NaN for a class without items."""
    member = np.eye(classes)[labels]  # [n, v]
    count = member.sum(axis=0)
    return np.divide(
        hit @ member, count, out=np.full((*hit.shape[:-1], classes), np.nan), where=count > 0
    )


def macro_f1(predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN); over classes that occur on either side."""
    return float(linearised.macro_f1(predicted, labels).mean())
