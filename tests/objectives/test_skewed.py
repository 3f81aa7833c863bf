"""SkewKL and SkewReverseKL: one family with the sides exchanged."""

import math

import pytest
import torch
from scipy.special import rel_entr, softmax

from preceptor.objectives.base import Objective
from preceptor.objectives.gkd import GKD
from preceptor.objectives.kd import KD
from preceptor.objectives.reverse_kl import ReverseKL
from preceptor.objectives.skew_kl import SkewKL
from preceptor.objectives.skew_reverse_kl import SkewReverseKL
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


def test_they_are_scipys_relative_entropies_from_a_mixture() -> None:
    t, s = pair(6, 7)
    p, q = softmax(t.numpy(), axis=-1), softmax(s.numpy(), axis=-1)
    forward, reverse = rel_entr(p, 0.1 * p + 0.9 * q), rel_entr(q, 0.9 * p + 0.1 * q)
    found = terms_of(SkewKL(), t, s)["skew_kl"].values
    torch.testing.assert_close(found, torch.from_numpy(forward.sum(-1)))
    found = terms_of(SkewReverseKL(), t, s)["skew_reverse_kl"].values
    torch.testing.assert_close(found, torch.from_numpy(reverse.sum(-1)))


def test_both_together_are_jensen_shannon() -> None:
    # b KL(p || b p + (1 - b) q) + (1 - b) KL(q || b p + (1 - b) q).
    t, s = pair(6, 7)
    forward = terms_of(SkewKL(skew=0.3), t, s)["skew_kl"].values
    reverse = terms_of(SkewReverseKL(skew=0.7), t, s)["skew_reverse_kl"].values
    whole = terms_of(GKD(beta=0.3), t, s)["gkd"].values
    torch.testing.assert_close(0.3 * forward + 0.7 * reverse, whole)


@pytest.mark.parametrize(
    ("skewed", "plain"), [(SkewKL, KD(temperature=1.0)), (SkewReverseKL, ReverseKL())]
)
def test_with_almost_no_skew_they_are_the_plain_kls(skewed, plain) -> None:
    t, s = pair(6, 7)
    ours = loss_on(skewed(skew=1e-9), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(
        ours, loss_on(plain, student_logits=s, teacher_logits=t), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("objective", [SkewKL(), SkewReverseKL()])
def test_where_one_side_is_sure_of_what_the_other_excludes_the_gradient_stays_bounded(
    objective: Objective,
) -> None:
    # Plain KL is 2e4 here.
    t, s = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]], requires_grad=True)
    loss = loss_on(objective, student_logits=s, teacher_logits=t)
    assert loss.item() == pytest.approx(math.log(10))
    assert gradient(loss, s).abs().max() < 10


def test_the_teachers_entropy_changes_the_value_and_no_gradient() -> None:
    # DistiLLM's code reports -sum p log m.
    t, s = pair(6, 7)
    s.requires_grad_()
    p, q = torch.softmax(t, -1), torch.softmax(s, -1)
    theirs = -(p * (0.1 * p + 0.9 * q).log()).sum(-1).mean()
    ours = loss_on(SkewKL(), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(gradient(ours, s), gradient(theirs, s))
    entropy = -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(ours, theirs - entropy)


def test_the_students_part_of_the_mixture_moves_too() -> None:
    # As in DistiLLM's code; DistiLLM-2's takes it as fixed.
    t, s = pair(6, 7)
    s.requires_grad_()
    p, q = torch.softmax(t, -1), torch.softmax(s, -1)
    theirs = (q * (q.log() - (0.9 * p + 0.1 * q).log())).sum(-1).mean()
    ours = loss_on(SkewReverseKL(), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(gradient(ours, s), gradient(theirs, s))


@pytest.mark.parametrize(
    "objective", [SkewKL(over="teacher_written"), SkewReverseKL(skew=0.3, temperature=2.0)]
)
def test_slices_of_a_projection_are_the_whole(objective: Objective) -> None:
    assert_slices_are_the_whole(objective)


def test_the_closed_forms_name_the_teachers_share() -> None:
    assert SkewKL(skew=0.2).closed_form().parameter == 0.2
    assert SkewReverseKL(skew=0.2).closed_form().parameter == 0.8
