"""What a model costs: parameters, bytes, operations, and time beside its rivals.

A latency alone says more about the machine's mood than about the model, so models are timed in
turns, in a new order every round, and compared by the ratio within a round (`timing`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from preceptor.evaluate.results import ModelCost
from preceptor.evaluate.timing import Timing, Writing
from preceptor.ops.allocations import Allocations
from preceptor.types import Inputs

_PATIENCE = 20.0
"""Seconds that are spent on how fast models write."""

Writer = Callable[[int], object]
"""Writes so many tokens after its prompt."""


def parameters(model: nn.Module) -> int:
    """How many numbers are learned, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def size_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers, shared ones once."""
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def flops(model: nn.Module, example: Inputs) -> int:
    """Floating-point operations of one forward pass of `example` [1, ...], two a multiply-add.

    Counts what torch's counter counts: matrix products, convolutions, attention.
    """
    with _resting(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    return int(counter.get_total_flops())


def peak_bytes(model: nn.Module, example: Inputs) -> int:
    """Bytes of tensors held at once in a forward pass of `example`: weights, inputs, activations.

    Counted exactly, tensor by tensor; what a library's kernel takes for itself meanwhile is not.
    """
    given = (example,) if isinstance(example, Tensor) else tuple(example.values())
    with _resting(model), torch.no_grad(), Allocations() as counter:
        model(example)
    return size_bytes(model) + sum(tensor.nbytes for tensor in given) + counter.peak


def disk_bytes(folder: Path) -> int:
    """Bytes of a model's files, without its card."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return sum(path.stat().st_size for path in files)


def model_cost(model: nn.Module, example: Inputs, folder: Path | None = None) -> ModelCost:
    """All of it, for an example [1, ...] and the folder that the model is loaded from."""
    return ModelCost(
        parameters(model),
        size_bytes(model),
        flops(model, example),
        peak_bytes(model, example),
        disk_bytes(folder) if folder is not None and folder.is_dir() else 0,
    )


def together(costs: Sequence[ModelCost]) -> ModelCost:
    """Of several models that all answer, one after the other and all in memory."""
    disk = [each.disk for each in costs]
    return ModelCost(
        sum(each.parameters for each in costs),
        sum(each.bytes for each in costs),
        sum(each.flops for each in costs),
        sum(each.bytes for each in costs) + max(each.peak - each.bytes for each in costs),
        sum(disk) if all(disk) else 0,
    )


def measure(
    models: Mapping[str, Callable[[Any], Any]],
    inputs: Inputs,
    *,
    generator: np.random.Generator,
    threads: int = 1,
    rounds: int = 60,
    warmup: int = 5,
) -> Timing:
    """Time each model's forward pass of `inputs` [B, ...] once a round, in a new order each round.

    Models are put in eval mode and back, gradients are off, `threads` is torch's for the while.
    """
    before = torch.get_num_threads()
    seconds = {name: np.empty(rounds) for name in models}
    names = list(models)
    first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    wait = torch.cuda.synchronize if first.is_cuda else _nothing
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), _resting(*models.values()):
            for turn in range(-warmup, rounds):
                for name in generator.permutation(names):
                    wait()
                    start = time.perf_counter()
                    models[name](inputs)
                    wait()
                    if turn >= 0:
                        seconds[name][turn] = time.perf_counter() - start
    finally:
        torch.set_num_threads(before)
    return Timing(
        seconds,
        batch=len(first),
        threads=threads,
        device=str(first.device),
        tokens=_tokens(inputs),
    )


def measure_writing(
    writers: Mapping[str, Writer],
    prompt: Tensor,
    *,
    further: int,
    generator: np.random.Generator,
    threads: int = 1,
) -> Writing:
    """Time each writer after a prompt [1, t], in turns as `measure` does, a new order each round.

    As many rounds as take about `_PATIENCE` seconds, from 5 to 20.
    """
    counts = {"first": 1, "whole": 1 + further}
    asked = {
        f"{part} {name}": _writes(writer, count)
        for name, writer in writers.items()
        for part, count in counts.items()
    }

    def timed(rounds: int) -> Timing:
        draw = generator
        return measure(asked, prompt, generator=draw, threads=threads, rounds=rounds, warmup=1)

    once = sum(float(seconds.sum()) for seconds in timed(1).seconds.values())
    found = timed(max(5, min(20, int(_PATIENCE / once))))
    parts = {
        part: replace(found, seconds={name: found.seconds[f"{part} {name}"] for name in writers})
        for part in counts
    }
    return Writing(**parts, prompt=prompt.shape[1], further=further)


def _writes(writer: Writer, count: int) -> Callable[[Any], object]:
    return lambda _: writer(count)


def _tokens(inputs: Inputs) -> int:
    if isinstance(inputs, Tensor) or "attention_mask" not in inputs:
        return 0
    return int(inputs["attention_mask"].sum())


def _nothing() -> None: ...


@contextmanager
def _resting(*models: Callable[[Any], Any]) -> Iterator[None]:
    """Eval mode for a while, for those callables that are modules."""
    modules = [model for model in models if isinstance(model, nn.Module)]
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
