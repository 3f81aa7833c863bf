import numpy as np
import pytest
import torch
from torch import Tensor, nn

from preceptor.objectives.feature_statistics import FeatureStatistics
from tests.objectives.feature_taps import PAIR, context, outputs, plain_batch, random_tensor, signal


def values(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, nn.ModuleList]:
    objective = FeatureStatistics(PAIR)
    taps, hints = {"s": ours}, {"t": theirs}
    aux = objective.auxiliary(context(taps, hints))
    terms = objective.terms(outputs(taps), signal(hints), plain_batch(len(ours)), aux)
    mean, deviation = terms["feature_statistics.mean"], terms["feature_statistics.deviation"]
    return mean.values.detach(), deviation.values.detach(), aux


def test_a_case_worked_by_hand() -> None:
    # Means 2 and 5, deviations 1 and 3.
    ours, theirs = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[2.0, 8.0]]]])
    mean, deviation, _ = values(ours, theirs)
    assert (mean.item(), deviation.item()) == pytest.approx((9.0, 4.0))


def test_the_values_equal_numpys_after_the_adapter() -> None:
    ours, theirs = random_tensor(3, 2, 4, 4), random_tensor(3, 5, 2, 3, seed=1)
    mean, deviation, aux = values(ours, theirs)
    weight, bias = (p.detach().numpy() for p in aux.parameters())
    mapped = np.einsum("bchw,dc->bdhw", ours.numpy(), weight[:, :, 0, 0]) + bias[:, None, None]
    for found, statistic in ((mean, np.mean), (deviation, np.std)):
        difference = statistic(mapped, (2, 3)) - statistic(theirs.numpy(), (2, 3))
        np.testing.assert_allclose(found.numpy(), (difference**2).sum(1), rtol=1e-4)


def test_equal_channels_need_no_adapter_and_moving_positions_changes_nothing() -> None:
    theirs = random_tensor(2, 3, 4, 4)
    mean, deviation, aux = values(theirs.flip(-1).transpose(-1, -2), theirs)
    assert not list(aux.parameters())
    torch.testing.assert_close(mean, torch.zeros(2))
    torch.testing.assert_close(deviation, torch.zeros(2))


def test_constant_channels_have_a_finite_gradient() -> None:
    ours = torch.zeros(2, 3, 4, 4, requires_grad=True)
    objective = FeatureStatistics(PAIR)
    taps, hints = {"s": ours}, {"t": random_tensor(2, 3, 4, 4)}
    aux = objective.auxiliary(context(taps, hints))
    terms = objective.terms(outputs(taps), signal(hints), plain_batch(2), aux)
    sum(term.values.sum() for term in terms.values()).backward()  # pyright: ignore
    assert ours.grad is not None
    assert ours.grad.isfinite().all()
