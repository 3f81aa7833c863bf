import pytest
import torch

from preceptor.errors import ModelError
from preceptor.objectives.fitnets import FitNets
from tests.objectives.feature_taps import PAIR, context, outputs, plain_batch, random_tensor, signal


def test_the_value_is_half_the_squared_distance_to_the_regressed_map() -> None:
    ours, theirs = {"s": random_tensor(2, 3, 5, 4)}, {"t": random_tensor(2, 2, 3, 3, seed=1)}
    objective = FitNets(PAIR)
    aux = objective.auxiliary(context(ours, theirs))
    weight, bias = (p.detach() for p in aux.parameters())
    assert weight.shape == (2, 3, 3, 2)
    expected = torch.zeros(2)
    for b in range(2):
        for d in range(2):
            for y in range(3):
                for x in range(3):
                    window = ours["s"][b, :, y : y + 3, x : x + 2]
                    r = torch.relu((weight[d] * window).sum() + bias[d])
                    expected[b] += 0.5 * (theirs["t"][b, d, y, x] - r) ** 2
    term = objective.terms(outputs(ours), signal(theirs), plain_batch(2), aux)["fitnets"]
    assert term.per == "example"
    torch.testing.assert_close(term.values, expected)


def test_it_is_a_sum_over_the_map_and_not_a_mean() -> None:
    ours, theirs = {"s": torch.zeros(1, 1, 2, 2)}, {"t": torch.full((1, 3, 2, 2), 2.0)}
    objective = FitNets(PAIR)
    aux = objective.auxiliary(context(ours, theirs))
    torch.nn.init.zeros_(next(p for p in aux.parameters() if p.ndim == 1))
    term = objective.terms(outputs(ours), signal(theirs), plain_batch(1), aux)["fitnets"]
    assert term.values.item() == pytest.approx(0.5 * 12 * 4)


def test_a_regressor_that_is_the_identity_finds_no_distance_between_equal_maps() -> None:
    theirs = {"t": random_tensor(2, 2, 3, 3).relu()}
    ours = {"s": theirs["t"].clone()}
    objective = FitNets(PAIR)
    aux = objective.auxiliary(context(ours, theirs))
    weight, bias = aux.parameters()
    torch.nn.init.dirac_(weight)
    torch.nn.init.zeros_(bias)
    term = objective.terms(outputs(ours), signal(theirs), plain_batch(2), aux)["fitnets"]
    assert torch.equal(term.values, torch.zeros(2))


def test_without_an_activation_the_hint_may_be_negative() -> None:
    ours, theirs = {"s": random_tensor(1, 2, 2, 2)}, {"t": random_tensor(1, 2, 2, 2, seed=1)}
    modules = [
        type(m) for m in FitNets(PAIR, activation="none").auxiliary(context(ours, theirs)).modules()
    ]
    assert torch.nn.ReLU not in modules


def test_a_student_map_smaller_than_the_hint_is_refused_in_words() -> None:
    ours, theirs = {"s": torch.zeros(2, 2, 2, 4)}, {"t": torch.zeros(2, 2, 4, 4)}
    with pytest.raises(ModelError, match=r"student 's' and teacher 't'.*\(2, 4\).*\(4, 4\)"):
        FitNets(PAIR).auxiliary(context(ours, theirs))
