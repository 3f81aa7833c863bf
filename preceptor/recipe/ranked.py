"""What a ranking's recipe and a recipe's `teacher: {rank: ...}` both say: candidates that answer
here, how gradients are taken, by what score.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le
from pydantic import (
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    model_validator,
)

from preceptor.fields import Count, Index, NonNegative, OpenFraction
from preceptor.recipe.language_teachers import ServedTeacher
from preceptor.recipe.live_teacher import AnyPlan, LiveTeacher
from preceptor.recipe.names import CandidateName
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section, parsed, which
from preceptor.selection.grace import Grace
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.probe import Kind, Projection
from preceptor.selection.racing import Race
from preceptor.selection.score import Score

AnyCost = Annotated[
    Annotated[dict[CandidateName, NonNegative], Tag("<each>")]
    | Annotated[Literal["parameters"], Tag("<counted>")],
    Discriminator(lambda given: "<each>" if isinstance(given, Mapping) else "<counted>"),
]
"""What each candidate costs, in whatever unit; or "parameters", which are counted."""

ScoreName = Literal[
    "grace",
    "grace_released",
    "grace_variance",
    "grace_bias",
    "g_norm",
    "leverage_ratio",
    "g_vendi",
    "log_determinant",
    "mean_loss",
    "rank_surprisal",
    "mean_length",
    "duplicate_rate",
]
"""The names of `selection.ranking.EVERY_SCORE`."""


class Drawn(Section):
    """How a candidate's text is drawn; an image's answer is its teacher's probabilities.

    Args:
        temperatures: of the softmax that is drawn from, each a candidate; 0 takes the most
            probable token, so that all responses to a prompt are one.
        most: tokens that a response may have.
        top_p: draw among the most probable tokens that together reach this mass.
    """

    temperatures: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (1.0,)
    most: Count = 128
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0

    @model_validator(mode="after")
    def _temperatures_differ(self) -> "Drawn":
        if len(set(self.temperatures)) < len(self.temperatures):
            why = "one of them comes twice, and each is a candidate"
            raise invalid(str(list(self.temperatures)), why, "Name each once.", ("temperatures",))
        return self


class Writes(LiveTeacher, Drawn):
    """A model that writes here, once for each temperature; or that answers images."""

    def teacher(self) -> LiveTeacher:
        """The model alone."""
        return LiveTeacher(model=self.model, train=self.train, load=self.load)


class ServedWrites(ServedTeacher, Drawn):
    """A model behind an OpenAI-compatible server, which writes when it is asked.

    Args:
        api: "chat", where the server renders the prompt itself, or "text".
    """

    api: Literal["chat", "text"] = "chat"

    def teacher(self) -> ServedTeacher:
        """The server alone."""
        return ServedTeacher(served=self.served)


AnyWriter = Annotated[
    Annotated[Writes, Tag("<model>")] | Annotated[ServedWrites, Tag("<served>")],
    Discriminator(
        which("model", "served"),
        custom_error_type="which",
        custom_error_message="names not exactly one kind",
    ),
]
"""A candidate that answers when it is asked."""


def named(name: str, said: Drawn) -> dict[str, float]:
    """A teacher's candidates with their temperatures: its name alone where it has one."""
    if len(said.temperatures) == 1:
        return {name: said.temperatures[0]}
    return {f"{name}@{temperature:g}": temperature for temperature in said.temperatures}


class FeatureFields(Section):
    """How the student's gradients are taken.

    Args:
        kind: "factored", inside each layer's backward pass; "exact", one example at a time, for
            small students; "head", the output layer's alone, without a backward pass.
        dimension: numbers that a gradient is sketched to; at most half of the effective rows.
        seed: of the random signs.
        tokens: in a batch at most, padding counted.
        bfloat16: take products in bfloat16; sums are in float32 all the same. Not for "exact".
        projection: of "exact" alone: "signs" as in the paper, so many products as the student has
            parameters times `dimension`; or "counts", one sum a parameter, for larger students.
    """

    kind: Kind = "factored"
    dimension: Count = 512
    seed: Index = 0
    tokens: Count = 8192
    bfloat16: bool = False
    projection: Projection = "signs"

    @model_validator(mode="after")
    def _exact_is_exact(self) -> "FeatureFields":
        if self.bfloat16 and self.kind == "exact":
            why = "exact features are what others are compared with, in the weights' own precision"
            raise invalid("true", why, "Leave it out, or use factored.", ("bfloat16",))
        if self.projection != "signs" and self.kind != "exact":
            why = f"it is of exact gradients, and {self.kind} ones have sketches of their own"
            do = "Leave it out, or say kind: exact."
            raise invalid(repr(self.projection), why, do, ("projection",))
        return self


