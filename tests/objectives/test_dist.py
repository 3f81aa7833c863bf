import numpy as np
import pytest
import torch
from scipy.special import softmax

from preceptor.objectives.dist import DIST
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_its_parts_are_one_minus_numpys_pearson_correlation(temperature: float) -> None:
    t, s = pair(6, 7)
    p, q = softmax(t.numpy() / temperature, axis=-1), softmax(s.numpy() / temperature, axis=-1)
    inter = np.array([1 - np.corrcoef(p[i], q[i])[0, 1] for i in range(6)])
    intra = np.mean([1 - np.corrcoef(p[:, k], q[:, k])[0, 1] for k in range(7)])
    found = terms_of(DIST(beta=2.0, gamma=3.0, temperature=temperature), t, s)
    square = temperature**2
    torch.testing.assert_close(
        found["dist.inter"].values, torch.from_numpy(2 * square * inter), rtol=1e-6, atol=1e-6
    )
    assert float(found["dist.intra"].values) == pytest.approx(3 * square * intra, rel=1e-6)


def test_the_part_within_classes_is_one_number_a_batch() -> None:
    assert DIST().needs().scope == "batch"
    t, s = pair(6, 7)
    found = terms_of(DIST(), t, s)
    assert found["dist.inter"].per == "position"
    assert found["dist.intra"].per == "batch"


def test_masked_rows_are_not_in_the_correlation() -> None:
    t, s = pair(6, 7)
    mask = torch.tensor([True, True, False, True, True, False])
    some = terms_of(DIST(), t, s, mask=mask)["dist.intra"].values
    torch.testing.assert_close(some, terms_of(DIST(), t[mask], s[mask])["dist.intra"].values)


def test_sequences_are_positions() -> None:
    t, s = pair(2, 3, 7)
    flat = loss_on(DIST(), student_logits=s.flatten(0, 1), teacher_logits=t.flatten(0, 1))
    torch.testing.assert_close(loss_on(DIST(), student_logits=s, teacher_logits=t), flat)


def test_a_student_that_is_its_teacher_has_no_loss() -> None:
    t, _ = pair(6, 7)
    assert float(loss_on(DIST(), student_logits=t, teacher_logits=t)) == pytest.approx(0, abs=1e-5)


def test_a_batch_of_one_has_constant_columns_and_gives_numbers() -> None:
    t, s = pair(1, 7)
    s.requires_grad_()
    loss = loss_on(DIST(), student_logits=s, teacher_logits=t)
    assert loss.isfinite()
    assert gradient(loss, s).isfinite().all()
    assert float(terms_of(DIST(), t, s)["dist.intra"].values.detach()) == 1


def test_enormous_logits_give_numbers() -> None:
    t = torch.tensor([[1e4, -1e4, 0.0], [1e4, 0.0, 0.0]])
    s = torch.tensor([[-1e4, 1e4, 0.0], [0.0, 1e4, 0.0]], requires_grad=True)
    loss = loss_on(DIST(), student_logits=s, teacher_logits=t)
    assert loss.isfinite()
    assert gradient(loss, s).isfinite().all()


@pytest.mark.parametrize("constant", [0.0, 3.1])
def test_a_student_that_knows_nothing_yet_gets_no_enormous_gradient(constant: float) -> None:
    # A classifier that starts at zero: the authors' epsilon alone gives it 1e5 and more.
    t, _ = pair(64, 10)
    s = torch.full((64, 10), constant, requires_grad=True)
    loss = loss_on(DIST(), student_logits=s, teacher_logits=t.float())
    assert loss.isfinite()
    assert float(gradient(loss, s).norm()) < 1
