"""`preceptor check`: is a recipe valid, and who reads what from whom?"""

from pathlib import Path

from preceptor.needs import WORDS
from preceptor.objectives.base import Weighted
from preceptor.recipe.load import load_recipe
from preceptor.recipe.presence import require_present
from preceptor.recipe.schema import Recipe, Stage
from preceptor.recipe.starts import InsideStart
from preceptor.recipe.teachers import kind_of
from preceptor.types import Needs
from preceptor.verbs.beforehand import ranked_lines
from preceptor.verbs.requirements import require_fit as require_fit


def check(recipe: Recipe | str | Path, *, deep: bool = False, price: float = 0.0) -> str:
    """Whether a recipe can run, in words; raises the sentence that says why not.

    Static by default: nothing is loaded or trained, but what is named must be there; where
    candidates are ranked, rows of text are counted. With `deep`
    the data is loaded and each stage takes a few steps, which gives an estimate of time, memory
    and disk; `price` is what an hour of this machine costs.
    """
    read = load_recipe(recipe)
    require_fit(read)
    require_present(read)
    lines = [f"{read.name}: valid", *_start(read), *ranked_lines(read)]
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


def _start(recipe: Recipe) -> list[str]:
    """Where the student begins, where that is inside a teacher."""
    said = recipe.student.start
    if not isinstance(said, InsideStart):
        return []
    where = said.fields.teacher or "the teacher"
    return [f"every arm begins inside {where}, by {said.key}"]


def _reads(part: Weighted, stage: Stage, recipe: Recipe) -> list[str]:
    needs = part.needs()
    teacher = kind_of(stage.teacher or recipe.teacher)
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


def _length(stage: Stage) -> str:
    plan = stage.plan
    return f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"


def _batch(stage: Stage) -> str:
    return (
        f"batch {stage.plan.batch}, {stage.plan.optimizer.name} at lr {stage.plan.optimizer.lr:g}"
    )
