"""How much each member of an ensemble counts, example by example.

Dimension key: k members, *n positions, v classes.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def confidence(log_probs: Float[Tensor, "k *n v"]) -> Float[Tensor, "k *n"]:
    """Who is surer counts more: w_k = exp(-H(p_k)) / sum_j exp(-H(p_j)), H in nats.

    >>> sure, unsure = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    >>> confidence(torch.stack([sure, unsure]).log())
    tensor([0.6667, 0.3333])
    """
    # 0 log 0 is 0, not NaN: a class that a member rules out adds nothing to its entropy.
    products = torch.where(log_probs == -torch.inf, 0.0, log_probs.exp() * log_probs)
    return torch.softmax(products.sum(dim=-1), dim=0)


def agreement(
    log_probs: Float[Tensor, "k *n v"], labels: Int[Tensor, "*n"], labelled: Bool[Tensor, "*n"]
) -> Float[Tensor, "k *n"]:
    """Who finds the label likelier counts more: w_k = (1 - exp(CE_k) / sum_j exp(CE_j)) / (K - 1).

    Hailin Zhang, Defang Chen, Can Wang. "Confidence-Aware Multi-Teacher Knowledge Distillation".
    ICASSP 2022. arXiv:2201.00007. Where there is no label, all count the same; one
    member alone counts as 1.

    >>> probs = torch.tensor([[[0.8, 0.2]], [[0.2, 0.8]]])
    >>> agreement(probs.log(), torch.tensor([0]), torch.tensor([True])).flatten()
    tensor([0.8000, 0.2000])
    """
    k = log_probs.shape[0]
    uniform = torch.full_like(log_probs[..., 0], 1 / k)
    if k == 1:
        return uniform
    index = labels.clamp_min(0).expand(k, *labels.shape).unsqueeze(-1)
    cross_entropy = -log_probs.gather(-1, index).squeeze(-1)
    weights = (1 - torch.softmax(cross_entropy, dim=0)) / (k - 1)
    return torch.where(labelled, weights, uniform)
