import numpy as np

from preceptor.evaluate.rationales import follows_steps, rationale_scores, step_f1, steps

TEACHER = ["3 + 4 = 7, 7 * 2 = 14 #### 14", "10 - 4 = 6 #### 6"]


def test_equations_are_steps_whatever_blanks_and_separators_they_have():
    assert steps("1,000+ 1 = 1,001") == {"1,000+1=1001"}
    assert steps("so 3 x 4 = 12 = 12") >= {"3x4=12"}
    assert steps("") == frozenset()


def test_steps_are_shared_by_hand():
    own = ["3 + 4 = 7, 7 * 3 = 21 #### 21", "10 - 4 = 6 #### 6"]
    np.testing.assert_allclose(step_f1(own, TEACHER), [0.5, 1.0])
    assert step_f1([""], [""]).tolist() == [1.0]


def test_a_model_that_copies_its_teacher_is_above_the_floor_and_one_that_does_not_is_not():
    copied = rationale_scores(TEACHER, TEACHER)
    assert copied["step_f1"].mean() == copied["edit_similarity"].mean() == 1.0
    assert copied["step_f1_floor"].mean() == 0.0
    assert copied["edit_similarity_floor"].mean() < 0.7
    crossed = rationale_scores(TEACHER[::-1], TEACHER)
    assert crossed["step_f1"].mean() < crossed["step_f1_floor"].mean()
    assert set(rationale_scores(["a"], ["a"])) == {"step_f1", "edit_similarity"}


def test_an_answer_follows_from_the_last_step_or_it_does_not():
    texts = [*TEACHER, "10 - 4 = 6 #### 7", "#### 7"]
    found = follows_steps(texts, ["14", "6", "7", "7"])
    assert found is not None
    assert found.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert follows_steps(["red"], ["red"]) is None
