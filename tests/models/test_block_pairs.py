"""Blocks of language models and encoders, paired where nobody names them."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from preceptor.errors import ModelError
from preceptor.models.load import load_model
from preceptor.models.pairing import pair_layers
from preceptor.models.tapped import TappedModel
from preceptor.needs import LayerKind, Pairing
from tests.models.architectures import ARCHITECTURES, configuration

IDS = torch.randint(3, 60, (8, 7), generator=torch.Generator().manual_seed(0))
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def llama(layers: int, seed: int = 0, **said: Any) -> TappedModel:
    torch.manual_seed(seed)
    config = {**configuration("llama"), "num_hidden_layers": layers, **said}
    return load_model({"causal": config, "attention": "eager"})


def encoder(name: str, **said: Any) -> TappedModel:
    small: dict[str, Any] = {"vocab_size": 61, "num_labels": 3, **said}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "distilbert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24}
    config = AutoConfig.for_model(name, **small, **sizes)
    auto = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    return TappedModel(auto)


def named(pairs: Any) -> list[tuple[int, int]]:
    def number(tap: str) -> int:
        return int(tap.split("layers.")[1].split(".")[0])

    return [(number(one), number(other)) for one, other in pairs]


@pytest.mark.parametrize("kind", ["hidden", "attention"])
def test_each_strategy_names_blocks_of_both_in_order(kind: LayerKind) -> None:
    student, teacher = llama(3), llama(6, 1)
    ways: tuple[Pairing, ...] = ("uniform", "last", "similar")
    found = {
        (how, pairs): named(pair_layers(student, teacher, INPUTS, kind, how, pairs))
        for how in ways
        for pairs in (None, 2)
    }
    assert found["uniform", None] == [(0, 1), (1, 3), (2, 5)]
    assert found["uniform", 2] == [(1, 2), (2, 5)]
    assert found["last", None] == [(0, 3), (1, 4), (2, 5)]
    assert found["last", 2] == [(1, 4), (2, 5)]
    for pairs, count in ((None, 3), (2, 2)):
        ours, theirs = zip(*found["similar", pairs], strict=True)
        assert len(set(ours)) == len(set(theirs)) == count
        assert list(ours) == sorted(ours)
        assert list(theirs) == sorted(theirs)


def test_blocks_that_were_copied_from_the_teacher_are_found_again() -> None:
    teacher, student = llama(6, 1), llama(2)
    own, theirs = student.module.model, teacher.module.model  # pyright: ignore
    with torch.no_grad():
        for layer in theirs.layers:  # pyright: ignore
            for parameter in layer.parameters():
                parameter.mul_(3)
    own.embed_tokens.load_state_dict(theirs.embed_tokens.state_dict())  # pyright: ignore
    own.layers[0].load_state_dict(theirs.layers[0].state_dict())  # pyright: ignore
    own.layers[1].load_state_dict(theirs.layers[1].state_dict())  # pyright: ignore
    pairs = pair_layers(student, teacher, INPUTS, "hidden", "similar")
    assert named(pairs) == [(0, 0), (1, 1)]


def test_more_pairs_than_blocks_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="the student has 2 and the teacher 6"):
        pair_layers(llama(2), llama(6), INPUTS, "hidden", "last", 3)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_language_models_show_states_and_maps(name: str) -> None:
    assert name in ARCHITECTURES
    model = load_model({"causal": configuration(name), "attention": "eager"})
    kinds: dict[LayerKind, int] = {"hidden": 3, "attention": 4}
    for kind, dims in kinds.items():
        pairs = pair_layers(model, model, INPUTS, kind)
        taps = frozenset(one for one, _ in pairs)
        shown = model.reading(taps)(INPUTS).taps
        assert len(pairs) == 2
        assert {tap.ndim for tap in shown.values()} == {dims}


def test_fused_attention_shows_no_maps_and_says_what_to_do() -> None:
    model = load_model({"causal": configuration("llama"), "attention": "sdpa"})
    with pytest.raises(ModelError, match="attention: eager"):
        pair_layers(model, model, INPUTS, "attention")


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("bert", ("query", "key", "value")),
        ("roberta", ("query", "key", "value")),
        ("distilbert", ("q_lin", "k_lin", "v_lin")),
    ],
)
def test_relations_are_three_pairs_of_one_block(name: str, ends: tuple[str, ...]) -> None:
    student, teacher = encoder(name), encoder(name)
    pairs = pair_layers(student, teacher, INPUTS, "relations")
    assert tuple(one.rpartition(".")[2] for one, _ in pairs) == ends
    assert all(".layer.1." in one and ".layer.1." in other for one, other in pairs)
    lower = pair_layers(student, teacher, INPUTS, "relations", teacher_block=0)
    assert all(".layer.1." in one and ".layer.0." in other for one, other in lower)
    shown = student.reading(frozenset(one for one, _ in pairs))(INPUTS).taps
    assert {tuple(tap.shape) for tap in shown.values()} == {(8, 7, 16)}


def test_grouped_key_and_value_heads_are_narrower() -> None:
    pairs = pair_layers(llama(2), llama(2), INPUTS, "relations")
    shown = llama(2).reading(frozenset(one for one, _ in pairs))(INPUTS).taps
    assert [shown[one].shape[-1] for one, _ in pairs] == [16, 8, 8]


def test_one_layer_that_makes_all_three_is_refused_in_words() -> None:
    model = load_model({"causal": configuration("gpt2")})
    with pytest.raises(ModelError, match="cannot be taken apart"):
        pair_layers(model, model, INPUTS, "relations")


def test_a_block_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="the teacher's block 20"):
        pair_layers(llama(2), llama(2), INPUTS, "relations", teacher_block=20)