class GraceFields(Section):
    """How GRACE reads the gradients: `grace`, its parts, and `leverage_ratio`.

    Args:
        folds: into so many parts prompts are cut, each scored against the rest; `grace_released`
            has ten splits of its own.
        smoothing: nu, what is added to each eigenvalue, times their mean.
        seed: of the folds.
    """

    folds: Annotated[int, Field(ge=2)] = 10
    smoothing: Annotated[float, Field(ge=1e-8, allow_inf_nan=False)] = 1e-3
    seed: Index = 0

    def of(self, score: Score) -> Score:
        """A score with these settings; one that has none as it is."""
        if isinstance(score, LeverageRatio):
            return replace(score, grace=self.of(score.grace))
        return replace(score, **self.model_dump()) if isinstance(score, Grace) else score


def require_narrower(narrow: int | None, features: FeatureFields) -> None:
    """Raise `Invalid` where sketches were to be narrowed to more numbers than they have."""
    if narrow is not None and narrow > features.dimension:
        why = f"features.dimension is {features.dimension}, and narrowing leaves fewer"
        raise invalid(str(narrow), why, "Give a smaller number, or leave it out.", ("narrow",))


def require_within(cost: Mapping[str, float] | str | None, limit: float | None) -> None:
    """Raise `Invalid` where all that is told of costs lies above the limit, or one is not said.

    Parameters are counted when models are made, and nothing is said of them here.
    """
    if (limit is None) != (cost is None):
        why = "a limit and costs make sense together alone"
        raise invalid("", why, "Say both cost and limit, or neither.")
    if limit is None or not isinstance(cost, Mapping) or not cost:
        return
    cheapest = min(cost, key=lambda name: cost[name])
    if cost[cheapest] > limit:
        why = f"the cheapest candidate, {cheapest}, costs {cost[cheapest]:g}"
        do = f"Give at least {cost[cheapest]:g}, or leave out cost and limit."
        raise invalid(f"{limit:g}", why, do, ("limit",))


class RaceFields(Section):
    """Growing subsets of prompts; a clear loser is asked no further.

    Args:
        first: prompts at the first look.
        growth: how many times as many at each further one.
        error: the chance that the best is dropped.
    """

    first: Count = 64
    growth: Annotated[int, Field(ge=2)] = 2
    error: OpenFraction = 0.05

    def race(self, seed: int) -> Race:
        """As `selection.racing` takes it."""
        return Race(self.first, self.growth, self.error, seed)


class RankFields(Section):
    """Candidates for a recipe's teacher, ranked for its student on its training data beforehand.

    Args:
        of: who might teach, by name; a plain list is named candidate-1, candidate-2, ...
        ensemble: so many of the best teach together, by the mean of their probabilities.
        cost: of each candidate, in whatever unit; or "parameters", which are counted.
        limit: the teacher is the best of those that cost at most so much.
        warm_up: how the student that is asked is trained on the data's labels before; as it starts
            where not given. The run's own students begin where they would without it.
        every: "run", once before it; "stage", before each further stage anew, with the student as
            the stages before have left it.
        score: by which candidates are ordered.
        features: how gradients are taken.
        prompts: how many candidates are compared on; all where there are fewer.
        responses: to each prompt.
        seed: of the prompts that are chosen, of draws, and of what teachers write.
        race: drop clear losers early.
        grace: how GRACE reads the gradients.
        narrow: bring the sketches to so many numbers before they are scored.
    """

    of: Annotated[dict[CandidateName, AnyWriter], Field(min_length=1)]
    ensemble: Count = 1
    cost: AnyCost | None = None
    limit: NonNegative | None = None
    warm_up: AnyPlan | None = None
    every: Literal["run", "stage"] = "run"
    score: ScoreName = "grace"
    features: FeatureFields = FeatureFields()
    prompts: Annotated[int, Field(ge=10)] = 512
    responses: Count = 4
    seed: Index = 0
    race: RaceFields | None = None
    grace: GraceFields = GraceFields()
    narrow: Count | None = None

    @model_validator(mode="after")
    def _somebody_is_within_the_limit(self) -> "RankFields":
        if not isinstance(self.cost, Mapping) or set(self.cost) == set(self.of):
            require_within(self.cost, self.limit)
        return self

    @model_validator(mode="after")
    def _enough_for_an_ensemble(self) -> "RankFields":
        if self.ensemble > len(self.of):
            why = f"there are {len(self.of)} candidates, and each teaches once"
            raise invalid(str(self.ensemble), why, "Ask for fewer.", ("ensemble",))
        return self


def read_rank(given: Any) -> RankFields:
    """The fields; `rank: [...]` is `rank: {of: [...]}`, and a list's members are numbered."""
    if isinstance(given, RankFields):
        return given
    whole = {"of": given} if isinstance(given, list) else given
    if isinstance(whole, dict) and isinstance(of := whole.get("of"), list):
        each = {f"candidate-{number}": one for number, one in enumerate(of, start=1)}
        whole = {**whole, "of": each}
    return parsed(RankFields, whole)


def write_rank(said: RankFields) -> dict[str, Any]:
    """The fields as a recipe writes them, every candidate with its name."""
    return said.model_dump(mode="json")


class RankTeacher(Section):
    """The best of several candidates, which a ranking finds before the run."""

    rank: Annotated[
        RankFields,
        PlainValidator(read_rank, json_schema_input_type=RankFields),
        PlainSerializer(write_rank),
    ]
