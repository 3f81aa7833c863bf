"""Language models that begin inside their teacher: one teacher, students of several sizes.

The teacher is trained once. Its last hidden state at every training token is then kept on disk, so
that learning from it costs no forward pass; float16 rounds it to three digits.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from guide_text import WINDOW, Held, Texts
from torch.nn import functional as F

from preceptor.data.text_source import TextSource
from preceptor.files import write_atomically
from preceptor.models.load import load, load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.embedding_pull import EmbeddingPull
from preceptor.objectives.kd import KD
from preceptor.objectives.schedules import Ramp
from preceptor.students.start import PLANS, begin
from preceptor.students.start import Plan as Start
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.train.fit import Losses, fit
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan
from preceptor.types import Batch, Head, Needs, Projected, Signal

BATCH = 8
"""Windows a step."""

CURVE = 10
"""Points of a loss curve on validation windows."""

_CALIBRATION = 80
_HEAD = 32

SIZES = {32: (1, 96), 48: (2, 144), 64: (2, 192), 96: (3, 288)}
"""Width of a student -> its heads, of 32 numbers each, and its neurons."""

STARTS: dict[str, Start | None] = {
    "random": None,
    "guide": PLANS["guide"],
    "guide, all blocks": Start("guide"),
    "guide, all blocks, repair": Start("guide", repair=True),
    "project": Start("project"),
    "project, repair": Start("project", repair=True),
    "select": Start("select"),
    "select, repair": Start("select", repair=True),
    "prune": Start("prune"),
    "prune, repair": Start("prune", repair=True),
    "random basis": Start("random"),
    "random basis, repair": Start("random", repair=True),
}
"""Name -> how a student begins; None: as it was drawn."""


@final
@dataclass(frozen=True)
class Course:
    """One student's training.

    Args:
        start: of `STARTS`.
        taught: by the teacher's probabilities at temperature 1 instead of the text's tokens.
        width: of `SIZES`.
        steps: of `BATCH` windows.
        rate: the peak learning rate of AdamW.
        seed: of the drawn weights, of the order of the windows, and of the calibration.
        vocabulary, tied: of teacher and student.
        pull: how strongly embeddings are held to where they began; fades over the first half.
    """

    start: str
    taught: bool
    width: int
    steps: int
    rate: float
    seed: int
    vocabulary: int = 1024
    tied: bool = False
    pull: float = 0.0


@final
class Remembered(Teacher):
    """A language model's last hidden states, remembered for every training window."""

    def __init__(self, states: np.ndarray, head: Head) -> None:
        self.states, self.head = states, head.detached()

    def offers(self) -> Needs:
        """Probabilities, as the live model."""
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        """The states of the batch's windows, [b, t, d]."""
        hidden = torch.from_numpy(self.states[batch.ids.numpy()]).float()
        return Signal(Projected(hidden[:, : batch.labels.shape[1]], self.head))


