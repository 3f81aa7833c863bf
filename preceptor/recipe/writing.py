"""A recipe's rollouts as the source of a stage's batches."""

from preceptor.data.chat import Rendering
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.errors import RecipeError
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.recipe.drawing import Drawing
from preceptor.recipe.rollouts import (
    AnyRollouts,
    Distillm2Rollouts,
    DistillmRollouts,
    GkdRollouts,
    MinillmRollouts,
)
from preceptor.recipe.subject import Taught
from preceptor.recipe.texts import require_room
from preceptor.synthesis.adaptive import AdaptiveRollouts
from preceptor.synthesis.pairs import Pairs
from preceptor.synthesis.policy import PolicyRollouts
from preceptor.synthesis.returns import Returns
from preceptor.synthesis.rollouts import Rollouts
from preceptor.synthesis.served_text import sampled_by
from preceptor.synthesis.writers import Local, Mixed, Writer
from preceptor.synthesis.writers import Served as ServedWriter
from preceptor.teachers.served import Served
from preceptor.train.plan import Plan


def rollouts(
    said: AnyRollouts,
    texts: TextSet,
    drawing: Drawing,
    plan: Plan,
    seed: int,
    taught: Taught,
) -> Source:
    """The source of a stage whose student, or teacher, writes what is learned from.

    Raises:
        RecipeError: a teacher is to write that is no one model.
    """
    drawn, pad = drawing.held(texts, plan.batch, seed), texts.rendering.pad
    ends = ends_of(texts.rendering)
    student = taught.students[0]
    steps = plan.steps or plan.epochs * drawn.steps_per_epoch

    def writes(model: TappedModel, sampling: Sampling) -> Local:
        require_room(model, texts, sampling.max_new)
        return Local(model, sampling, ends, pad)

    def teacher_writes(sampling: Sampling) -> Writer:
        if isinstance(taught.teacher, Served):
            ask = sampled_by(taught.teacher.client, sampling)
            return ServedWriter(ask, ends, texts.vocabulary)
        return writes(writing_model(taught), sampling)

    if isinstance(said, GkdRollouts):
        fields = said.gkd
        helped = fields.teacher_share > 0
        return Rollouts(
            drawn,
            writes(student, fields.sampling()),
            share=fields.share,
            teacher=teacher_writes(fields.sampling()) if helped else None,
            teacher_share=fields.teacher_share,
            steps=steps,
            seed=seed,
        )
    if isinstance(said, DistillmRollouts):
        adaptive = said.distillm
        return AdaptiveRollouts(
            drawn,
            writes(student, adaptive.sampling()),
            steps=steps,
            rise=adaptive.rise,
            tolerance=adaptive.tolerance,
            capacity=adaptive.capacity,
            seed=seed,
        )
    if isinstance(said, Distillm2Rollouts):
        pairs = said.distillm2
        teacher = None
        if pairs.teacher == "teacher":
            teacher = teacher_writes(pairs.sampling())
        return Pairs(drawn, writes(student, pairs.sampling()), teacher, seed=seed)
    assert isinstance(said, MinillmRollouts), "sequence_kd writes before training"
    policy = said.minillm
    for model in (student, writing_model(taught)):
        require_room(model, texts, policy.most)
    mixed = Mixed(student, writing_model(taught), ends, policy.teacher_share, policy.most, pad)
    beside = drawing.held(texts, plan.batch, seed + 1) if policy.pretraining else None
    return PolicyRollouts(
        drawn,
        mixed,
        returns=Returns(discount=policy.discount, scale=policy.scale, clip=policy.clip),
        batches=policy.batches,
        passes=policy.passes,
        pretraining=beside,
        seed=seed,
    )


def writing_model(taught: Taught) -> TappedModel:
    """The teacher as one model that can write."""
    # Beside a cache stands the live teacher that wrote it.
    model = getattr(getattr(taught.teacher, "live", taught.teacher), "model", None)
    if not isinstance(model, TappedModel):
        raise RecipeError(
            f"the teacher {type(taught.teacher).__name__} was asked to write",
            "it is no one model in this process",
            "Use a live teacher, or let the student and the data write (gkd, distillm2 and "
            "sequence_kd also take a server's text).",
        )
    return model


def ends_of(rendering: Rendering) -> frozenset[int]:
    """The tokens that end a response."""
    ends = {rendering.tokenizer.eos_token_id, rendering.end}
    return frozenset(end for end in ends if end is not None)
