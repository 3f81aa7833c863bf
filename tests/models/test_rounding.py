from typing import Any

import pytest
import torch
from torch import nn

from preceptor.models.load import load_model
from preceptor.models.rounding import in_8_bits, round_weights
from tests.models.language import language_model


def test_a_weight_is_what_torchs_own_rounding_by_row_makes_of_it():
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    scales = weight.abs().amax(dim=(1, 2, 3)) / 127
    zeros = torch.zeros(6, dtype=torch.int32)
    torchs = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)
    assert torch.allclose(in_8_bits(weight), torchs, atol=1e-7)


def test_rounding_again_changes_nothing_and_no_number_moves_by_more_than_half_a_step():
    weight = torch.randn(5, 40)
    once = in_8_bits(weight)
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((once - weight).abs() <= step / 2 * 1.0001).all()
    assert torch.allclose(in_8_bits(once), once, rtol=1e-6, atol=0)
    assert all(len(row.unique()) <= 255 for row in once)


def test_every_layer_of_a_classifier_is_rounded_and_its_norms_are_not():
    model = load_model({"zoo": "resnet8", "classes": 10})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert round_weights(model) == sum(layer.weight.numel() for layer in layers)
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert len(changed) == len(layers)
    assert all(before[name].dim() > 1 for name in changed)


@pytest.mark.parametrize(("name", "tied"), [("llama", False), ("gpt2", True)])
def test_a_tied_head_stays_and_an_untied_one_is_rounded(name, tied):
    model = language_model(name)
    inside: Any = model.module
    head = inside.get_output_embeddings().weight
    before, embedded = head.detach().clone(), inside.get_input_embeddings().weight.clone()
    assert round_weights(model) > 0
    assert head.equal(before) == tied
    assert inside.get_input_embeddings().weight.equal(embedded)


def test_gpt2s_layers_are_rounded_output_by_output():
    model = language_model("gpt2")
    part = next(m for m in model.modules() if type(m).__name__ == "Conv1D")
    weight = part.get_parameter("weight")
    before = weight.detach().clone()
    round_weights(model)
    assert torch.equal(weight, in_8_bits(before.T).T)
