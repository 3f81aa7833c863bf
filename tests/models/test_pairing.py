from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from preceptor.errors import ModelError
from preceptor.models.anatomy import anatomy
from preceptor.models.load import load_model
from preceptor.models.pairing import describe, pair_layers
from preceptor.models.tapped import TappedModel
from preceptor.needs import LayerKind

PIXELS = torch.rand(2, 3, 32, 32)


def zoo(name: str, **arguments: Any) -> TappedModel:
    small = {"width": 24} if name == "vit" else {}
    return load_model({"zoo": name, "classes": 10, "arguments": small | arguments})


def pairs(
    student: TappedModel, teacher: TappedModel, kind: LayerKind
) -> tuple[tuple[str, str], ...]:
    return pair_layers(student, teacher, PIXELS, kind)


def same(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)


@pytest.mark.parametrize(
    ("student", "teacher", "stages"),
    [
        ("resnet8x4", "resnet32x4", same("stage1", "stage2", "stage3")),
        ("wrn-16-2", "wrn-40-2", same("stage1", "stage2", "last")),
        ("vgg8", "vgg13", same("stage1", "stage2", "stage3", "stage5")),
        ("cnn-small", "cnn-large", same("stage1", "stage2", "stage3")),
        # The stems of ShuffleNets are no stages, and end at 4x4 what resnet32x4 ends at 8x8.
        ("shufflenetv1", "shufflenetv2", (*same("stage1", "stage2"), ("stage3", "last"))),
        (
            "mobilenetv2",
            "vgg13",
            (("stage2", "stage1"), ("stage3", "stage2"), ("stage5", "stage3"), ("last", "stage5")),
        ),
        ("resnet8", "vgg8", (("stage1", "stage1"), ("stage2", "stage2"), ("stage3", "stage3"))),
        ("vgg8", "resnet8", (("stage1", "stage1"), ("stage2", "stage2"), ("stage3", "stage3"))),
    ],
)
def test_stages_meet_in_order(student: str, teacher: str, stages: Any) -> None:
    assert pairs(zoo(student), zoo(teacher), "stages") == stages


def test_middle_last_map_and_embedding_are_single_pairs() -> None:
    student, teacher = zoo("wrn-16-1"), zoo("vgg8")
    assert pairs(student, teacher, "middle") == (("stage2", "stage2"),)
    assert pairs(student, teacher, "last_map") == (("last", "stage5"),)
    assert pairs(student, teacher, "embedding") == (("head:input", "head:input"),)


def test_the_last_map_times_the_head_gives_the_logits() -> None:
    # What CAT-KD rests on: the mean of the class activation maps.
    for name in ("resnet8", "wrn-16-1", "mobilenetv2", "cnn-small"):
        model = zoo(name).eval()
        tap = pairs(model, model, "last_map")[0][0]
        outputs = model.reading(frozenset({tap}))(PIXELS)
        pooled = outputs.tap(tap).mean(dim=(2, 3))
        logits = nn.functional.linear(pooled, outputs.head.weight, outputs.head.bias)
        assert torch.allclose(logits, outputs.logits, atol=1e-4), name


def test_flow_is_two_pairs_a_stage_entry_before_exit() -> None:
    assert pairs(zoo("resnet8"), zoo("resnet14"), "flow") == same(
        "stem", "stage1", "stage1", "stage2", "stage2", "stage3"
    )
    # The first stage of a plain network reads pixels, of which there is no flow.
    assert pairs(zoo("vgg8"), zoo("vgg13"), "flow")[0] == ("stage1", "stage1")


def test_flow_through_other_widths_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\(16 channels\).*\(32\)"):
        pairs(zoo("resnet8"), zoo("resnet8x4"), "flow")


def test_transformer_blocks_are_spread_evenly_and_the_last_meet() -> None:
    student, teacher = zoo("vit", depth=2), zoo("vit", depth=6)
    assert pairs(student, teacher, "hidden") == (("blocks.0", "blocks.2"), ("blocks.1", "blocks.5"))
    assert pairs(teacher, student, "hidden") == (("blocks.2", "blocks.0"), ("blocks.5", "blocks.1"))
    assert pairs(student, teacher, "stages") == pairs(student, teacher, "hidden")
    assert pairs(student, teacher, "last_map") == (("blocks.1", "blocks.5"),)
    assert pairs(student, teacher, "attention")[0] == (
        "blocks.0.attention.softmax",
        "blocks.2.attention.softmax",
    )


