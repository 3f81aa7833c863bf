"""The processes of a run, through Accelerate: which one this is, and how it computes."""

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env

from preceptor.train.plan import Plan

_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(plan: Plan, cohort: int = 1) -> Accelerator:
    """Accelerate as the loop uses it: no accumulation of its own, unused parameters allowed.

    A cohort's losses are computed outside the wrapped forward pass, where unused parameters
    cannot be found; a method such as a hint leaves the later layers unused.
    """
    unused = DistributedDataParallelKwargs(find_unused_parameters=cohort == 1)
    precision = _PRECISION[plan.precision]
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # Accelerate keeps one precision a process; a teacher's plan and a student's may differ.
        AcceleratorState._reset_state()
    _state()
    _leave_in_order()
    return Accelerator(mixed_precision=precision, kwargs_handlers=[unused])


def _state() -> PartialState:
    """This process among the others. Whoever asks first decides whether there are any.

    Without an accelerator Accelerate must be told so: it else takes each of several processes for
    the only one.
    """
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu)


def use_threads(count: int) -> None:
    """Let torch use so many CPU threads; 0 changes nothing."""
    if count:
        torch.set_num_threads(count)


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints."""
    return _state().is_main_process


@contextmanager
def main_process_first() -> Iterator[bool]:
    """The one that writes goes through the block first, the others then find what it wrote."""
    state = _state()
    with state.main_process_first():
        yield state.is_main_process


@cache
def _leave_in_order() -> None:
    """Let the process group's threads finish before the interpreter does.

    A thread of gloo that lets go of its last tensor needs the interpreter; where that is gone
    already, the process aborts after all its work was done.
    """

    def leave() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
            time.sleep(0.2)  # hands the interpreter to them

    atexit.register(leave)
