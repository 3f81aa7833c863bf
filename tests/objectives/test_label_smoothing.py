import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from preceptor.errors import RecipeError
from preceptor.objectives.ce import CE
from preceptor.objectives.label_smoothing import LabelSmoothing
from tests.objectives.random_logits import loss_on, pair


def test_the_target_is_the_label_and_a_share_of_every_class() -> None:
    # Szegedy et al., section 7: q'(k) = (1 - e) [k = y] + e / K.
    _, s = pair(4, 7)
    labels = torch.tensor([0, 3, 6, 2])
    target = np.full((4, 7), 0.1 / 7)
    target[np.arange(4), labels.numpy()] += 0.9
    expected = -(target * log_softmax(s.numpy(), axis=-1)).sum(-1).mean()
    assert float(loss_on(LabelSmoothing(), student_logits=s, labels=labels)) == pytest.approx(
        expected
    )


def test_without_any_smoothing_it_is_cross_entropy() -> None:
    _, s = pair(4, 7)
    labels = torch.tensor([0, 3, -1, 2])
    none = loss_on(LabelSmoothing(amount=0.0), student_logits=s, labels=labels)
    torch.testing.assert_close(none, loss_on(CE(), student_logits=s, labels=labels))


def test_it_is_least_where_the_student_is_as_unsure_as_the_target() -> None:
    target = torch.full((1, 7), 0.1 / 7, dtype=torch.float64)
    target[0, 2] += 0.9
    s = target.log().requires_grad_()
    loss_on(LabelSmoothing(), student_logits=s, labels=torch.tensor([2])).backward()
    assert s.grad is not None
    torch.testing.assert_close(s.grad, torch.zeros_like(s))


def test_an_amount_above_one_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"amount must be >= 0 and <= 1"):
        LabelSmoothing(amount=1.5)
