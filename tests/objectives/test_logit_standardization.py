import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from preceptor.objectives.logit_standardization import LogitStandardization
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


def test_it_is_kd_on_scipys_z_scores() -> None:
    t, s = pair(6, 7)
    p, q = (softmax(zscore(x.numpy(), axis=-1, ddof=1) / 2, axis=-1) for x in (t, s))
    expected = torch.from_numpy(4 * rel_entr(p, q).sum(-1))
    found = terms_of(LogitStandardization(), t, s)["logit_standardization"].values
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_neither_scale_nor_constant_of_the_students_logits_matters() -> None:
    t, s = pair(6, 7)
    before = loss_on(LogitStandardization(), student_logits=s, teacher_logits=t)
    after = loss_on(LogitStandardization(), student_logits=5 * s - 3, teacher_logits=t / 2)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-8)


def test_a_student_with_the_teachers_logits_at_another_scale_has_no_loss() -> None:
    t, _ = pair(6, 7)
    loss = loss_on(LogitStandardization(), student_logits=3 * t + 1, teacher_logits=t)
    assert float(loss) == pytest.approx(0, abs=1e-10)


def test_equal_logits_have_no_deviation_and_give_numbers() -> None:
    t, _ = pair(2, 7)
    s = torch.ones(2, 7, dtype=torch.float64, requires_grad=True)
    loss = loss_on(LogitStandardization(), student_logits=s, teacher_logits=t)
    assert loss.isfinite()
    assert gradient(loss, s).isfinite().all()


@pytest.mark.parametrize("constant", [0.0, 3.1])
def test_a_student_that_knows_nothing_yet_gets_no_enormous_gradient(constant: float) -> None:
    # A classifier that starts at zero: the authors' epsilon alone gives it 1e5 and more.
    t, _ = pair(64, 10)
    s = torch.full((64, 10), constant, requires_grad=True)
    loss = loss_on(LogitStandardization(), student_logits=s, teacher_logits=t.float())
    assert loss.isfinite()
    assert float(gradient(loss, s).norm()) < 1
