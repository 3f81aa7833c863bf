import pytest
import torch
from torch.nn import functional as F

from preceptor.objectives.dkd import DKD
from preceptor.objectives.reduction import total
from preceptor.types import Batch
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of

LABELS = torch.tensor([0, 3, 6, 2, 2, 5])


def test_it_is_the_authors_formula_on_moderate_logits() -> None:
    # Written from the paper: binary distributions, and a softmax over the K - 1 gathered classes.
    t, s = pair(6, 7)
    p, q = F.softmax(t / 4, -1), F.softmax(s / 4, -1)
    rows = torch.arange(6)
    p_y, q_y = p[rows, LABELS], q[rows, LABELS]
    target = p_y * (p_y / q_y).log() + (1 - p_y) * ((1 - p_y) / (1 - q_y)).log()
    others = torch.ones(6, 7, dtype=torch.bool)
    others[rows, LABELS] = False
    t_rest, s_rest = t[others].view(6, 6) / 4, s[others].view(6, 6) / 4
    rest = F.kl_div(s_rest.log_softmax(-1), t_rest.softmax(-1), reduction="none").sum(-1)
    found = terms_of(DKD(), t, s, LABELS)
    torch.testing.assert_close(found["dkd.target"].values, 16 * target)
    torch.testing.assert_close(found["dkd.others"].values, 8 * 16 * rest)


def test_the_paper_weights_are_the_defaults() -> None:
    assert DKD() == DKD(alpha=1.0, beta=8.0, temperature=4.0)


def test_only_labelled_positions_count() -> None:
    t, s = pair(6, 7)
    labels = torch.tensor([0, -1, 6, -1, 2, 5])
    some = loss_on(DKD(), student_logits=s, teacher_logits=t, labels=labels)
    kept = labels >= 0
    alone = loss_on(DKD(), student_logits=s[kept], teacher_logits=t[kept], labels=labels[kept])
    torch.testing.assert_close(some, alone)


def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient() -> None:
    t, _ = pair(6, 7)
    s = t.clone().requires_grad_()
    loss = loss_on(DKD(), student_logits=s, teacher_logits=t, labels=LABELS)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient(loss, s), torch.zeros_like(t))


def test_the_gradient_of_the_other_classes_does_not_reach_the_labels_logit() -> None:
    t, s = pair(6, 7)
    s.requires_grad_()
    terms = terms_of(DKD(alpha=0.0), t, s, LABELS)
    loss = total(terms["dkd.others"], Batch(s.detach(), labels=LABELS))
    assert gradient(loss, s)[torch.arange(6), LABELS].abs().max() < 1e-12


def test_logits_beyond_the_authors_thousand_are_right() -> None:
    # Subtracting 1000 from the label's logit leaves it the largest where it leads by 10^4: the
    # "others" would be one-hot on the label for both sides, and their divergence 0.
    t = torch.tensor([[1e4, 2.0, 0.0]], dtype=torch.float64)
    s = torch.tensor([[1e4, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0])
    found = terms_of(DKD(beta=1.0, temperature=1.0), t, s, label)["dkd.others"].values
    expected = F.kl_div(s[:, 1:].log_softmax(-1), t[:, 1:].softmax(-1), reduction="sum")
    torch.testing.assert_close(found.sum(), expected)
    shifted = [x - 1000 * F.one_hot(label, 3) for x in (s, t)]
    theirs = F.kl_div(shifted[0].log_softmax(-1), shifted[1].softmax(-1), reduction="sum")
    assert float(theirs.detach()) == pytest.approx(0, abs=1e-9)
    assert gradient(found.sum(), s).isfinite().all()


def test_the_label_is_the_target_and_not_the_teachers_favourite() -> None:
    # PaddleSlim takes the teacher's arg max.
    t, s = pair(6, 7)
    favourite = t.argmax(-1)
    wrong = (favourite + 1) % 7
    at_label = loss_on(DKD(), student_logits=s, teacher_logits=t, labels=wrong)
    at_favourite = loss_on(DKD(), student_logits=s, teacher_logits=t, labels=favourite)
    assert abs(float(at_label) - float(at_favourite)) > 0.1


def test_of_text_the_target_is_the_next_token_and_slices_are_the_whole() -> None:
    assert_slices_are_the_whole(DKD(temperature=2.0))