def transformers_vit(**said: Any) -> TappedModel:
    config = {
        "model_type": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 4,
    }
    return load_model({"transformers": config, "classes": 10, **said})


def test_attention_of_a_transformers_model_needs_the_eager_kind() -> None:
    teacher = zoo("vit", depth=3)
    with pytest.raises(ModelError, match="attention: eager"):
        pairs(transformers_vit(), teacher, "attention")
    student = transformers_vit(attention="eager")
    found = pairs(student, teacher, "attention")
    assert len(found) == 3
    shown = student.reading(frozenset(one for one, _ in found))(PIXELS).taps
    for one, _ in found:
        assert shown[one].shape == (2, 2, 65, 65)
        assert torch.allclose(shown[one].sum(dim=-1), torch.ones(2, 2, 65), atol=1e-5)


def test_attention_over_other_numbers_of_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="17 and 65 tokens"):
        pairs(zoo("vit", depth=1, patch=8), zoo("vit", depth=1), "attention")


@pytest.mark.parametrize("kind", ["stages", "middle", "last_map", "hidden", "attention", "flow"])
def test_maps_and_tokens_are_not_compared(kind: LayerKind) -> None:
    with pytest.raises(ModelError, match=r"shows tokens|shows maps|returns any"):
        pairs(zoo("resnet8"), zoo("vit", depth=1), kind)
    assert pairs(zoo("resnet8"), zoo("vit", depth=1), "embedding") == same("head:input")


def test_a_model_with_neither_says_so() -> None:
    model = zoo("mlp")
    with pytest.raises(ModelError, match="neither maps nor tokens"):
        pairs(model, model, "stages")


def test_an_embedding_without_a_classifier_is_refused() -> None:
    with pytest.raises(ModelError, match="the teacher's embedding"):
        pairs(zoo("mlp"), TappedModel(nn.Flatten()), "embedding")


def flat() -> TappedModel:
    """One row of layers, its ReLUs in place, pooled between: no module is a stage."""
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
    more = [nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(inplace=True)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    return TappedModel(nn.Sequential(*layers, *more, *end), head="8")


def test_stages_of_a_row_of_layers_end_after_their_activation() -> None:
    assert pairs(flat(), flat(), "stages") == same("2", "5")


class Bare(nn.Module):
    """Stages that end in functions rather than modules."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.head = nn.Linear(4, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.two(torch.relu(self.one(pixels)))
        return self.head(torch.relu(x).mean(dim=(2, 3)))


def test_a_stage_that_ends_in_a_function_is_what_the_next_takes_in() -> None:
    model = TappedModel(Bare(), head="head")
    found = anatomy(model, PIXELS).stages
    assert [stage.exit.tap for stage in found] == ["two:input", "two"]
    assert model.reading(frozenset({"two:input"}))(PIXELS).taps["two:input"].min() == 0


def test_an_outer_module_around_all_stages_is_no_stage() -> None:
    inner = load_model({"zoo": "resnet8", "classes": 10}).module
    assert isinstance(inner, nn.Sequential)
    parts = OrderedDict(features=inner[:4], tail=inner[4:])
    model = TappedModel(nn.Sequential(parts))
    names = [stage.exit.tap for stage in anatomy(model, PIXELS).stages]
    assert names == ["features.stage1", "features.stage2", "features.stage3"]


@pytest.mark.parametrize(
    ("config", "exits"),
    [
        (
            {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
            ["convnext.encoder.stages.0", "convnext.encoder.stages.1"],
        ),
        (
            {
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [2, 1],
                "layer_type": "bottleneck",
                "downsample_in_first_stage": False,
            },
            ["resnet.encoder.stages.0", "resnet.encoder.stages.1"],
        ),
    ],
)
def test_stages_of_transformers_models_are_theirs(config: Any, exits: list[str]) -> None:
    model = load_model({"transformers": config, "classes": 4})
    assert [stage.exit.tap for stage in anatomy(model, PIXELS).stages] == exits


def test_looking_changes_no_model() -> None:
    model = zoo("resnet8")
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    pairs(model, model, "stages")
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_choice_is_described_with_shapes() -> None:
    student, teacher = zoo("mobilenetv2"), zoo("vgg8")
    lines = describe((("stage3", "stage2"),), student, teacher, PIXELS)
    assert lines == ("student stage3 [2, 16, 8, 8] ~ teacher stage2 [2, 128, 16, 16]",)
