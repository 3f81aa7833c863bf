"""The recipe: everything a run is, as one frozen, typed value.

A recipe is the same thing as a YAML file, as a preset's name, and as this object in Python.
`preceptor.recipe.build` turns it into models, data, teachers and plans.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from preceptor.fields import Count, Index, OpenFraction, Positive
from preceptor.recipe.data import AnyData
from preceptor.recipe.data import Data as Data
from preceptor.recipe.data import Splits as Splits
from preceptor.recipe.data import TextData as TextData
from preceptor.recipe.live_teacher import LiveTeacher
from preceptor.recipe.mix import Mix
from preceptor.recipe.models import AnyModel, CausalModel
from preceptor.recipe.problems import invalid
from preceptor.recipe.ranked import RankTeacher
from preceptor.recipe.rollouts import AnyRollouts
from preceptor.recipe.section import Section
from preceptor.recipe.starts import AnyStart, FromFolder, InsideStart
from preceptor.recipe.teachers import (
    AnyPlan,
    AnyTeacher,
    BornAgainTeacher,
    CachedTeacher,
    EmaTeacher,
    EnsembleTeacher,
    NobodyTeacher,
    PeersTeacher,
    SnapshotsTeacher,
    unaltered,
)
from preceptor.recipe.terms import Licences

Arm = Literal["control", "smoothing", "longer", "scratch"]
Measure = Literal[
    "accuracy", "calibration", "fidelity", "cost", "int8", "independent", "rationales"
]
Tracker = Literal["tensorboard", "wandb", "trackio"]
VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
STUDENT = "distilled"
"""The arm that a recipe's own stages teach."""

_TAKEN = (STUDENT, "teacher", "independent", *get_args(Arm))


class Seeds(Section):
    """How often everything is repeated.

    Args:
        count: paired repetitions: label subset, initial weights and order vary with the seed, and
            are the same for every arm.
        first: the first seed; the others follow it.
    """

    count: Count = 1
    first: Index = 0

    def values(self) -> tuple[int, ...]:
        """The seeds themselves."""
        return tuple(range(self.first, self.first + self.count))


class Student(Section):
    """Who learns.

    Args:
        model: which model.
        start: "random", which is the model as it is made (its weights are random unless it is
            pretrained or a folder's), {from: FOLDER}, or inside its teacher: {guide: {}},
            {project: {}}, {select: {}}, {prune: {}}, {random_basis: {}}.
    """

    model: AnyModel
    start: AnyStart = "random"

    @model_validator(mode="after")
    def _begins_once(self) -> "Student":
        if not isinstance(self.start, InsideStart):
            return self
        if self.model.brings_weights:
            why = "the model brings weights of its own, which would be written over"
            do = "Say pretrained: false or give a configuration, or leave `start` out."
            raise invalid(self.start.key, why, do, ("start",))
        if isinstance(self.model, CausalModel) and (self.model.lora or self.model.adapters):
            why = "adapters are trained on a base that stays as it is"
            do = "Leave the adapters out: every weight of such a student is trained."
            raise invalid(self.start.key, why, do, ("start",))
        return self

    @property
    def folder(self) -> str | None:
        """Whose weights it begins with; None where it begins as its model is made."""
        return self.start.folder if isinstance(self.start, FromFolder) else None


class Stage(Section):
    """One stretch of training.

    Args:
        objective: what is minimised: a list of methods with weights, or an objective in Python.
        plan: how long and how.
        teacher: this stage's own; the recipe's where not given.
        data: this stage's own; the recipe's where not given.
        rollouts: who writes what is learned from, while it is learned; the data where not given.
    """

    objective: Mix
    plan: AnyPlan
    teacher: AnyTeacher | None = None
    data: AnyData | None = None
    rollouts: AnyRollouts | None = None

    @model_validator(mode="after")
    def _rollouts_take_steps(self) -> "Stage":
        if self.rollouts is not None and not self.plan.steps:
            why = "how many rows an epoch has is known only once they are written"
            raise invalid(str(self.plan.epochs), why, "Say plan.steps.", ("plan", "epochs"))
        return self


class Variant(Section):
    """Another way to teach the same student from the same start, compared with the same control.

    Args:
        objective: instead of the recipe's, in its only stage.
        stages: instead of the recipe's; they take as many steps together.
        teacher: the recipe's where not given.
    """

    objective: Mix | None = None
    stages: tuple[Stage, ...] = ()
    teacher: AnyTeacher | None = None

    @model_validator(mode="after")
    def _says_how(self) -> "Variant":
        if (self.objective is None) == (not self.stages):
            why = "says not exactly one of objective and stages"
            raise invalid("", why, "Add objective: [...], or stages: [...].")
        return self


