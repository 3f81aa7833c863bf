import copy
from typing import Any

import pytest
import torch
from torch import nn

from preceptor.errors import ModelError
from preceptor.models import zoo
from preceptor.models.tapped import TappedModel
from tests.models.hand_made import InPlace, Named, Wrapped, small_net


def test_two_models_with_their_own_normalisation_see_the_same_pixels() -> None:
    pixels = torch.rand(2, 1, 8, 8)
    student = TappedModel(nn.Identity(), mean=(0.5,), std=(0.25,))
    teacher = TappedModel(nn.Identity(), mean=(0.1,), std=(2.0,))
    assert torch.allclose(student.normalized(pixels), (pixels - 0.5) / 0.25)
    seen = student(pixels).logits * 0.25 + 0.5
    assert torch.allclose(seen, teacher(pixels).logits * 2 + 0.1)


def test_keyword_pixels_are_normalised_too() -> None:
    class Keyword(nn.Module):
        def forward(self, pixel_values: torch.Tensor) -> dict[str, Any]:
            return {"logits": pixel_values}

    pixels = torch.rand(2, 1, 4, 4)
    model = TappedModel(Keyword(), mean=(0.5,), std=(0.5,))
    assert torch.equal(model({"pixel_values": pixels}).logits, model(pixels).logits)


@pytest.mark.parametrize(
    "pixels",
    [torch.rand(2, 1, 8, 8), torch.rand(3, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)],
)
def test_pixels_that_cannot_be_normalised_are_refused(pixels: torch.Tensor) -> None:
    # One channel minus three means would silently become three channels.
    model = TappedModel(nn.Identity(), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    with pytest.raises(ModelError, match="normalises 3 channels"):
        model(pixels)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), ()), ((0.5,), (0.0,)), ((0.5,), (-1.0,))])
def test_a_normalisation_that_makes_no_sense_is_refused(mean: Any, std: Any) -> None:
    with pytest.raises(ModelError, match="positive standard deviation"):
        TappedModel(nn.Identity(), mean=mean, std=std)


def test_the_first_pass_with_taps_moves_neither_buffers_nor_generator() -> None:
    plain = TappedModel(InPlace())
    tapped = TappedModel(copy.deepcopy(plain.module)).reading(frozenset({"first", "norm"}))
    x = torch.rand(4, 1, 4, 4)
    state = torch.get_rng_state()
    tapped(x)
    assert torch.equal(torch.get_rng_state(), state)
    plain(x)
    for (name, one), (_, other) in zip(
        plain.state_dict().items(), tapped.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name


def test_taps_in_training_survive_what_is_done_in_place() -> None:
    model = TappedModel(InPlace(), head="head").reading(frozenset({"first", "norm", "head:input"}))
    x = torch.rand(4, 1, 4, 4)
    for _ in range(2):
        taps = model(x).taps
        assert torch.equal(taps["first"], model.module.get_submodule("first")(x))
        assert torch.allclose(taps["norm"].mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5)


def test_a_step_with_taps_that_are_not_used_gives_the_gradients_of_one_without() -> None:
    plain = TappedModel(zoo.create("resnet8", 10))
    tapped = TappedModel(copy.deepcopy(plain.module)).reading(frozenset({"stage*", "stem.0"}))
    x = torch.rand(4, 3, 16, 16)
    for model in (plain, tapped):
        model(x).logits.square().sum().backward()
    for one, other in zip(plain.parameters(), tapped.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_reading_shares_the_module_and_keeps_every_mode() -> None:
    model = TappedModel(InPlace(), mean=(0.5,), std=(0.5,), head="head", spec={"zoo": "x"})
    model.module.get_submodule("norm").eval()
    other = model.reading(frozenset({"relu"}))
    assert other.module is model.module
    assert other.training
    assert not model.module.get_submodule("norm").training
    assert (other.mean, other.std, other.head_name, other.spec) == (
        model.mean,
        model.std,
        "head",
        {"zoo": "x"},
    )


def test_globs_are_expanded_and_wrong_names_answer_with_the_nearest() -> None:
    model = TappedModel(zoo.create("resnet8", 10))
    assert model.reading(frozenset({"stage*"})).reads == {"stage1", "stage2", "stage3"}
    with pytest.raises(ModelError, match="Nearest: stage3, stage2, stage1"):
        model.reading(frozenset({"stage4"}))


def test_the_head_gives_the_logits_from_its_own_input() -> None:
    model = TappedModel(InPlace(), head="head").reading(frozenset({"head:input"}))
    outputs = model(torch.rand(2, 1, 4, 4))
    head = outputs.head
    assert head.bias is not None
    assert torch.allclose(outputs.tap("head:input") @ head.weight.T + head.bias, outputs.logits)
    assert head.weight.requires_grad


def test_a_one_by_one_convolution_is_a_head_and_a_larger_one_is_not() -> None:
    assert TappedModel(nn.Sequential(nn.Conv2d(4, 3, 1)), head="0").head().weight.shape == (3, 4)
    for wrong in (nn.Conv2d(4, 3, 3), nn.ReLU()):
        with pytest.raises(ModelError, match="one linear layer"):
            TappedModel(nn.Sequential(wrong), head="0").head()


def test_logits_are_found_in_a_mapping_and_missed_in_words() -> None:
    assert TappedModel(Wrapped())(torch.rand(2, 1, 8, 8)).logits.shape == (2, 3)
    assert torch.equal(TappedModel(Named())({"x": torch.ones(2)}).logits, torch.ones(2))
    with pytest.raises(ModelError, match="returned a tuple"):
        TappedModel(nn.LSTM(4, 4))(torch.rand(2, 3, 4))


def test_a_graft_replaces_the_classifier() -> None:
    model = TappedModel(small_net(), mean=(0.5,), std=(0.5,), head="4", spec={"factory": "a:b"})
    end = nn.Sequential(nn.Flatten(), nn.Linear(4, 9))
    spec = {"class": "torch.nn:Sequential", "head": "1"}
    grafted = model.grafted(end, "2", spec)
    x = torch.rand(2, 1, 8, 8)
    features = model.reading(frozenset({"2"}))(x).taps["2"]
    assert torch.equal(grafted(x).logits, end(features))
    assert grafted.head().weight is end[1].weight
    assert grafted.mean == (0.5,)
    # The old classifier is gone from the copy, and still in the model.
    assert {n for n, _ in grafted.named_parameters()} == {
        "module.trunk.0.weight",
        "module.trunk.0.bias",
        "module.graft.1.weight",
        "module.graft.1.bias",
    }
    assert model.head().weight.shape == (3, 4)


def test_a_graft_behind_the_classifier_keeps_it() -> None:
    model = TappedModel(small_net(), head="4", spec={"factory": "a:b"})
    x = torch.rand(2, 1, 8, 8)
    for tap in ("4", ""):
        grafted = model.grafted(nn.Identity(), tap, {"class": "torch.nn:Identity"})
        assert torch.equal(grafted(x).logits, model(x).logits)
