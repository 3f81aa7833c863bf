from pathlib import Path

import pytest
from torch import nn

from preceptor.errors import ModelError
from preceptor.models.save import save_model
from preceptor.students.architecture import Architecture, Sizes, described, lengths
from preceptor.students.axes import FUSED
from preceptor.students.weights import ModuleWeights, weights_of
from tests.students.models import model, seen

NAMES = (
    *("llama", "mistral", "qwen2", "qwen3", "olmo2", "gemma", "gemma2", "gemma3_text"),
    *("gpt2", "bert", "vit", "zoo vit"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_an_architecture_is_in_its_table(name: str) -> None:
    tapped = model(name)
    named = {piece.name for piece in seen(tapped).pieces.values()}
    assert {n for n, _ in tapped.module.named_parameters()} <= named


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_is_as_long_as_the_sizes_say(name: str) -> None:
    found = seen(model(name))
    expected = lengths(found.sizes)
    for piece in found.pieces.values():
        assert len(piece.axes) == len(piece.shape), piece.name
        for axis, length in zip(piece.axes, piece.shape, strict=True):
            assert expected.get(axis, length) == length, (piece.name, axis)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "zoo vit"])
def test_a_saved_model_has_the_axes_of_the_one_in_memory(name: str, tmp_path: Path) -> None:
    tapped = model(name)
    save_model(tapped, tmp_path)
    own, read = seen(tapped), described(weights_of(tmp_path))
    assert read.sizes == own.sizes
    assert read.tied == own.tied
    # A bias that is tied is stored once.
    missing = {at for at in own.pieces if at not in read.pieces}
    assert missing <= {("head", -1, "bias")}
    for at, piece in read.pieces.items():
        assert piece.shape == own.pieces[at].shape
        assert piece.axes == own.pieces[at].axes


def test_where_norms_stand_is_told_by_the_table() -> None:
    def places(name: str) -> dict[str, str]:
        return {row.key: row.place for row in seen(model(name)).family.layers if row.place}

    assert places("llama") == {
        "attention norm": "before",
        "mlp norm": "before",
        "final norm": "before",
    }
    olmo, gemma = places("olmo2"), places("gemma2")
    assert olmo["after attention"] == gemma["after attention"] == "after"
    assert "attention norm" not in olmo
    assert gemma["mlp norm"] == "before"
    assert places("qwen3")["query norm"] == "within"
    assert set(places("bert").values()) == {"on"}


def test_the_same_name_is_another_norm_in_another_family() -> None:
    name = "model.layers.0.post_attention_layernorm.weight"

    def key(found: Architecture) -> str:
        return next(piece.layer.key for piece in found.pieces.values() if piece.name == name)

    assert key(seen(model("llama"))) == "mlp norm"
    assert key(seen(model("gemma3_text"))) == "after attention"


def test_sizes_of_shared_keys_and_fused_layers() -> None:
    found = seen(model("gemma"))
    assert found.sizes == Sizes(16, 2, 4, 2, 8, 24, 1 / 8**0.5)
    assert lengths(found.sizes)["groups"] == 16
    fused = seen(model("gpt2"))
    piece = fused.piece("query key value", 0)
    assert piece is not None
    assert piece.axes == ("stream", FUSED)
    assert piece.shape == (16, 48)
    assert fused.block_names == ("transformer.h.0", "transformer.h.1")


def test_a_tied_head_is_the_embedding_table() -> None:
    tied, untied = seen(model("qwen2")), seen(model("llama"))
    head, embedding = tied.piece("head"), tied.piece("embedding")
    assert tied.tied
    assert head is not None
    assert embedding is not None
    assert head.name == embedding.name
    assert head.layer.reads == "final norm"
    assert not untied.tied


def test_an_architecture_without_a_table_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"'phi'.*which axes.*use one that is: llama, mistral"):
        seen(model("phi"))
    with pytest.raises(ModelError, match="one of them is a Linear"):
        described(ModuleWeights(nn.Linear(2, 2)))
