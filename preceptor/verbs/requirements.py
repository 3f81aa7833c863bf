"""Raise, before anything is loaded, where the parts of a recipe do not fit one another."""

from preceptor.errors import NeedsError, RecipeError
from preceptor.recipe import build
from preceptor.recipe.beforehand import possible
from preceptor.recipe.rollouts import (
    Distillm2Rollouts,
    DistillmRollouts,
    GkdRollouts,
    MinillmRollouts,
    SequenceRollouts,
)
from preceptor.recipe.schema import STUDENT, Data, Recipe, Stage, TextData
from preceptor.recipe.starts import InsideStart
from preceptor.recipe.teachers import (
    AlteredTeacher,
    AnyTeacher,
    CachedTeacher,
    EnsembleTeacher,
    PastPredictionsTeacher,
    kind_of,
)
from preceptor.types import Needs


def require_fit(recipe: Recipe) -> None:
    """Raise where an objective needs what its teacher, data or plan cannot give.

    Of a ranking, each of its candidates must do as the teacher.
    """
    for one in possible(recipe):
        _require_start(one)
        for arm, way in one.ways().items():
            _require_fit(way, "" if arm == STUDENT else f"variants.{arm}.")


def _require_start(recipe: Recipe) -> None:
    """Raise where a student is to begin inside a teacher that is no model."""
    said = recipe.student.start
    if not isinstance(said, InsideStart) or said.fields.teacher is not None:
        return
    if build.begun_in(recipe) is None:
        teacher = kind_of(recipe.stages[0].teacher or recipe.teacher)
        raise RecipeError(
            f"student.start: {said.key} with the teacher {teacher}",
            "it has no weights to begin with",
            f"Name a folder of weights: start: {{{said.key}: {{teacher: FOLDER}}}}.",
        )


def _require_fit(recipe: Recipe, place: str) -> None:
    for index, stage in enumerate(recipe.stages):
        said = stage.teacher or recipe.teacher
        _require_whole(said, recipe)
        _require_kept(index, recipe, place)
        _require_text(f"{place}stages.{index}", said, stage, recipe)
        for part in stage.objective.parts():
            where = f"{place}stages.{index}.objective: {part.name}"
            needs = part.needs()
            unmet = needs.unmet_by(build.offers(said))
            if unmet:
                raise NeedsError(
                    f"{where} with the teacher {kind_of(said)}",
                    "; ".join(unmet),
                    "Choose a teacher that gives it (a live one gives everything), or leave the "
                    "method out.",
                )
            _require_named(needs, where, stage, recipe)
            if needs.scope == "batch" and stage.plan.accumulate > 1:
                raise RecipeError(
                    f"{where} with plan.accumulate: {stage.plan.accumulate}",
                    "it compares the examples of a batch with one another, which is never split",
                    "Set accumulate to 1, and a smaller batch if memory is short.",
                )


def _require_text(where: str, teacher: AnyTeacher, stage: Stage, recipe: Recipe) -> None:
    """Raise where somebody is to write what is no text, or remembers or reads what is written."""
    data, said = stage.data or recipe.data, stage.rollouts
    if said is not None and not isinstance(data, TextData):
        raise RecipeError(
            f"{where}.rollouts: {next(iter(type(said).model_fields))} with {data.kind}",
            "nobody writes those",
            "Leave `rollouts` out, or name text (data: {kind: text, ...}).",
        )
    if isinstance(said, SequenceRollouts) and isinstance(teacher, CachedTeacher):
        raise RecipeError(
            f"{where}.rollouts: sequence_kd with a cached teacher",
            "the cache holds answers to the data's responses, and the teacher writes others",
            "Name the teacher itself, without `cached`.",
        )
    if said is not None and isinstance(teacher, CachedTeacher):
        keep = teacher.cached.keep
        if keep is not None and keep.top_k is None:
            raise NeedsError(
                f"{where}.rollouts with a cache of {'draws' if keep.sampled else 'every logit'}",
                "new text is answered by the live teacher, and both are read as the largest "
                "probabilities and the mass of the rest",
                "Write a top-k cache (keep: {top_k: 50}), or name the teacher without `cached`.",
            )
    if isinstance(teacher, PastPredictionsTeacher) and not isinstance(data, Data):
        raise RecipeError(
            f"{where}: the teacher past_predictions with {data.kind}",
            "it remembers one distribution for each example, and text has one for each token",
            "Use an average of the student's weights: teacher: {ema: {}}.",
        )


