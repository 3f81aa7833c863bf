"""How a recipe says who writes what a student learns from, while it learns."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Discriminator, Field, Tag, model_validator

from preceptor.fields import Count, Fraction, Index, NonNegative, Positive
from preceptor.models.sampling import Sampling
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section, which

Share = Annotated[float, Ge(0), Le(1)]
Inside = Annotated[float, Gt(0), Lt(1)]


class Writing(Section):
    """How responses are drawn; no loss reads these numbers.

    Args:
        most: tokens that a response may have.
        temperature: of the softmax that is drawn from; 0 takes the most probable token.
        top_p: draw among the most probable tokens that together reach this mass.
        top_k: draw among so many tokens; 0 for all.
    """

    most: Count = 128
    temperature: NonNegative = 1.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    top_k: Index = 0

    def sampling(self) -> Sampling:
        """As the models take it."""
        return Sampling(self.most, self.temperature, self.top_p, self.top_k)


class GkdFields(Writing):
    """A step's responses are the student's, the teacher's, or the data's.

    Args:
        share: the probability that the student writes a step's batch (lambda).
        teacher_share: the probability that the teacher does.
    """

    share: Share = 0.5
    teacher_share: Share = 0.0

    @model_validator(mode="after")
    def _add_up(self) -> "GkdFields":
        if (total := self.share + self.teacher_share) > 1:
            why = f"share and teacher_share add up to {total:g}, and the data has the rest"
            raise invalid("", why, "Lower one of them.", ("teacher_share",))
        return self


class GkdRollouts(Section):
    """A step's responses are the student's, the teacher's, or the data's."""

    gkd: GkdFields


class DistillmFields(Writing):
    """The adaptive off-policy schedule, with replay.

    Args:
        rise: what the probability gains when the validation loss has risen.
        tolerance: by how many nats it must have risen.
        capacity: how many responses are kept for replay.
        validate_every: steps between two looks at the validation rows.
    """

    rise: Fraction = 0.1
    tolerance: NonNegative = 0.1
    capacity: Count = 1000
    validate_every: Count = 50


class DistillmRollouts(Section):
    """The adaptive off-policy schedule, with replay."""

    distillm: DistillmFields


class Distillm2Fields(Writing):
    """Each step holds the teacher's and the student's responses to the same prompts.

    Args:
        teacher: who wrote the teacher's: the "teacher" writes them now, or the "data" are its.
    """

    teacher: Literal["teacher", "data"] = "data"


class Distillm2Rollouts(Section):
    """Each step holds the teacher's and the student's responses to the same prompts."""

    distillm2: Distillm2Fields


class MinillmFields(Section):
    """Sets of responses that student and teacher write together, learned from several times.

    Args:
        most: tokens that a response may have.
        teacher_share: the teacher's part in each token's distribution.
        batches: batches of prompts that make a set.
        passes: how often a set is learned from.
        discount: what a reward loses a token.
        scale: rewards are divided by it.
        clip: rewards are cut at it.
        pretraining: rows of the data stand beside the rollouts, under the mask "data_written".
    """

    most: Count = 128
    teacher_share: Inside = 0.2
    batches: Count = 1
    passes: Count = 4
    discount: Share = 0.95
    scale: Positive = 0.5
    clip: Positive = 100.0
    pretraining: bool = True


class MinillmRollouts(Section):
    """Sets of responses that student and teacher write together, learned from several times."""

    minillm: MinillmFields


class SequenceFields(Writing):
    """The teacher answers every prompt once, before training; its answers are the responses.

    Sequence-level distillation: it needs nothing of the teacher but its text, which any server
    gives. The objective is then `ce`.

    Args:
        folder: where answers are kept as they come; what is there is never asked for again.
        samples: answers to each prompt.
        api: of a server: "chat", where it renders the prompt itself, or "text".
        right: keep only answers that `data.verify` finds right.
    """

    folder: str
    samples: Count = 1
    api: Literal["chat", "text"] = "chat"
    right: bool = False


class SequenceRollouts(Section):
    """The teacher answers every prompt once, before training."""

    sequence_kd: SequenceFields


AnyRollouts = Annotated[
    Annotated[GkdRollouts, Tag("<gkd>")]
    | Annotated[DistillmRollouts, Tag("<distillm>")]
    | Annotated[Distillm2Rollouts, Tag("<distillm2>")]
    | Annotated[MinillmRollouts, Tag("<minillm>")]
    | Annotated[SequenceRollouts, Tag("<sequence_kd>")],
    Discriminator(
        which("gkd", "distillm", "distillm2", "minillm", "sequence_kd"),
        custom_error_type="which",
        custom_error_message="names not exactly one kind",
    ),
    Field(),
]