@final
@dataclass(frozen=True)
class Language:
    """A teacher and its students.

    Args:
        texts: what they read.
        folder: keeps the teacher.
        tied: whether embeddings and head are one matrix.
        width, layers, neurons: of the teacher; its students have a layer fewer.
        steps: of the teacher's training.
    """

    texts: Texts
    folder: Path
    tied: bool = False
    width: int = 128
    layers: int = 4
    neurons: int = 384
    steps: int = 2400

    def model(self, width: int, heads: int, neurons: int, layers: int, seed: int) -> TappedModel:
        """A Llama, freshly drawn."""
        torch.manual_seed(seed)
        config: dict[str, Any] = {
            "model_type": "llama",
            "vocab_size": self.texts.rendering.vocabulary,
            "hidden_size": width,
            "intermediate_size": neurons,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": _HEAD,
            "max_position_embeddings": WINDOW,
            "tie_word_embeddings": self.tied,
        }
        return load_model({"causal": config})

    def student(self, width: int, seed: int) -> TappedModel:
        """One of `SIZES`."""
        heads, neurons = SIZES[width]
        return self.model(width, heads, neurons, self.layers - 1, seed)

    @cached_property
    def teacher(self) -> TappedModel:
        """Trained here and kept; in eval mode."""
        if not self.folder.exists():
            drawn = self.model(self.width, self.width // _HEAD, self.neurons, self.layers, 1)
            plan = _plan(self.steps, 2e-3)
            for _ in fit(drawn, Nobody(), CE(), self._source(1), plan):
                pass
            save_model(drawn.eval(), self.folder)
        return load(self.folder).eval()

    @cached_property
    def remembered(self) -> Remembered:
        """The teacher's states, written once."""
        place = self.folder.with_suffix(".npy")
        if not place.exists():
            write_atomically(place, self._remember)
        return Remembered(
            np.load(place, mmap_mode="r"), Live(self.teacher).signal(_first(self)).head
        )

    def _remember(self, place: Path) -> None:
        shape = (len(self.texts.train), WINDOW, self.width)
        states, teacher = np.zeros(shape, np.float16), self.teacher
        for batch in self.texts.train.batches(64):
            with torch.no_grad():
                hidden = teacher(batch.inputs).projection.hidden
            states[batch.ids.numpy(), : hidden.shape[1]] = hidden.numpy()
        with place.open("wb") as file:
            np.save(file, states)

    def _source(self, seed: int) -> TextSource:
        return TextSource(self.texts.train, batch=BATCH, seed=seed)

    def begun(self, course: Course) -> TappedModel:
        """The student before its first step."""
        student, start = self.student(course.width, course.seed), STARTS[course.start]
        if start is None:
            return student
        drawn = np.random.default_rng(course.seed).choice(len(self.texts.train), _CALIBRATION)
        batches = [self.texts.train.batch(rows).inputs for rows in np.split(drawn, 5)]
        begin(student, self.teacher, start, calibration=batches)
        return student.train()

    def steps_of(self, course: Course, student: TappedModel) -> Iterator[Losses]:
        """The training itself."""
        objective: Objective[Any] = KD(temperature=1.0) if course.taught else CE()
        if course.pull:
            objective = objective + Ramp(course.pull, 0.0, 0.5) * EmbeddingPull()
        plan = _plan(course.steps, course.rate)
        return fit(student, self.remembered, objective, self._source(course.seed), plan)

    def run(self, course: Course) -> dict[str, Any]:
        """One student from its start to its numbers: nats a token, lower is better."""
        student = self.begun(course)
        curve = [(0, float(nats(student, self.texts.validation).mean()))]
        seconds, every = 0.0, max(1, course.steps // CURVE)
        steps = self.steps_of(course, student)
        for step in range(1, course.steps + 1):
            begins = time.process_time()
            next(steps)
            seconds += time.process_time() - begins
            if step % every == 0 or step == course.steps:
                curve.append((step, float(nats(student, self.texts.validation).mean())))
        return {
            "curve": curve,
            "test": nats(student, self.texts.test).tolist(),
            "seconds": seconds,
            "parameters": sum(p.numel() for p in student.module.parameters()),
        }


@torch.no_grad()
def nats(model: TappedModel, held: Held) -> np.ndarray:
    """Cross-entropy, nats a token, of each held-out document."""
    training = model.training
    model.eval()
    sums, counts = np.zeros(len(held.documents)), np.zeros(len(held.documents))
    for rows in np.array_split(np.arange(len(held.windows)), -(-len(held.windows) // 32)):
        batch = held.texts.batch(held.windows[rows])
        shown = model(batch.inputs).projection
        logits = shown.head.logits(shown.hidden)
        loss = F.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-1, reduction="none"
        )
        np.add.at(sums, held.document[rows], loss.view_as(batch.labels).sum(1).double().numpy())
        np.add.at(counts, held.document[rows], (batch.labels >= 0).sum(1).numpy())
    model.train(training)
    return sums / counts


def _plan(steps: int, rate: float) -> Plan:
    return Plan(
        steps=steps,
        batch=BATCH,
        clip=1.0,
        optimizer=OptimizerPlan(name="adamw", lr=rate, weight_decay=0.01),
        schedule=SchedulePlan("cosine", warmup=0.05),
    )


def _first(language: Language) -> Batch:
    return language.texts.train.batch([0])
