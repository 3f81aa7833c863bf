import pytest
import torch

from preceptor.objectives.fitnets_onestage import FitNetsOneStage
from tests.objectives.feature_taps import PAIR, context, outputs, plain_batch, random_tensor, signal


def value(
    ours: torch.Tensor, theirs: torch.Tensor, training: bool = True
) -> tuple[torch.Tensor, torch.nn.ModuleList]:
    objective = FitNetsOneStage(PAIR)
    taps, hints = {"s": ours}, {"t": theirs}
    torch.manual_seed(0)
    aux = objective.auxiliary(context(taps, hints)).train(training)
    terms = objective.terms(outputs(taps), signal(hints), plain_batch(len(ours)), aux)
    return terms["fitnets_onestage"].values.detach(), aux


def test_the_value_is_the_mean_squared_difference_after_convolution_normalisation_and_relu() -> (
    None
):
    ours, theirs = random_tensor(3, 2, 4, 4), random_tensor(3, 5, 4, 4, seed=1)
    values, aux = value(ours, theirs)
    weight, bias = (p.detach() for p in list(aux.parameters())[:2])
    mapped = torch.einsum("bchw,dc->bdhw", ours, weight[:, :, 0, 0]) + bias[:, None, None]
    mean = mapped.mean((0, 2, 3), keepdim=True)
    deviation = ((mapped - mean) ** 2).mean((0, 2, 3), keepdim=True).add(1e-5).sqrt()
    expected = (((mapped - mean) / deviation).clamp(min=0) - theirs) ** 2
    torch.testing.assert_close(values, expected.mean((1, 2, 3)))


@pytest.mark.parametrize("side", [3, 4, 6, 8, 16])
def test_the_regressor_brings_every_usual_size_to_the_hints(side: int) -> None:
    values, _ = value(random_tensor(2, 2, side, side), random_tensor(2, 3, 6, 6)[:, :, :3, :3])
    assert values.shape == (2,)


def test_a_map_of_half_the_size_is_enlarged() -> None:
    values, aux = value(random_tensor(2, 2, 3, 3), random_tensor(2, 3, 6, 6))
    assert values.isfinite().all()
    assert any(isinstance(module, torch.nn.ConvTranspose2d) for module in aux.modules())


def test_outside_training_two_halves_make_a_whole() -> None:
    ours, theirs = random_tensor(4, 2, 4, 4), random_tensor(4, 3, 4, 4, seed=1)
    whole, _ = value(ours, theirs, training=False)
    halves = [value(ours[i : i + 2], theirs[i : i + 2], training=False)[0] for i in (0, 2)]
    torch.testing.assert_close(torch.cat(halves), whole)


def test_one_example_with_one_position_is_finite_in_training() -> None:
    values, _ = value(random_tensor(1, 2), random_tensor(1, 3))
    assert values.isfinite().all()
