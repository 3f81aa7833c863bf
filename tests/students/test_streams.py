from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.students.bases import selected
from preceptor.students.start import PLANS, begin
from preceptor.students.streams import counted, explained_energy, pooled, stream_taps, unit
from tests.students.models import model, parameters, seen
from tests.students.trained import calibration, student, teacher

MASKED = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]])
INPUTS = {"input_ids": torch.arange(12).view(2, 6), "attention_mask": MASKED}


def test_padding_and_a_language_models_first_token_do_not_count() -> None:
    shape = torch.Size((2, 6, 16))
    expected = [[False, True, True, True, False, False], [False, False, True, True, True, True]]
    assert counted(INPUTS, shape, causal=True).tolist() == expected
    assert counted(INPUTS, shape, causal=False).tolist() == MASKED.bool().tolist()
    assert counted(torch.rand(2, 1, 8, 8), shape, causal=False).all()


def test_a_token_of_any_length_weighs_the_same() -> None:
    stream = torch.randn(5, 8) * torch.tensor([1e-3, 1.0, 30.0, 1e4, 2.0])[:, None]
    torch.testing.assert_close(unit(stream).square().mean(1), torch.ones(5))


def test_the_stream_is_read_before_norms_or_where_readers_are() -> None:
    assert stream_taps(seen(model("llama")))["block 1 mlp"] == (
        "model.layers.1.post_attention_layernorm:input"
    )
    olmo = stream_taps(seen(model("olmo2")))
    assert olmo["block 0 mlp"] == "model.layers.0.mlp.up_proj:input"
    assert olmo["end"] == "model.norm:input"
    assert stream_taps(seen(model("bert")))["end"] == "bert.encoder.layer.1.output.LayerNorm"


def streams(big: Any) -> list[Tensor]:
    """A Llama's stream before each of its norms, by its own modules [places, n, d]."""
    norms = [part for name, part in big.module.named_modules() if name.endswith("norm")]
    found: list[Tensor] = []
    handles = [
        part.register_forward_pre_hook(lambda _, given: found.append(given[0].clone()))
        for part in norms
    ]
    with torch.no_grad():
        big.module(**INPUTS)
    for handle in handles:
        handle.remove()
    counts = counted(INPUTS, found[0].shape, causal=True)
    return [stream[counts] for stream in found]


def test_pooled_activations_by_hand() -> None:
    big = model("llama", 3)
    found = pooled(big, seen(big), [INPUTS])
    own = streams(big)
    units = [x / x.square().mean(1, keepdim=True).sqrt() for x in own]
    moment = torch.stack([x.T @ x for x in units]).mean(0) / len(own[0])
    torch.testing.assert_close(found.moment, moment.double(), rtol=1e-4, atol=1e-5)
    assert found.moment.trace().item() == pytest.approx(16, rel=1e-4)
    before = torch.stack([own[0], own[2]])
    after = torch.stack([own[2], own[4]])
    influence = 1 - nn.functional.cosine_similarity(before, after, dim=-1).mean(1)
    torch.testing.assert_close(torch.tensor(found.influence), influence)


def test_a_heads_importance_is_the_energy_of_what_it_writes() -> None:
    big = model("llama", 3)
    found, layer = (
        pooled(big, seen(big), [INPUTS]),
        big.module.get_submodule("model.layers.1.self_attn.o_proj"),
    )
    given: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        big.module(**INPUTS)
    handle.remove()
    counted_ones = given[0][counted(INPUTS, given[0].shape, causal=True)]
    weight = parameters(big)["model.layers.1.self_attn.o_proj.weight"]
    for head in range(4):
        own = slice(4 * head, 4 * head + 4)
        written = counted_ones[:, own] @ weight[:, own].T
        expected = written.square().sum().item()
        assert found.importance[1].heads[head].item() == pytest.approx(expected, rel=1e-4)


def test_explained_energy_is_the_share_of_the_channels_that_are_kept() -> None:
    big = model("llama", 3)
    found = explained_energy(big, seen(big), selected(seen(big), 4), [INPUTS])
    first = unit(streams(big)[0])
    share = first[:, ::4].square().sum() / first.square().sum()
    assert found["block 0 attention"] == pytest.approx(share.item(), rel=1e-4)
    assert list(found)[-1] == "end"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_start_on_a_gpu_is_that_on_the_processor() -> None:
    import copy

    big = copy.deepcopy(teacher("llama")).cuda()
    for plan in PLANS.values():
        own, other = student("llama"), student("llama").cuda()
        begin(own, teacher("llama"), plan, calibration=calibration())
        begin(other, big, plan, calibration=calibration())
        for name, tensor in parameters(own).items():
            torch.testing.assert_close(parameters(other)[name].cpu(), tensor, rtol=1e-2, atol=1e-3)
