import pytest
import torch
from scipy.special import rel_entr, softmax

from preceptor.objectives.dml import DML
from preceptor.objectives.kd import KD
from preceptor.types import Dense, Mixture
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


def _peers(count: int) -> Mixture:
    members = tuple(Dense(pair(6, 7, seed=10 + k)[0]) for k in range(count))
    return Mixture(members, torch.full((count, 6), 1 / count))


def test_it_is_the_mean_over_peers_of_scipys_relative_entropies() -> None:
    _, s = pair(6, 7)
    peers = _peers(3)
    q = softmax(s.numpy(), axis=-1)
    each = [rel_entr(m.log_probs(1.0).exp().numpy(), q).sum(-1) for m in peers.members]
    found = terms_of(DML(), peers, s)["dml"].values
    torch.testing.assert_close(found, torch.from_numpy(sum(each) / 3), rtol=1e-6, atol=1e-8)


def test_one_peer_is_kd() -> None:
    t, s = pair(6, 7)
    alone = terms_of(DML(temperature=2.0), t, s)["dml"].values
    torch.testing.assert_close(alone, terms_of(KD(temperature=2.0), t, s)["kd"].values)
    torch.testing.assert_close(
        terms_of(DML(), _peers(1), s)["dml"].values,
        terms_of(DML(), _peers(1).members[0], s)["dml"].values,
    )


def test_its_gradient_is_that_of_kd_from_the_peers_mean() -> None:
    _, s = pair(6, 7)
    s.requires_grad_()
    peers = _peers(3)
    ours = gradient(terms_of(DML(), peers, s)["dml"].values.sum(), s)
    mean = gradient(terms_of(KD(temperature=1.0), peers, s)["kd"].values.sum(), s)
    torch.testing.assert_close(ours, mean, rtol=1e-5, atol=1e-7)


def test_peers_get_no_gradient() -> None:
    # KD_Lib's DML does not detach: each network is pulled towards being easy to imitate.
    t, s = pair(6, 7)
    peer, student = t.requires_grad_(), s.requires_grad_()
    mixture = Mixture((Dense(peer), Dense(peer)), torch.full((2, 6), 0.5))
    terms_of(DML(), mixture, student)["dml"].values.sum().backward()
    assert peer.grad is None
    assert student.grad is not None


def test_logits_are_compared_as_probabilities() -> None:
    # KD_Lib's DML is a mean square of logits, which a constant changes.
    t, s = pair(6, 7)
    before = loss_on(DML(), student_logits=s, teacher_logits=t)
    assert float(loss_on(DML(), student_logits=s + 5, teacher_logits=t)) == pytest.approx(
        float(before)
    )
