"""What a short real run tells before a long one: seconds, memory and disk."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from preceptor.recipe.beforehand import possible
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.language_teachers import ServedTeacher
from preceptor.recipe.rollouts import SequenceRollouts
from preceptor.recipe.schema import STUDENT, Recipe, Stage
from preceptor.recipe.teachers import CachedTeacher, LiveTeacher
from preceptor.recipe.text_subject import TextSubject
from preceptor.train import checkpoint
from preceptor.train.fit import Losses, run
from preceptor.train.processes import use_threads
from preceptor.verbs.cells import Cell
from preceptor.verbs.doctor import diagnosis
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.gaps import cache_gap, server_gap
from preceptor.verbs.prospects import prospects
from preceptor.verbs.rehearsal import rehearsed
from preceptor.verbs.tried_candidates import tried_candidates

_STEPS = 8
"""Steps that each stage takes; the first few, which warm up, are not timed."""

_WARM = 3


def deep_check(recipe: Recipe, price: float = 0.0) -> list[str]:
    """Takes a few steps of each stage with an untrained teacher; nothing is kept.

    `price` is what an hour of this machine costs; 0 where nobody asks.
    """
    use_threads(recipe.threads)
    with tempfile.TemporaryDirectory() as scratch:
        lines, disk = tried_candidates(recipe, Path(scratch) / "ranking"), 0
        lines += ["below, the first candidate teaches"] if lines else []
        recipe = possible(recipe)[0]
        experiment = Experiment(recipe, Path(scratch), _unwatched)
        lines += [f"data: {experiment.subject.describe()}", *_diagnosis(experiment)]
        seconds = dict.fromkeys(recipe.ways(), 0.0)
        for arm in seconds:
            lines += [f"{arm}:"] if recipe.variants else []
            way = experiment.taught_as(arm)
            for index, stage in enumerate(way.recipe.stages):
                each, size, steps = _tried(way, stage, Path(scratch) / arm / str(index))
                seconds[arm] += each * steps
                disk = max(disk, size)
                lines.append(f"stage {index + 1}: {each * 1e3:.1f} ms a step, {steps} steps")
        arms = [recipe.control.longer if a == "longer" else 1.0 for a in recipe.control.arms]
        total = (sum(seconds.values()) + seconds[STUDENT] * sum(arms)) * recipe.seed.count
        money = f", {total / 3600 * price:.2f} at {price:g} an hour" if price else ""
        more = ", and the teacher's training" if experiment.every_teacher() else ""
        lines.append(f"all arms and seeds: about {total:.0f} s{money}{more}")
        lines.append(f"memory: {_peak() / 2**20:.0f} MiB at most so far")
        kept = disk * recipe.checkpoint.keep * (len(seconds) + len(arms)) * recipe.seed.count
        lines.append(f"disk: about {kept / 2**20:.1f} MiB of checkpoints")
    return lines


def _diagnosis(experiment: Experiment) -> list[str]:
    """What speaks for or against this teacher, and what is particular to two language models."""
    subject = experiment.subject
    if not isinstance(subject, TextSubject | ImageSubject):
        return []
    student = experiment.start(experiment.recipe.seed.first, rehearsal=True)[0]
    said = experiment.recipe.teacher
    whole = said.cached.teacher if isinstance(said, CachedTeacher) else said
    if isinstance(whole, ServedTeacher):
        ready = True
    else:
        ready = isinstance(whole, LiveTeacher) and whole.train is None
    teacher = experiment.teacher(whole, [student], "teacher") if ready else None
    if isinstance(subject, ImageSubject):
        first = experiment.recipe.stages[0]
        source = subject.source(first, first.plan, experiment.recipe.seed.first)
        return prospects(subject, source, student, teacher)
    own = (stage.rollouts for stage in experiment.recipe.stages)
    writes = any(each is not None and not isinstance(each, SequenceRollouts) for each in own)
    lines = diagnosis(subject, student, teacher, writes=writes)
    if teacher is not None and isinstance(said, CachedTeacher) and said.cached.keep is not None:
        lines.append(cache_gap(subject, teacher, said.cached.keep))
    if isinstance(whole, ServedTeacher) and whole.served.local is not None:
        assert teacher is not None
        lines.append(server_gap(subject, teacher, whole.served.local))
    return lines


def _tried(experiment: Experiment, stage: Stage, scratch: Path) -> tuple[float, int, int]:
    """Seconds a step, bytes of a checkpoint, and how many steps the stage has."""
    training = rehearsed(
        experiment, stage, experiment.start(experiment.recipe.seed.first, rehearsal=True)
    )
    steps = training.steps
    training.steps = _STEPS
    started = time.perf_counter()
    for losses in run(training):
        if losses.step == _WARM:
            started = time.perf_counter()
    each = (time.perf_counter() - started) / (_STEPS - _WARM)
    checkpoint.save(training, scratch / "checkpoints")
    size = sum(f.stat().st_size for f in (scratch / "checkpoints").rglob("*") if f.is_file())
    return each, size, steps


def _unwatched(cell: Cell, losses: Losses) -> None:
    """Nobody looks at so few steps."""
    del cell, losses


def _peak() -> int:
    """The most memory that was used so far, in bytes: the accelerator's where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
