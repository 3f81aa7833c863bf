import pytest
import torch
from torch.nn import functional as F

from preceptor.errors import NeedsError
from preceptor.teachers.peers import Peers
from preceptor.types import Mixture, Outputs
from tests.teachers.small import CLASSES, batch_of


def cohort(count: int) -> list[Outputs]:
    generator = torch.Generator().manual_seed(0)
    return [
        Outputs(torch.randn(4, CLASSES, generator=generator, requires_grad=True))
        for _ in range(count)
    ]


def test_each_is_taught_by_the_mean_of_the_others() -> None:
    outputs, batch, peers = cohort(3), batch_of([1, 2, 3, 4]), Peers()
    peers.show(outputs)
    found = peers.signal_for(1, batch).whole.log_probs(2.0).exp()
    p0, p2 = ((outputs[k].logits / 2).softmax(-1) for k in (0, 2))
    assert torch.allclose(found, (p0 + p2) / 2, atol=1e-6)


def test_of_two_each_is_the_other_s_teacher() -> None:
    outputs, batch, peers = cohort(2), batch_of([1, 2, 3, 4]), Peers()
    peers.show(outputs)
    for member in (0, 1):
        distribution = peers.signal_for(member, batch).distribution
        assert isinstance(distribution, Mixture)
        expected = outputs[1 - member].logits.log_softmax(-1)
        assert torch.allclose(distribution.log_probs(1.0), expected, atol=1e-6)


def test_the_gradient_is_the_paper_s_mean_over_pairs() -> None:
    outputs, batch, peers = cohort(3), batch_of([1, 2, 3, 4]), Peers()
    peers.show(outputs)
    logits = outputs[0].logits
    others = [outputs[k].logits.detach().log_softmax(-1) for k in (1, 2)]
    q = logits.log_softmax(-1)
    pairs = [F.kl_div(q, p, reduction="batchmean", log_target=True) for p in others]
    mean = peers.signal_for(0, batch).whole.log_probs(1.0)
    whole = F.kl_div(q, mean, reduction="batchmean", log_target=True)
    (expected,) = torch.autograd.grad(sum(pairs) / 2, logits, retain_graph=True)  # pyright: ignore
    (found,) = torch.autograd.grad(whole, logits)
    assert torch.allclose(found, expected, atol=1e-6)


def test_no_gradient_reaches_the_others() -> None:
    outputs, peers = cohort(2), Peers()
    peers.show(outputs)
    signal = peers.signal_for(0, batch_of([1, 2, 3, 4]))
    assert not signal.whole.log_probs(1.0).requires_grad


def test_a_signal_for_nobody_is_refused() -> None:
    peers = Peers()
    peers.show(cohort(2))
    with pytest.raises(NeedsError, match="signal_for"):
        peers.signal(batch_of([1, 2, 3, 4]))


def test_another_batch_than_the_one_shown_is_refused() -> None:
    peers = Peers()
    with pytest.raises(NeedsError, match="shown 0"):
        peers.signal_for(0, batch_of([1]))
    peers.show(cohort(2))
    with pytest.raises(NeedsError, match="2 examples and shown 4"):
        peers.signal_for(0, batch_of([1, 2]))


def test_one_student_is_no_cohort() -> None:
    with pytest.raises(NeedsError, match="at least two"):
        Peers().show(cohort(1))


def test_they_offer_no_raw_logits() -> None:
    peers = Peers()
    peers.show(cohort(2))
    assert peers.offers().kinds == {"probabilities"}
    with pytest.raises(NeedsError, match="raw logits"):
        _ = peers.signal_for(0, batch_of([1, 2, 3, 4])).logits
