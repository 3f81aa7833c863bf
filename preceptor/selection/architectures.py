"""Which student for a given teacher's text.

No paper ranks students by GRACE, and it cannot be done as it stands: GRACE is a squared gradient,
so it changes with the number of parameters, with how they are scaled, and where a layer is written
in another way, though the student learns the same. The factor d / D undoes the projection's part of
that and no more. What may be compared has no unit:

- the leverage ratio, GRACE / (d G-Norm): how far prompts ask this student for changes that other
  prompts do not, the part of GRACE that is left when the size of the gradients is taken out;
- the rank-surprisal ratio, and the mean loss, where the students have the same tokeniser.

Whether the student that they name ends best is not shown here or elsewhere: use the order to drop
students that clearly fit worse, and train those that are left.
"""

from collections.abc import Mapping

import numpy as np

from preceptor.errors import NeedsError
from preceptor.ops.resampling import DRAWS, LEVEL
from preceptor.selection.cautions import cautions_about_gradients
from preceptor.selection.draws import Draws
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.means import GNorm, MeanLoss, RankSurprisal
from preceptor.selection.ranking import Ranking, expect_some, ordered
from preceptor.selection.score import Score


def rank_students(
    students: Mapping[str, Features],
    score: Score | None = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Ranking:
    """Orders students by what one teacher's text is to each.

    Args:
        students: the features of the same text for each student, with as many numbers a sketch.
        score: one without a unit; `LeverageRatio()` where nothing is said.
        draws: of prompts, the same for all students.
        level: of the intervals.
        seed: of the draws.

    Raises:
        NeedsError: the score has the scale of a student's gradients, the students were not given
            the same prompts, or their sketches differ in kind or dimension.
    """
    score = LeverageRatio() if score is None else score
    if isinstance(score, Grace | GNorm):
        raise NeedsError(
            f"students were to be ranked by {score.name}",
            "it is a squared gradient, whose size changes with how a student is parametrised",
            "Rank them by leverage_ratio, rank_surprisal or mean_loss.",
        )
    expect_some(students)
    (first_name, first), *others = students.items()
    for name, features in others:
        _expect_same_text(first_name, first, name, features)
    cautions = [said for each in students.items() for said in cautions_about_gradients(*each)]
    drawer = Draws(len(first.every_prompt), draws, seed)
    beside = (LeverageRatio(), MeanLoss(), RankSurprisal())
    return ordered(students, score, beside, tuple(cautions), drawer, level)


def _expect_same_text(first_name: str, first: Features, name: str, features: Features) -> None:
    for what, here, there in (
        ("sketches of kind", first.probe.kind, features.probe.kind),
        ("sketches of dimension", first.probe.dimension, features.probe.dimension),
        ("a number of responses of", len(first), len(features)),
    ):
        if here != there:
            raise NeedsError(
                f"{name} has {what} {there}",
                f"{first_name} has {what} {here}, and the score depends on it",
                "Take the features of both in the same way, of the same text.",
            )
    if not np.array_equal(np.sort(first.prompts), np.sort(features.prompts)):
        raise NeedsError(
            f"{name} answers other prompts than {first_name}",
            "easier prompts would look like a better student",
            "Take the features of both from the same text.",
        )
