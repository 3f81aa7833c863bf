"""What the promises are tried with: leaves that ask for gradients, other fillings, comparisons."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from preceptor.objectives.base import Objective
from preceptor.testing.world import World, each, head_of
from preceptor.types import Batch, Dense, Head, Outputs, Signal, Term


def with_leaves(shown: Any, who: str, leaves: dict[str, Tensor]) -> Any:
    """An answer whose tensors ask for a gradient; they are put into `leaves` by name."""

    def leaf(name: str, tensor: Tensor) -> Tensor:
        leaves[f"{who} {name}"] = tensor.detach().clone().requires_grad_()
        return leaves[f"{who} {name}"]

    taps = {name: leaf(f"tap {name}", tap) for name, tap in shown.taps.items()}
    head = head_of(shown)
    if head is not None:
        bias = None if head.bias is None else leaf("head bias", head.bias)
        head = Head(leaf("head weight", head.weight), bias)
    if isinstance(shown, Outputs):
        return Outputs(leaf("logits", shown.logits), taps, head)
    dense = Dense(leaf("logits", shown.logits)) if shown.has_distribution() else None
    return Signal(dense, taps, head)


def loss_of(world: World) -> Tensor:
    """All terms' sums, added."""
    return torch.stack(list(world.totals().values())).sum()


def gradients(world: World) -> dict[str, Tensor | None]:
    """The loss's gradient in each of the student's tensors and each auxiliary parameter."""
    leaves: dict[str, Tensor] = {}
    student = with_leaves(world.student, "student", leaves)
    leaves |= {f"aux {n}": p for n, p in world.aux.named_parameters() if p.requires_grad}
    loss = loss_of(replace(world, student=student))
    assert loss.requires_grad, f"{world.objective.name}: its terms have no gradient at all"
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, grads, strict=True))


def masked_filled(world: World, hidden: Tensor, filling: float) -> World:
    """Another world where masked positions hold `filling`, in every tensor, and another label."""
    logits_only = hidden.ndim > 1

    def fill(tensor: Tensor) -> Tensor:
        place = hidden if logits_only else hidden.nonzero().squeeze(1)
        changed = tensor.clone()
        changed[place] = filling
        return changed

    fields = world.batch.fields()
    labels = fields["labels"]
    if labels is not None:
        labels = torch.where(hidden, (labels + 1).clamp_min(0) % 2, labels)
    extra = {name: tensor.masked_fill(hidden, filling) for name, tensor in fields["extra"].items()}
    changed = replace(world, student=each(world.student, fill), teacher=each(world.teacher, fill))
    return changed.relabelled(labels=labels, extra=extra)


def visible(grad: Tensor | None, name: str, hidden: Tensor) -> Tensor:
    """A gradient without the rows of masked positions; parameters as they are."""
    if grad is None:
        return torch.zeros(())
    shared = name.startswith("aux ") or "head" in name
    return grad if shared else grad[~hidden]


def counted(term: Term, batch: Batch) -> Tensor:
    """A term's values, zero where they do not count."""
    mask = batch.mask(term.over)
    if term.per == "example":
        mask = mask.reshape(len(batch), -1).any(dim=-1)
    return torch.where(mask, term.values, 0.0)


def same(
    objective: Objective[Any],
    what: str,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    tolerance: float = 1e-4,
) -> None:
    """Raise AssertionError, saying what was changed, where one number is another one after it."""
    assert set(before) == set(after), f"{objective.name}: {what} changes which terms there are"
    for name, old in before.items():
        new = after[name]
        if torch.allclose(new, old, rtol=tolerance, atol=tolerance / 10):
            continue
        far = (new - old).abs().max().item()
        words = f"by up to {far:g}" if old.ndim else f"from {old.item():g} to {new.item():g}"
        raise AssertionError(f"{objective.name}: {what} changes {name!r} {words}")
