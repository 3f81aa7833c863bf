"""What a ranking's recipe becomes: the run that trains its models, and who sketches gradients."""

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.data.chat import Rendering
from preceptor.data.client import Client
from preceptor.data.rows import Row
from preceptor.errors import DataError, ModelError
from preceptor.models.lora import movable
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.recipe.candidates import Asking
from preceptor.recipe.load import plain, recipe_of
from preceptor.recipe.ranked import FeatureFields
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.schema import Recipe
from preceptor.recipe.texts import own_tokenizer
from preceptor.recipe.writing import ends_of
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.extraction import Sketcher
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.head import HeadSketcher
from preceptor.selection.ledger import Sketching
from preceptor.selection.rows import Soft
from preceptor.synthesis.served_text import Voice, served_by
from preceptor.synthesis.writers import Local
from preceptor.synthesis.written import Ask, answered_by, spoken_by
from preceptor.teachers.base import Teacher
from preceptor.types import Batch

_SAMPLE = 1_000_003
"""Between the seeds of two responses to a prompt."""

_TOGETHER = 64
"""Prompts that a model here answers at once."""


def training_of(said: RankingRecipe, whose: Collection[str] | None = None) -> Recipe:
    """The recipe that trains a ranking's models: the student by labels, the teachers before.

    `whose` names the teachers; those that have no tokenizer of their own where not given.
    """
    whole = plain(said)
    student = whole["student"]
    train = student.pop("train") or {"steps": 1}
    members = [
        plain(live)
        for name, live in said.models()
        if (own_tokenizer(live.model) is None if whose is None else name in whose)
    ]
    return recipe_of(
        {
            "name": said.name,
            "data": whole["data"],
            "student": student,
            "teacher": {"ensemble": {"members": members}} if members else {"nobody": {}},
            "stages": [{"objective": [{"ce": {}}], "plan": train}],
            "control": {"arms": []},
            "threads": said.threads,
            "checkpoint": whole["checkpoint"],
        }
    )


def lasting(said: RankingRecipe) -> RankingRecipe:
    """What the features of a run's folder depend on: the recipe without what only reads them."""
    kept = ("name", "data", "student", "candidates", "features", "responses", "seed")
    return RankingRecipe(**{name: getattr(said, name) for name in kept})


def sketcher_of(said: FeatureFields, student: TappedModel, soft: Soft | None = None) -> Sketcher:
    """Who takes the student's gradients; of images `soft` answers in the place of text.

    Raises:
        ModelError: nothing of the student is learned, or its kind of features does not fit it.
    """
    if not movable(student.module):
        raise ModelError(
            f"the student {type(student.module).__name__} was asked for its gradients",
            "none of its parameters is learned",
            "Use a student that learns.",
        )
    if said.kind == "exact":
        return ExactSketcher(
            student,
            dimension=said.dimension,
            seed=said.seed,
            projection=said.projection,
            soft=soft,
        )
    sketching = Sketching(said.dimension, said.seed)
    if said.kind == "head":
        return HeadSketcher(student, sketching, bfloat16=said.bfloat16)
    return FactoredSketcher(student, sketching, bfloat16=said.bfloat16, soft=soft)


def probabilities_of(teacher: Teacher) -> Soft:
    """A teacher's answers to images, in place of text."""

    def soft(batch: Batch) -> Float[Tensor, "b v"]:
        with torch.no_grad():
            return teacher.signal(batch).whole.log_probs(1.0).exp()

    return soft


def flatness(answers: Float[Tensor, "b v"]) -> float:
    """The mean entropy of probabilities, as a share of the highest: 0 sure, 1 a guess."""
    entropy = torch.special.entr(answers.double()).sum(dim=1).mean()
    return float(entropy / math.log(answers.shape[1]))


def prompts_fingerprint(pool: Sequence[Row], rendering: Rendering) -> str:
    """Sha256 of all prompts as the student sees them."""
    digest = hashlib.sha256()
    for row in pool:
        ids = rendering.prompt(row)
        digest.update(np.array([len(ids)]).tobytes())
        digest.update(ids.tobytes())
    return digest.hexdigest()


def require_room_for_answers(
    pool: Sequence[Row], rendering: Rendering, name: str, most: int
) -> None:
    """Raise where an answer as long as it may be does not fit into what the student sees."""
    longest = max(pool, key=lambda row: len(rendering.prompt(row)))
    tokens = len(rendering.prompt(longest))
    if tokens + most <= rendering.max_length:
        return
    raise DataError(
        f"{longest.place} has a prompt of {tokens} tokens, and {name} may answer with {most}",
        f"the student sees {rendering.max_length}",
        "Raise data.max_length, lower the candidate's `most`, or leave out the longest prompts.",
    )


def asks(
    model: Callable[[], TappedModel], reading: Rendering, sampling: Sampling, seed: int
) -> Asking:
    """A model here as whoever is asked; `model` is called when it writes."""

    def sampled(sample: int) -> Ask:
        local = Local(model(), sampling, ends_of(reading), reading.pad)
        return answered_by(spoken_by(local, reading, seed=seed + _SAMPLE * sample), _TOGETHER)

    return sampled


def asks_server(client: Client, voice: Voice) -> Asking:
    """A server as whoever is asked."""
    return lambda sample: served_by(client, replace(voice, sample=sample))
