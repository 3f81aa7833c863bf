import pytest
import torch
from scipy.special import rel_entr

from preceptor.distributions import TopK
from preceptor.objectives.adaptive_kl import AdaptiveKL
from preceptor.objectives.kd import KD
from preceptor.objectives.reverse_kl import ReverseKL
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


def test_it_is_both_kls_weighted_by_hand() -> None:
    # Head 0.6; gaps 0.3 there and 0.2 + 0.1 in the tail.
    p, q = torch.tensor([[0.6, 0.3, 0.1]]).double(), torch.tensor([[0.3, 0.5, 0.2]]).double()
    forward, reverse = rel_entr(p.numpy(), q.numpy()).sum(), rel_entr(q.numpy(), p.numpy()).sum()
    found = terms_of(AdaptiveKL(), p.log(), q.log())["adaptive_kl"].values
    assert found.item() == pytest.approx((forward + reverse) / 2)


def test_off_in_the_head_alone_it_is_forward_kl_and_in_the_tail_alone_reverse_kl() -> None:
    # With the gap within one part the other part's weight is 0.
    head_p, head_q = [0.3, 0.3, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2]
    tail_p, tail_q = [0.6, 0.2, 0.1, 0.1], [0.6, 0.1, 0.2, 0.1]
    for p, q, plain in ((head_p, head_q, KD(temperature=1.0)), (tail_p, tail_q, ReverseKL())):
        t, s = (torch.tensor([side], dtype=torch.float64).log() for side in (p, q))
        s.requires_grad_()
        ours = loss_on(AdaptiveKL(), student_logits=s, teacher_logits=t)
        other = loss_on(plain, student_logits=s, teacher_logits=t)
        torch.testing.assert_close(ours, other)
        torch.testing.assert_close(gradient(ours, s), gradient(other, s))


def test_an_equal_student_has_no_loss_and_no_gradient() -> None:
    t, _ = pair(6, 7)
    s = t.clone().requires_grad_()
    loss = loss_on(AdaptiveKL(), student_logits=s, teacher_logits=t)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient(loss, s), torch.zeros_like(t))


def test_of_a_top_k_the_rest_lies_in_the_tail() -> None:
    t, s = pair(1, 9, scale=0.1)
    log_p, ids = torch.log_softmax(t, -1).topk(2)
    tail = torch.log1p(-log_p.exp().sum(-1))
    cut = TopK(ids, log_p, tail, 1.0, 9)
    found = terms_of(AdaptiveKL(), cut, s)["adaptive_kl"].values
    q = torch.softmax(s, -1).gather(-1, ids)
    q = torch.cat([q, 1 - q.sum(-1, keepdim=True)], -1)
    p = torch.cat([log_p, tail.unsqueeze(-1)], -1).exp()
    gap = (p - q).abs()
    share = gap[:, :2].sum() / gap.sum()
    forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
    assert found.item() == pytest.approx((share * forward + (1 - share) * reverse).item())


def test_slices_of_a_projection_are_the_whole() -> None:
    assert_slices_are_the_whole(AdaptiveKL(temperature=2.0))
