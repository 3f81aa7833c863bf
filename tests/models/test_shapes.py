import torch
from torch import nn

from preceptor.models.dry import undisturbed
from preceptor.models.shapes import flops, layers, parameters
from preceptor.models.tapped import TappedModel
from tests.models.hand_made import Noisy, Several, small_net


def test_layers_come_in_the_order_of_their_calls_with_shapes_and_parameters() -> None:
    rows = layers(TappedModel(small_net()), torch.rand(2, 1, 8, 8))
    assert [(row.name, row.type, row.shape, row.parameters) for row in rows] == [
        ("", "Sequential", (2, 3), 40 + 15),
        ("0", "Conv2d", (2, 4, 8, 8), 40),
        ("1", "ReLU", (2, 4, 8, 8), 0),
        ("2", "AdaptiveAvgPool2d", (2, 4, 1, 1), 0),
        ("3", "Flatten", (2, 4), 0),
        ("4", "Linear", (2, 3), 15),
    ]


def test_calls_are_counted_and_modules_that_are_not_called_are_left_out() -> None:
    rows = {row.name: row for row in layers(TappedModel(Several()), torch.rand(2, 4))}
    assert rows["shared"].calls == 2
    assert rows["pair"].shape == (2, 4)
    assert "unused" not in rows


def test_a_dry_pass_leaves_buffers_generators_and_modes_alone() -> None:
    model = TappedModel(nn.Sequential(nn.BatchNorm2d(1), Noisy()))
    model.module[0].eval()  # pyright: ignore[reportIndexIssue]
    modes = [part.training for part in model.modules()]
    state, buffers = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    pixels = torch.rand(2, 1, 8, 8, generator=torch.Generator())
    layers(model, pixels)
    flops(model, pixels)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in model.modules()] == modes
    for name, buffer in model.state_dict().items():
        assert torch.equal(buffer, buffers[name]), name


def test_a_graph_from_before_a_dry_pass_can_still_be_sent_back() -> None:
    norm = nn.BatchNorm1d(3).eval()
    loss = norm(torch.randn(4, 3)).sum()
    with undisturbed(norm):
        norm.train()(torch.randn(4, 3))
    loss.backward()
    assert torch.equal(norm.running_mean, torch.zeros(3))  # pyright: ignore[reportArgumentType]


def test_buffers_come_back_after_an_error() -> None:
    model = Noisy()
    before = model.count
    try:
        with undisturbed(model):
            model(torch.rand(2, 4))
            raise KeyError
    except KeyError:
        pass
    assert model.count is before
    assert before == 0


def test_operations_are_counted_by_hand() -> None:
    # 2 images x 8 x 8 places x 4 filters x 9 weights, and 2 rows x 4 x 3, each times 2.
    expected = 2 * (2 * 8 * 8 * 4 * 9) + 2 * (2 * 4 * 3)
    assert flops(TappedModel(small_net()), torch.rand(2, 1, 8, 8)) == expected


def test_shared_parameters_count_once() -> None:
    linear = nn.Linear(3, 3)
    assert parameters(nn.Sequential(linear, linear)) == 12
