from dataclasses import replace

import numpy as np
import pytest

from preceptor.errors import DataError, NeedsError
from preceptor.selection.architectures import rank_students
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.means import GNorm, MeanLoss
from tests.selection.random_features import isotropic, probe


def student(name: str, parameters: int, features: Features) -> Features:
    return replace(features, probe=probe(32, student=name, parameters=parameters))


def test_a_student_whose_gradients_are_larger_by_its_making_is_none_the_worse() -> None:
    wide = student("wide", 10_000, isotropic(150, 3, 32, alike=0.3))
    scaled = replace(wide, sketches=wide.sketches * 50)
    scaled = student("scaled", 90_000, scaled)
    ranking = rank_students({"scaled": scaled, "wide": wide})
    first, second = ranking.candidates
    assert first.score.estimate == pytest.approx(second.score.estimate)
    assert first.tied
    assert {each.published_scale for each in ranking.candidates} == {32 / 10_000, 32 / 90_000}


def test_a_student_that_other_prompts_teach_what_a_prompt_asks_is_first() -> None:
    fitting = student("a", 1000, isotropic(150, 3, 32, alike=0.2))
    apart = student("b", 1000, isotropic(150, 3, 32, alike=0.9))
    ranking = rank_students({"apart": apart, "fitting": fitting})
    assert ranking.names == ("fitting", "apart")
    assert ranking.best.tied == ()
    assert ranking.score == "leverage_ratio"


@pytest.mark.parametrize("score", [Grace(), Grace(part="variance"), GNorm()])
def test_scores_with_the_scale_of_gradients_do_not_rank_students(score: Grace | GNorm) -> None:
    given = {"a": student("a", 1000, isotropic(50, 2, 32))}
    with pytest.raises(NeedsError, match="how a student is parametrised"):
        rank_students(given, score)


def test_students_are_compared_on_the_same_text_in_the_same_way() -> None:
    first = student("a", 1000, isotropic(50, 2, 32))
    second = student("b", 1000, isotropic(50, 2, 32))
    with pytest.raises(NeedsError, match="b has sketches of dimension 16"):
        rank_students({"a": first, "b": second.narrowed(16)})
    with pytest.raises(NeedsError, match="b has a number of responses of 80"):
        rank_students({"a": first, "b": second.of(np.arange(40))})
    with pytest.raises(NeedsError, match="b answers other prompts than a"):
        rank_students({"a": first, "b": replace(second, prompts=second.prompts + 1)})
    with pytest.raises(DataError, match="nobody to rank"):
        rank_students({})


def test_students_may_be_ranked_by_their_loss() -> None:
    given = {
        name: student(name, 1000, isotropic(50, 2, 32, losses=np.full(100, loss, np.float32)))
        for name, loss in (("a", 2.0), ("b", 1.0))
    }
    assert rank_students(given, MeanLoss()).names == ("b", "a")
