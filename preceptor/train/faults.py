"""What can go wrong in a step, and what is done about it."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from preceptor.errors import MemoryFailure, NonFiniteError
from preceptor.types import Batch, Inputs

if TYPE_CHECKING:
    from preceptor.train.training import Training


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in words or "can't allocate memory" in words
    )


def smaller_micro_batch(training: "Training", batch: int, error: BaseException) -> None:
    """Halve the micro-batch and keep the step's batch, or raise `MemoryFailure`.

    The statistics of BatchNorm have seen the aborted micro-batch, and see smaller ones from now on.
    """
    size = math.ceil(batch / training.accumulate)
    couples = [p.name for p in training.objective.members if p.needs().scope == "batch"]
    reason = ""
    if couples:
        reason = f"{', '.join(couples)} compares the examples of a batch, which stays whole"
    elif training.accelerator.num_processes > 1:
        reason = "one of several processes cannot change its micro-batch alone"
    elif size < 2:
        reason = "the micro-batch is one example already"
    if reason:
        raise MemoryFailure(
            f"out of memory in step {training.step + 1} with micro-batches of {size}",
            reason,
            "Choose a smaller batch, a smaller model, or precision: bf16.",
        ) from error
    training.accumulate *= 2
    training.notices.append(
        f"out of memory in step {training.step + 1}: micro-batches of {size} halved, "
        f"the batch of an optimiser step stays {batch}"
    )


def not_finite(name: str, value: float, batch: Batch, step: int) -> NonFiniteError:
    """The error that names the examples: those with broken inputs, else the whole batch."""
    bad = _broken_rows(batch.inputs)
    ids = batch.fields()["ids"]
    rows = torch.nonzero(bad).flatten().tolist() if bad.any() else list(range(len(batch)))
    named = [int(ids[row]) for row in rows] if ids is not None else rows
    shown = ", ".join(map(str, named[:20])) + (", ..." if len(named) > 20 else "")
    where = "the inputs hold NaN or Inf" if bad.any() else "the inputs are finite, the loss is not"
    return NonFiniteError(
        f"{name} is {value} in step {step + 1}, examples {shown}",
        f"{where}; the weights were not touched and the last checkpoint stands",
        "Mend those examples." if bad.any() else "Lower the learning rate or clip the gradient.",
    )


def _broken_rows(inputs: Inputs) -> Tensor:
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
    each = [~torch.isfinite(t.flatten(1)).all(dim=1) for t in tensors if t.is_floating_point()]
    return torch.stack(each).any(dim=0) if each else torch.zeros(len(tensors[0]), dtype=torch.bool)
