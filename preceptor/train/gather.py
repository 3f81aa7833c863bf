"""Rows of all ranks in the order that one process would have had them.

Each rank holds rows rank, rank + world, ... of the step's global batch (`data.source`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from preceptor.types import (
    Batch,
    Changed,
    Dense,
    Distribution,
    Mixture,
    Outputs,
    Projected,
    Signal,
    map_tensors,
)


class _Gather(torch.autograd.Function):
    """All ranks' rows; the gradient of a row is the sum of what all ranks want of it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        world = dist.get_world_size()
        ctx.rank, ctx.world = dist.get_rank(), world
        each = [torch.empty_like(rows) for _ in range(world)]
        dist.all_gather(each, rows.contiguous())
        return torch.stack(each, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return grad[ctx.rank :: ctx.world]


def gather_rows(rows: Tensor) -> Tensor:
    """[b, ...] of each rank to [world * b, ...], differentiable."""
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8)).bool()
    if rows.is_floating_point() and rows.requires_grad:
        gathered = _Gather.apply(rows)
        assert isinstance(gathered, Tensor)
        return gathered
    each = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(each, rows.contiguous())
    return torch.stack(each, dim=1).flatten(0, 1)


def gather_batch(batch: Batch) -> Batch:
    """The step's global batch."""
    fields = {name: map_tensors(value, gather_rows) for name, value in batch.fields().items()}
    return Batch(**fields)


def gather_outputs(outputs: Outputs) -> Outputs:
    """What the student shows for the global batch; its classifier is the same on all ranks."""
    head = outputs.head if outputs.has_head() else None
    if outputs.is_projected():
        shown = outputs.projection
        return Outputs(Projected(gather_rows(shown.hidden), shown.head), _rows(outputs.taps), head)
    return Outputs(gather_rows(outputs.logits), _rows(outputs.taps), head)


def gather_signal(signal: Signal) -> Signal:
    """The teacher's answer to the global batch."""
    distribution = _distribution(signal.distribution) if signal.has_distribution() else None
    head = signal.head if signal.has_head() else None
    return Signal(distribution, _rows(signal.taps), head)


def _distribution(own: Distribution) -> Distribution:
    if isinstance(own, Dense | Projected | Changed):
        return _member(own)
    if isinstance(own, Mixture):
        weights = gather_rows(own.weights.transpose(0, 1)).transpose(0, 1)
        return Mixture(tuple(map(_member, own.members)), weights)
    tensors = {n: gather_rows(t) for n, t in vars(own).items() if isinstance(t, Tensor)}
    return replace(own, **tensors)


def _member(own: Dense | Projected | Changed) -> Dense | Projected | Changed:
    if isinstance(own, Changed):
        return Changed(_logits(own.of), gather_rows(own.names), own.change)
    return _logits(own)


def _logits(own: Dense | Projected) -> Dense | Projected:
    if isinstance(own, Projected):
        return Projected(gather_rows(own.hidden), own.head)
    return Dense(gather_rows(own.logits), own.temperature)


def _rows(taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: gather_rows(tap) for name, tap in taps.items()}
