"""Forward passes that leave no trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def keeping_modes(module: nn.Module) -> Iterator[None]:
    """Train and eval as they were before the block, each submodule's own."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def forgetful(module: nn.Module) -> None:
    """Eval mode, without what a module kept of its parameters when it was last in it.

    LeViT's attention keeps its table of positions from the first pass in eval mode on: a later pass
    would have no gradient of it, or that of a graph which is gone. Train mode makes it forget.
    """
    module.train()
    module.eval()


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """In the block: no gradients; after it: modes, buffers and torch's generators as before.

    The module works on copies of its buffers meanwhile, so that a graph that saved one of them
    stays valid.
    """
    devices = {tensor.device for tensor in module.parameters() if tensor.device.type == "cuda"}
    indices = sorted(device.index or 0 for device in devices)
    owned = [(part, dict(part._buffers)) for part in module.modules()]
    copies = {
        id(buffer): buffer.clone()
        for _, buffers in owned
        for buffer in buffers.values()
        if buffer is not None
    }
    with keeping_modes(module), torch.no_grad(), torch.random.fork_rng(devices=indices):
        try:
            for part, buffers in owned:
                for name, buffer in buffers.items():
                    part._buffers[name] = None if buffer is None else copies[id(buffer)]
            yield
        finally:
            for part, buffers in owned:
                part._buffers.update(buffers)
