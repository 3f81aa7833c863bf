"""One stage from wherever it was left to its end: resume, train, record, save."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from preceptor.train import checkpoint
from preceptor.train.checks import Untouched, check_no_divergence_below_zero
from preceptor.train.fit import Losses, run
from preceptor.train.record import Metrics, line
from preceptor.train.training import Training, moves

_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Keeping:
    """How often a stage's whole state is written, and how many checkpoints are kept."""

    every: int = 500
    keep: int = 2


def train(
    training: Training,
    folder: Path,
    keeping: Keeping,
    watch: Callable[[Losses], None],
) -> tuple[str, ...]:
    """Train a stage in `folder`, which holds its checkpoints and its `metrics.jsonl`.

    Killed at any moment and called again, it ends with the same weights and the same metrics.
    Gives what a reader of the report should know: damaged checkpoints, halved micro-batches.
    """
    damaged = checkpoint.resume(training, folder / "checkpoints")
    known = len(training.notices)
    training.notices += damaged
    main = training.accelerator.is_main_process
    metrics = Metrics(folder / "metrics.jsonl", training.step) if main else None
    before = None if moves(training.teacher) else Untouched(training.teacher)
    known = _tell(training, known)
    started = time.perf_counter() - training.seconds
    try:
        for losses in run(training):
            if metrics is not None:
                metrics.add(line(losses))
            if before is not None:
                before.check()
                check_no_divergence_below_zero(losses, training.objective, training.teacher)
                before = None
            watch(losses)
            known = _tell(training, known)
            training.seconds = time.perf_counter() - started
            if losses.step % keeping.every == 0 or losses.step == losses.steps:
                if metrics is not None:
                    metrics.flush()
                checkpoint.save(training, folder / "checkpoints", keeping.keep)
    finally:
        if metrics is not None:
            metrics.close()
    return tuple(training.notices)


def _tell(training: Training, known: int) -> int:
    """Say what came up since `known` notices, to whoever watches; gives how many there are now."""
    if training.accelerator.is_main_process:
        for notice in training.notices[known:]:
            _LOG.warning("preceptor: %s", notice)
    return len(training.notices)
