"""How alike two models are on the same examples: in what they answer, and in how they see.

Dimension key: *n positions, v classes, b examples, d and e widths.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.errors import DataError


def agreement(
    *, teacher: Float[Tensor, "*n v"], student: Float[Tensor, "*n v"]
) -> Float[Tensor, "*n"]:
    """1 where both give the same class the largest logit, else 0.

    >>> agreement(teacher=torch.tensor([[1.0, 2.0]]), student=torch.tensor([[0.0, 9.0]]))
    tensor([1.])
    """
    return (teacher.argmax(dim=-1) == student.argmax(dim=-1)).float()


def linear_cka(first: Float[Tensor, "b d"], second: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    """Centered kernel alignment of two models' features of the same examples, unbiased.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = first @ first.T, L = second @ second.T.
    1 for features equal up to rotation, scale and shift; around 0 for unrelated ones, however
    wide they are and however few the examples; it may fall a little below 0. NaN where one side
    does not vary.

    Simon Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019,
    equation 2, with the estimator of HSIC by Le Song et al., "Feature Selection via Dependence
    Maximization", JMLR 2012, equation 5: the usual one tends to 1 where d exceeds b.

    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [4.0, 4.0]])
    >>> round(linear_cka(x, -5 * x + 1).item(), 6)
    1.0

    Raises:
        DataError: with fewer than four examples, for which the estimator is not defined.
    """
    if len(first) < 4:
        raise DataError(
            f"features of {len(first)} examples were compared",
            "the unbiased alignment needs at least four",
            "Give more examples.",
        )
    k, l = _gram(first), _gram(second)  # noqa: E741 (the papers' letters)
    scale = (_hsic(k, k) * _hsic(l, l)).clamp_min(0).sqrt()
    return (_hsic(k, l) / scale).to(torch.float32)


def _gram(features: Float[Tensor, "b d"]) -> Float[Tensor, "b b"]:
    # Float64, and centred although the estimator does not ask for it: its terms cancel.
    features = features.double()
    features = features - features.mean(dim=0)
    return (features @ features.T).fill_diagonal_(0)


def _hsic(k: Float[Tensor, "b b"], l: Float[Tensor, "b b"]) -> Float[Tensor, ""]:  # noqa: E741
    n = len(k)
    alone = k.sum() * l.sum() / ((n - 1) * (n - 2))
    shared = 2 / (n - 2) * (k.sum(dim=0) @ l.sum(dim=1))
    return ((k * l).sum() + alone - shared) / (n * (n - 3))


def procrustes(first: Float[Tensor, "b d"], second: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    """How much of two models' features a rotation and a scale can bring together, from 0 to 1.

    ||X^T Y||_* / (||X||_F ||Y||_F) of centred features: the cosine between one and the other after
    the best rotation (P. Schönemann, "A generalized solution of the orthogonal Procrustes
    problem", Psychometrika 1966). Few directions of large variance weigh less than in
    `linear_cka`; with few examples of wide features it is large for unrelated ones too. NaN where
    one side does not vary.

    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    >>> round(procrustes(x, -5 * x.flip(1) + 1).item(), 6)
    1.0
    """
    x, y = (side.double() - side.double().mean(dim=0) for side in (first, second))
    scale = torch.linalg.matrix_norm(x) * torch.linalg.matrix_norm(y)
    return (torch.linalg.matrix_norm(x.T @ y, ord="nuc") / scale).to(torch.float32)


def effective_rank(features: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """exp(-sum p log p) of the shares p of centred features' singular values, from 1 to min(b, d).

    Olivier Roy and Martin Vetterli, "The effective rank: a measure of effective dimensionality",
    EUSIPCO 2007. NaN where they do not vary.

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])).item(), 2)
    1.93
    """
    centred = features.double() - features.double().mean(dim=0)
    sizes = torch.linalg.svdvals(centred)
    share = sizes / sizes.sum()
    return torch.special.entr(share).sum().exp().to(torch.float32)
