import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from preceptor.objectives.nkd import NKD
from tests.objectives.random_logits import loss_on, pair, terms_of

LABELS = torch.tensor([0, 3, 6, 2, 2, 5])


def _by_hand(t: Tensor, s: Tensor, temperature: float) -> tuple[list[float], list[float]]:
    target, others = [], []
    for row, label in enumerate(LABELS.tolist()):
        p, log_q = softmax(t[row].numpy()), log_softmax(s[row].numpy())
        target.append(-p[label] * log_q[label])
        rest = [k for k in range(7) if k != label]
        p_rest = softmax(t[row, rest].numpy() / temperature)
        log_q_rest = log_softmax(s[row, rest].numpy() / temperature)
        others.append(-(temperature**2) * 1.5 * (p_rest * log_q_rest).sum())
    return target, others


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_is_the_papers_two_cross_entropies(temperature: float) -> None:
    t, s = pair(6, 7)
    target, others = _by_hand(t, s, temperature)
    found = terms_of(NKD(temperature=temperature), t, s, LABELS)
    torch.testing.assert_close(found["nkd.target"].values, torch.tensor(target).double())
    torch.testing.assert_close(found["nkd.others"].values, torch.tensor(others).double())


def test_the_paper_weights_are_the_defaults() -> None:
    assert NKD() == NKD(gamma=1.5, temperature=1.0)


def test_confident_logits_give_no_nan() -> None:
    # Softmax, then log: the defect of the authors' issue 13.
    t = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    s = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0]], requires_grad=True)
    loss = loss_on(NKD(), student_logits=s, teacher_logits=t, labels=torch.tensor([0, 2]))
    loss.backward()
    assert loss.isfinite()
    assert s.grad is not None
    assert s.grad.isfinite().all()


def test_a_class_that_the_teacher_rules_out_adds_nothing() -> None:
    t = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]])
    s = torch.tensor([[0.0, 2.0, 1.0, -torch.inf]])
    label = torch.tensor([0])
    wide = loss_on(NKD(), student_logits=s, teacher_logits=t, labels=label)
    slim = loss_on(NKD(), student_logits=s[:, :3], teacher_logits=t[:, :3], labels=label)
    torch.testing.assert_close(wide, slim)


def test_only_labelled_positions_count() -> None:
    t, s = pair(6, 7)
    labels = torch.tensor([0, -1, 6, -1, 2, 5])
    kept = labels >= 0
    some = loss_on(NKD(), student_logits=s, teacher_logits=t, labels=labels)
    alone = loss_on(NKD(), student_logits=s[kept], teacher_logits=t[kept], labels=labels[kept])
    torch.testing.assert_close(some, alone)
