"""`preceptor check`: is a recipe valid, and who reads what from whom?"""

from pathlib import Path

from preceptor.errors import NeedsError, RecipeError
from preceptor.needs import WORDS
from preceptor.objectives.base import Weighted
from preceptor.recipe import build
from preceptor.recipe.load import load_recipe
from preceptor.recipe.presence import require_present
from preceptor.recipe.schema import STUDENT, Data, Recipe, Stage
from preceptor.recipe.teachers import AnyTeacher, CachedTeacher, EnsembleTeacher, NobodyTeacher
from preceptor.types import Needs


def check(recipe: Recipe | str | Path, *, deep: bool = False, price: float = 0.0) -> str:
    """Whether a recipe can run, in words; raises the sentence that says why not.

    Static by default: nothing is loaded or trained, but what is named must be there. With `deep`
    the data is loaded and each stage takes a few steps, which gives an estimate of time, memory
    and disk; `price` is what an hour of this machine costs.
    """
    read = load_recipe(recipe)
    require_fit(read)
    require_present(read)
    lines = [f"{read.name}: valid"]
    for arm, way in read.ways().items():
        lines += [f"{arm}:"] if read.variants else []
        for index, stage in enumerate(way.stages):
            lines.append(f"stage {index + 1}: {_length(stage)}, {_batch(stage)}")
            parts = stage.objective.parts()
            lines += [f"  {line}" for part in parts for line in _reads(part, stage, way)]
    arms = ", ".join(read.control.arms) or "none"
    lines.append(
        f"arms without a teacher: {arms}; seeds: {', '.join(map(str, read.seed.values()))}"
    )
    if deep:
        from preceptor.verbs.deep import deep_check

        lines += deep_check(read, price)
    return "\n".join(lines)


def require_fit(recipe: Recipe) -> None:
    """Raise where an objective needs what its teacher, data or plan cannot give."""
    for arm, way in recipe.ways().items():
        _require_fit(way, "" if arm == STUDENT else f"variants.{arm}.")


def _require_fit(recipe: Recipe, place: str) -> None:
    for index, stage in enumerate(recipe.stages):
        said = stage.teacher or recipe.teacher
        _require_whole(said, recipe)
        _require_kept(index, recipe, place)
        for part in stage.objective.parts():
            where = f"{place}stages.{index}.objective: {part.name}"
            needs = part.needs()
            unmet = needs.unmet_by(build.offers(said))
            if unmet:
                raise NeedsError(
                    f"{where} with the teacher {_kind(said)}",
                    "; ".join(unmet),
                    "Choose a teacher that gives it (a live one gives everything), or leave the "
                    "method out.",
                )
            if needs.scope == "batch" and stage.plan.accumulate > 1:
                raise RecipeError(
                    f"{where} with plan.accumulate: {stage.plan.accumulate}",
                    "it compares the examples of a batch with one another, which is never split",
                    "Set accumulate to 1, and a smaller batch if memory is short.",
                )


def _require_whole(said: AnyTeacher, recipe: Recipe) -> None:
    """Raise where a teacher made of others asks of them what they do not give."""
    if isinstance(said, CachedTeacher):
        _require_whole(said.cached.teacher, recipe)
        if "logits" not in build.offers(said.cached.teacher).kinds:
            raise NeedsError(
                f"a cache of the teacher {_kind(said.cached.teacher)}",
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
    if isinstance(said, EnsembleTeacher):
        for index, member in enumerate(said.ensemble.members):
            _require_whole(member, recipe)
            if said.ensemble.combine not in build.offers(member).kinds:
                raise NeedsError(
                    f"member {index} of the ensemble, {_kind(member)}",
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


def _reads(part: Weighted, stage: Stage, recipe: Recipe) -> list[str]:
    needs = part.needs()
    teacher = _kind(stage.teacher or recipe.teacher)
    lines = [f"{part.name} (weight {_weight(part)}) reads"]
    for words in _from_teacher(needs):
        lines.append(f"  {words} from the teacher ({teacher})")
    if needs.student_taps:
        lines.append(f"  layers {_names(needs.student_taps)} from the student")
    if needs.student_head:
        lines.append("  the classifier from the student")
    if needs.labels:
        lines.append("  labels from the data, on labelled examples alone")
    if needs.ids:
        lines.append("  ids from the data")
    return lines if len(lines) > 1 else [f"{lines[0]} the student's logits"]


def _from_teacher(needs: Needs) -> list[str]:
    words = [
        WORDS[kind] if kind == "logits" else f"{WORDS[kind]} at temperature {_temperatures(needs)}"
        for kind in sorted(needs.kinds)
    ]
    if needs.teacher_taps:
        words.append(f"layers {_names(needs.teacher_taps)}")
    if needs.teacher_head:
        words.append("the classifier")
    return words


def _temperatures(needs: Needs) -> str:
    return ", ".join(f"{value:g}" for value in sorted(needs.temperatures)) or "1"


def _names(taps: frozenset[str]) -> str:
    return "that are paired when it starts" if taps == {"auto"} else ", ".join(sorted(taps))


def _weight(part: Weighted) -> str:
    weight = part.weight
    return f"{weight:g}" if isinstance(weight, int | float) else str(weight)


def _kind(said: AnyTeacher) -> str:
    """A teacher's key in the recipe."""
    return "nobody" if isinstance(said, NobodyTeacher) else next(iter(type(said).model_fields))


def _length(stage: Stage) -> str:
    plan = stage.plan
    return f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"


def _batch(stage: Stage) -> str:
    return (
        f"batch {stage.plan.batch}, {stage.plan.optimizer.name} at lr {stage.plan.optimizer.lr:g}"
    )