class Control(Section):
    """The arms without a teacher that the student is compared with.

    Args:
        arms: the control itself, label smoothing, a longer plain run; and, of a student that does
            not begin at random, the control from a random start (`scratch`).
        smoothing: how much of the target is spread over all classes.
        longer: the longer run's steps, as a multiple of the control's.
    """

    arms: tuple[Arm, ...] = ("control", "smoothing", "longer")
    smoothing: OpenFraction = 0.1
    longer: Annotated[float, Field(gt=1)] = 2.0


class Tune(Section):
    """What is chosen on validation, with the same effort in every arm.

    Args:
        lr: peak learning rates to try.
    """

    lr: Annotated[tuple[Positive, ...], Field(min_length=2)]


class Checkpoint(Section):
    """How often the whole state is written.

    Args:
        every: optimiser steps between two checkpoints.
        keep: how many are kept.
    """

    every: Count = 500
    keep: Count = 2


class Recipe(Section):
    """Everything a run is.

    Args:
        name: of the run's folder and report; the file's name where it comes from one.
        seed: repetitions.
        data: examples.
        teacher: whom the student learns from.
        student: who learns.
        stages: the stretches of training, in order; most recipes have one.
        variants: other ways to teach the same student, by name: each an arm beside the student's
            own. Of a cohort the first member alone is reported, of born-again generations the last.
        control: the arms without a teacher.
        tune: what is chosen on validation; nothing where not given.
        evaluate: what is measured; int8 rounds the weights of student and control to 8 bits and
            measures both again; independent trains a second teacher from another seed and asks how
            much of the agreement is with the student's own; rationales asks whether written
            answers hang on the steps before them.
        independent: the second teacher, where the first is not trained here.
        licences: terms that no folder states.
        threads: of the CPU, in each process; 0 for torch's own choice. A small model is quickest
            with one, and the same number gives the same run on another machine.
        trackers: experiment trackers that also get every number.
        checkpoint: how often the state is written.

    Raises:
        RecipeError: with every mistake, its path, and what may stand there.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "recipe"
    seed: Seeds = Seeds()
    data: AnyData
    teacher: AnyTeacher = NobodyTeacher()
    student: Student
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    variants: dict[VariantName, Variant] = Field(default_factory=dict)
    control: Control = Control()
    tune: Tune | None = None
    evaluate: tuple[Measure, ...] = ("accuracy", "calibration", "fidelity", "cost")
    independent: LiveTeacher | None = None
    licences: Licences = Licences()
    threads: Index = 0
    trackers: tuple[Tracker, ...] = ()
    checkpoint: Checkpoint = Checkpoint()

    @model_validator(mode="after")
    def _peers_last_all_along(self) -> "Recipe":
        ways = {(): self.stages} | {("variants", k): v.stages for k, v in self.variants.items()}
        for place, stages in ways.items():
            for index, stage in enumerate(stages):
                if isinstance(stage.teacher, PeersTeacher):
                    why = "a cohort trains together from its first stage to its last"
                    at = (*place, "stages", index, "teacher")
                    raise invalid("", why, "Name the peers in `teacher`.", at)
        return self

    @model_validator(mode="after")
    def _caches_say_what_they_keep(self) -> "Recipe":
        texts = isinstance(self.data, TextData)
        for place, said in self._teachers():
            if isinstance(said, CachedTeacher) and (said.cached.keep is not None) != texts:
                why = "a cache of text says what is kept of each token, one of images keeps logits"
                do = "Add keep: {top_k: 50}." if texts else "Leave `keep` out."
                raise invalid("", why, do, (*place, "cached", "keep"))
        return self

    @model_validator(mode="after")
    def _ranked_before_the_run(self) -> "Recipe":
        for place, said in self._teachers()[1:]:
            if isinstance(unaltered(said), RankTeacher):
                why = "candidates are ranked before the run, for all of it"
                do = "Name them in `teacher`; {rank: {every: stage}} ranks them anew."
                raise invalid("rank", why, do, place)
        said = unaltered(self.teacher)
        if not isinstance(said, RankTeacher) or said.rank.every == "run":
            return self
        where = ("teacher", "rank", "every")
        if len(self.stages) == 1:
            why = "there is one stage, and its teacher is found before the run"
            raise invalid("stage", why, "Leave it out, or write more stages.", where)
        if self.tune is not None:
            why = "every rate that is tried would have another student, and other teachers"
            raise invalid("stage", why, "Leave `tune` out.", where)
        if said is not self.teacher:
            why = "a cache or an alteration is of one teacher"
            raise invalid("stage", why, "Name the candidates without it.", where)
        return self

    def _teachers(self) -> list[tuple[tuple[str | int, ...], AnyTeacher]]:
        found: list[tuple[tuple[str | int, ...], AnyTeacher]] = [(("teacher",), self.teacher)]
        for index, stage in enumerate(self.stages):
            if stage.teacher is not None:
                found.append((("stages", index, "teacher"), stage.teacher))
        for name, variant in self.variants.items():
            if variant.teacher is not None:
                found.append((("variants", name, "teacher"), variant.teacher))
        return found

    @model_validator(mode="after")
    def _scratch_is_another_start(self) -> "Recipe":
        if "scratch" in self.control.arms and self.student.start == "random":
            why = "the student itself begins so, and the control does as the student"
            raise invalid("scratch", why, "Leave it out.", ("control", "arms"))
        return self

    @model_validator(mode="after")
    def _independent_of_whom(self) -> "Recipe":
        asked = "independent" in self.evaluate
        if self.independent is not None and not asked:
            why = "nobody asks about it"
            raise invalid("", why, "Add evaluate: [..., independent].", ("independent",))
        said = unaltered(self.stages[-1].teacher or self.teacher)
        if asked and self.independent is None and not _made_here(said):
            why = "the teacher is not trained here, so it cannot be trained again from another seed"
            do = "Name one that is as good: independent: {model: ..., load: FOLDER}."
            raise invalid("independent", why, do, ("evaluate",))
        return self

    @model_validator(mode="after")
    def _rationales_are_written(self) -> "Recipe":
        if "rationales" not in self.evaluate:
            return self
        said = self.data.verify if isinstance(self.data, TextData) else None
        if said is None or said.by == "choice" or said.after is None:
            why = "nothing says where a worked answer's steps end and its answer begins"
            do = 'Add data: {verify: {after: "####"}}, with the mark that your answers follow.'
            raise invalid("rationales", why, do, ("evaluate",))
        return self

    @model_validator(mode="after")
    def _pulled_to_somewhere(self) -> "Recipe":
        drawn = self.student.start == "random" and not self.student.model.brings_weights
        for index, stage in enumerate(self.stages):
            names = [each.part.name for each in stage.objective.parts()]
            if drawn and "embedding_pull" in names:
                why = "the embeddings would be held to where chance put them: they begin at random"
                do = "Begin inside a teacher (`start: {guide: {}}`), or leave it out."
                place = ("stages", index, "objective", names.index("embedding_pull"))
                raise invalid("embedding_pull", why, do, place)
        return self

    @model_validator(mode="after")
    def _variants_can_be_compared(self) -> "Recipe":
        for name, variant in self.variants.items():
            place = ("variants", name)
            if name in _TAKEN:
                raise invalid("", "this is the name of another arm", "Choose another name.", place)
            if variant.objective is not None and len(self.stages) > 1:
                why = f"the recipe has {len(self.stages)} stages, and this is one's objective"
                raise invalid("", why, "Write the variant's stages.", (*place, "objective"))
            own, theirs = _length(self.stages), _length(self.way(name).stages)
            if own != theirs:
                why = f"it takes {_words(*theirs)}, the recipe's own {_words(*own)}"
                do = "Let all stages together be as long: arms are compared at equal length."
                raise invalid("", why, do, (*place, "stages"))
        return self

    def way(self, arm: str) -> "Recipe":
        """The recipe that teaches as one of its variants does; for "distilled", as it is."""
        if arm == STUDENT:
            return self
        said = self.variants[arm]
        stages = said.stages or tuple(
            stage.model_copy(update={"objective": said.objective}) for stage in self.stages
        )
        taught = {"teacher": said.teacher or self.teacher, "stages": stages}
        return self.model_copy(update={**taught, "variants": {}})

    def ways(self) -> dict[str, "Recipe"]:
        """The student's own way first, then each variant's."""
        return {arm: self.way(arm) for arm in (STUDENT, *self.variants)}


def _made_here(said: AnyTeacher) -> bool:
    """Whether a teacher is another one under each seed, or can be trained once more."""
    if isinstance(said, EnsembleTeacher):
        return all(map(_made_here, said.ensemble.members))
    if isinstance(said, BornAgainTeacher | EmaTeacher | SnapshotsTeacher):
        return True
    return isinstance(said, LiveTeacher) and said.train is not None


def _length(stages: tuple[Stage, ...]) -> tuple[int, int]:
    """Steps and epochs of all stages together."""
    return sum(stage.plan.steps for stage in stages), sum(stage.plan.epochs for stage in stages)


def _words(steps: int, epochs: int) -> str:
    said = [f"{steps} steps"] * bool(steps) + [f"{epochs} epochs"] * bool(epochs)
    return " and ".join(said)
