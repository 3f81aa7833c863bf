import numpy as np

from preceptor.evaluate.rationales import (
    CUTS,
    early_answers,
    follows_steps,
    rationale_scores,
    shortened,
    step_f1,
    steps,
)

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
    np.testing.assert_equal(found, [1.0, 1.0, 0.0, np.nan])
    assert np.isnan(follows_steps(["red"], ["red"])).all()


def test_a_text_is_cut_after_whole_steps_and_its_answer_is_asked_for():
    lines = "15*3=45\n7+45=52\n52-2=50\n#### 50"
    assert [shortened(lines, "####", share) for share in (*CUTS, 1.0)] == [
        "####",
        "####",
        "15*3=45\n####",
        "15*3=45\n7+45=52\n####",
        lines.removesuffix(" 50"),
    ]
    prose = "He has 1,000. Then, after 2 more, 1,002. The answer is 1,002"
    assert shortened(prose, "The answer is", 0.5) == "He has 1,000. Then, The answer is"
    assert shortened("a, b", "####", 1.0) == "a, b####"  # One that never came to its answer.


def test_the_area_over_early_answers_by_hand():
    early = [["5", "0"], ["5", "0"], ["5", "9"], ["5", "7"]]
    found = early_answers(early, ["5", "7"], [True, False])
    assert found["steps_needed"].tolist() == [0.0, 0.75]
    assert found["same_without_steps"].tolist() == [1.0, 0.0]
    assert found["same_after_half"].tolist() == [1.0, 0.0]
    assert found["right_without_steps"].tolist() == [1.0, 0.0]
