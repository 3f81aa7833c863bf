"""Parameter counts as the literature prints them, in millions, for 32x32 pixels and 100 classes."""

import pytest
import torch
from torch import nn

from preceptor.errors import ModelError
from preceptor.models import zoo
from preceptor.models.shapes import parameters
from preceptor.models.zoo.shufflenet import Shuffle
from preceptor.models.zoo.vit import Attention

# Table in Tian et al. 2020 (arXiv:1910.10699) and the papers that compare on the same pairs.
PUBLISHED = {
    "resnet20": 0.28,
    "resnet32": 0.47,
    "resnet56": 0.86,
    "resnet110": 1.74,
    "resnet8x4": 1.23,
    "resnet32x4": 7.43,
    "wrn-16-2": 0.70,
    "wrn-40-1": 0.57,
    "wrn-40-2": 2.26,
    "vgg8": 3.97,
    "vgg13": 9.46,
    "mobilenetv2": 0.81,
    "shufflenetv1": 0.95,
    "shufflenetv2": 1.36,
}


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_the_parameters_are_as_many_as_published(name: str, millions: float) -> None:
    assert round(parameters(zoo.create(name, classes=100)) / 1e6, 2) == millions


def test_he_counts_his_networks_without_projections() -> None:
    # He et al. 2016, table 6: 0.27 M and 0.85 M for 20 and 56 layers, 10 classes, option A.
    projections = sum(16 * 2**n * 32 * 2**n + 2 * 32 * 2**n for n in (0, 1))
    for name, millions in (("resnet20", 0.27), ("resnet56", 0.85)):
        count = parameters(zoo.create(name, classes=10)) - projections
        assert round(count / 1e6, 2) == millions


def test_the_digits_pair_has_the_stated_sizes() -> None:
    assert parameters(zoo.create("cnn-large", 10, channels=1, size=8)) == 288_170
    assert parameters(zoo.create("cnn-small", 10, channels=1, size=8)) == 3_778


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 8)])
def test_every_model_takes_large_and_small_images(name: str, channels: int, size: int) -> None:
    model = zoo.create(name, 7, channels, size).eval()
    assert model(torch.rand(2, channels, size, size)).shape == (2, 7)
    assert isinstance(model.get_submodule("head"), nn.Linear)


@pytest.mark.parametrize(
    "name", ["resnet8", "wrn-16-1", "vgg8", "mobilenetv2", "shufflenetv1", "vit"]
)
def test_every_parameter_of_a_model_is_used(name: str) -> None:
    model = zoo.create(name, 5)
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_names_are_read_with_either_dash_and_in_any_case() -> None:
    torch.manual_seed(1)
    one = zoo.create("WRN_16_1", 10)
    torch.manual_seed(1)
    other = zoo.create("wrn-16-1", 10)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="Nearest: resnet8x4"):
        zoo.create("resnet8x5", 10)


def test_what_a_family_leaves_open_can_be_said_and_nothing_else() -> None:
    model = zoo.create("vit", 10, 1, 8, width=32, heads=2, depth=1, patch=2)
    assert model.get_parameter("embed.weight").shape == (32, 1, 2, 2)
    assert model.get_parameter("position").shape == (1, 17, 32)
    with pytest.raises(ModelError, match="Nearest: width"):
        zoo.create("vit", 10, widht=3)
    with pytest.raises(ModelError, match="leaves open nothing"):
        zoo.create("resnet20", 10, depth=8)
    with pytest.raises(ModelError, match="must divide"):
        zoo.create("vit", 10, width=64, heads=3)


def test_attention_of_the_vit_is_what_torch_computes() -> None:
    attention = Attention(width=16, heads=2)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = (
        attention.query_key_value.weight.data,
        attention.query_key_value.bias.data,
    )
    theirs.out_proj.load_state_dict(attention.project.state_dict())
    x = torch.randn(2, 5, 16)
    assert torch.allclose(attention(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)


def test_a_shuffle_mixes_groups_as_the_paper_draws_it() -> None:
    channels = torch.arange(6.0).view(1, 6, 1, 1)
    assert Shuffle(3)(channels).flatten().tolist() == [0, 2, 4, 1, 3, 5]
