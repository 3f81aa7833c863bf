from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.causal import language_head, last_hidden, output_layer, verify_head
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.types import Projected
from tests.models.architectures import ARCHITECTURES, configuration

LORA = {"rank": 2, "targets": ["q_proj", "lm_head"]}


def drawn(module: nn.Module) -> nn.Module:
    """Every parameter away from where it starts: biases and adapters, too."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


def padded() -> dict[str, Tensor]:
    ids = torch.randint(61, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    mask[2, 2:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def both(model: TappedModel) -> tuple[Tensor, Tensor]:
    """The model's own logits, and those of its hidden states and head, from equal draws."""
    inputs = padded()
    torch.manual_seed(3)
    own = model.module(**inputs, use_cache=False).logits
    torch.manual_seed(3)
    shown = model(inputs).projection
    return own, shown.head.logits(shown.hidden)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("training", [False, True])
def test_hidden_states_and_head_give_the_model_s_own_logits(name: str, training: bool) -> None:
    model = load_model({"causal": configuration(name)}).train(training)
    drawn(model.module)
    own, ours = both(model)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
    # Gradients, too: of the head, and of the embeddings that some have tied to it.
    layer = tuple(output_layer(model.module).parameters())
    expected = torch.autograd.grad(own.square().mean(), layer)
    found = torch.autograd.grad(ours.square().mean(), layer)
    for grad, other in zip(found, expected, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite", "gptj"])
def test_a_head_that_was_read_wrongly_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = drawn(load_model({"causal": configuration(name)}).module)
    for parameter in model.parameters():
        parameter.data *= 0.05  # so small that plain logits would hide a soft-cap
    verify_head(model)
    bare = language_head(model)
    plain = type(bare)(bare.weight)
    monkeypatch.setattr("preceptor.models.causal.language_head", lambda _: plain)
    with pytest.raises(ModelError, match="logits differ"):
        verify_head(model)


_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 4,
}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("hyperclovax", {"attention_multiplier": 1.0, "logits_scaling": 4.0}),
        ("minicpm3", {**_LATENT, "dim_model_base": 4}),
    ],
)
def test_what_relatives_divide_logits_by_may_multiply_them_or_stand_before_the_head(
    name: str, own: dict[str, Any]
) -> None:
    config = {**configuration("llama"), "model_type": name, **own}
    model = load_model({"causal": config})
    drawn(model.module)
    found, ours = both(model)
    torch.testing.assert_close(ours, found, rtol=1e-5, atol=1e-5)


def test_an_architecture_that_cannot_be_taken_apart_is_refused_by_name() -> None:
    # Its head is given the hidden states of several next tokens at once.
    size = {"hidden_size": 16, "num_decoder_layers": 1, "num_decoder_attention_heads": 2}
    config = {"model_type": "prophetnet", "vocab_size": 61, "decoder_ffn_dim": 24, **size}
    with pytest.raises(ModelError, match=r"ProphetNetForCausalLM.*\n?.*output layer is given"):
        load_model({"causal": {**config, "is_decoder": True, "is_encoder_decoder": False}})


def test_looking_at_a_head_leaves_no_trace() -> None:
    model = load_model({"causal": configuration("gpt2")}).train()
    before, state = torch.get_rng_state(), {n: t.clone() for n, t in model.state_dict().items()}
    verify_head(model.module)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(part.training for part in model.module.modules())
    assert not output_layer(model.module)._forward_pre_hooks


def test_no_logits_are_made_on_the_way() -> None:
    model = load_model({"causal": configuration("llama")})
    seen: list[tuple[int, ...]] = []
    layer = output_layer(model.module)
    layer.register_forward_hook(lambda *call: seen.append(tuple(call[-1].shape)))
    hidden = last_hidden(model.module, padded())
    assert hidden.shape == (3, 7, 16)
    assert seen == [(3, 0, 61)]


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@pytest.mark.parametrize("training", [False, True])
def test_an_adapted_head_is_one_weight_with_its_adapters_in_the_graph(
    name: str, training: bool
) -> None:
    model = load_model({"causal": configuration(name), "lora": LORA}).train(training)
    drawn(model.module)
    own, ours = both(model)
    torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)
    adapters = [p for n, p in model.module.named_parameters() if "lm_head.lora" in n]
    expected = torch.autograd.grad(own.square().mean(), adapters)
    found = torch.autograd.grad(ours.square().mean(), adapters)
    for grad, other in zip(found, expected, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-4, atol=1e-5)
    with model.module.disable_adapter():  # pyright: ignore[reportCallIssue]
        own, ours = both(model)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)


def test_a_head_trained_as_a_whole_is_the_copy_that_is_trained() -> None:
    lora = {"rank": 2, "targets": ["q_proj"], "whole": ["lm_head"]}
    model = load_model({"causal": configuration("llama"), "lora": lora})
    drawn(model.module)
    own, ours = both(model)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
    assert "modules_to_save" in next(
        n
        for n, p in model.module.named_parameters(remove_duplicate=False)
        if p is language_head(model.module).weight
    )


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dropout on the head": ({**LORA, "dropout": 0.1}, "adapter with dropout 0.1"),
    "an unknown key": ({"ranks": 3}, "Nearest: rank"),
    "no such layers": ({"targets": ["no_such_layer"]}, "adapters were put on"),
}


@pytest.mark.parametrize(("lora", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_adapters_that_cannot_be_had_are_refused(lora: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model({"causal": configuration("llama"), "lora": lora})


def test_padded_rows_of_a_vocabulary_are_set_aside() -> None:
    model = load_model({"causal": configuration("llama"), "vocabulary": 50})
    shown = model(padded()).projection
    assert isinstance(shown, Projected)
    assert len(shown.head.weight) == 50
    assert model.spec["classes"] == 50