def _require_whole(said: AnyTeacher, recipe: Recipe) -> None:
    """Raise where a teacher made of others asks of them what they do not give."""
    if isinstance(said, CachedTeacher):
        _require_whole(said.cached.teacher, recipe)
        if said.cached.keep is not None:
            return
        if "logits" not in build.offers(said.cached.teacher).kinds:
            raise NeedsError(
                f"a cache of the teacher {kind_of(said.cached.teacher)}",
                "it keeps raw logits, and this teacher gives none",
                "Average logits (combine: logits), or use the teacher without a cache.",
            )
        data = recipe.data
        if isinstance(data, Data) and data.augment is not None and data.augment.views == 0:
            raise RecipeError(
                "a cached teacher with data.augment.views: 0",
                "every epoch would show views that the cache does not hold",
                "Set data.augment.views to how many are to be kept, 4 for example.",
            )
    if isinstance(said, AlteredTeacher):
        _require_whole(said.altered.teacher, recipe)
        if "logits" not in build.offers(said.altered.teacher).kinds or not isinstance(
            recipe.data, Data | TextData
        ):
            raise NeedsError(
                f"an altered teacher ({kind_of(said.altered.teacher)}) with {recipe.data.kind}",
                "logits are altered, of an example or of each token",
                "Name a classifier or a language model as its teacher, or leave `altered` out.",
            )
    if isinstance(said, EnsembleTeacher):
        for index, member in enumerate(said.ensemble.members):
            _require_whole(member, recipe)
            if said.ensemble.combine not in build.offers(member).kinds:
                raise NeedsError(
                    f"member {index} of the ensemble, {kind_of(member)}",
                    f"the mean of {said.ensemble.combine} needs them from every member, "
                    "and this one gives none",
                    "Leave it out, or set combine to probabilities.",
                )


def _require_kept(index: int, recipe: Recipe, place: str) -> None:
    """Raise where a stage hands on modules that the next one has no use for."""
    if not recipe.stages[index].plan.keep_auxiliary:
        return
    own, *after = [[p.part for p in s.objective.parts()] for s in recipe.stages[index : index + 2]]
    if after != [own]:
        raise RecipeError(
            f"{place}stages.{index}.plan.keep_auxiliary: true",
            "the next stage has other methods" if after else "no stage comes after it",
            "Give the next stage the same methods in the same order, or set it to false.",
        )


def _require_named(needs: Needs, where: str, stage: Stage, recipe: Recipe) -> None:
    """Raise where a method counts over, or reads, what the stage's batches do not name."""
    masks, extra = _named(stage, recipe)
    for what, wanted, given in (("mask", needs.masks, masks), ("tensor", needs.extra, extra)):
        missing = sorted(wanted - given)
        if missing:
            raise NeedsError(
                f"{where} reads the {what} {missing[0]!r} of each batch",
                f"this stage's batches have {', '.join(sorted(given)) or 'none'}",
                "Add rollouts: {minillm: {}}, which alone write it, or use another method.",
            )
    idle = sorted(needs.masks - _filled(stage))
    if idle:
        writer = idle[0].removesuffix("_written")
        raise NeedsError(
            f"{where} counts over {idle[0]!r}",
            f"in this stage the {writer} writes nothing, so it would learn nothing from that",
            f"Add rollouts in which the {writer} writes, or use another method.",
        )


def _filled(stage: Stage) -> set[str]:
    """The masks that hold any position: who writes in a stage."""
    said = stage.rollouts
    if isinstance(said, GkdRollouts):
        by = {"student_written": said.gkd.share, "teacher_written": said.gkd.teacher_share}
        return {name for name, share in by.items() if share > 0}
    if isinstance(said, Distillm2Rollouts):
        return {"student_written", "teacher_written"}
    if isinstance(said, MinillmRollouts):
        return {"student_written"} | ({"data_written"} if said.minillm.pretraining else set())
    return {"student_written"} if isinstance(said, DistillmRollouts) else set()


def _named(stage: Stage, recipe: Recipe) -> tuple[set[str], set[str]]:
    """The masks and further tensors of a stage's batches."""
    if not isinstance(stage.data or recipe.data, TextData):
        return set(), set()
    masks = {"student_written", "teacher_written"}
    if not isinstance(stage.rollouts, MinillmRollouts):
        return masks, {"row", "offset"}
    sampled = {"sampled_log_q", "sampled_log_p", "importance", "advantage"}
    return masks | {"data_written"}, {"row", "offset"} | sampled
