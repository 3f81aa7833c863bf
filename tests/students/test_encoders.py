"""Encoders of the BERT kind, bare and with the head that predicts words."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import DataError
from preceptor.students.architecture import described
from preceptor.students.bases import Basis
from preceptor.students.choosing import chosen
from preceptor.students.mapping import Mapping
from preceptor.students.start import Plan, begin
from preceptor.students.weights import ModuleWeights
from tests.students.models import IDS, drawn, model

NAMES = ("bert", "roberta", "distilbert")
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
_OTHERWISE = {
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
}


def encoder(name: str, seed: int, words: bool) -> nn.Module:
    """A tiny one of transformers."""
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    sizes = {_OTHERWISE.get(key, key) if name == "distilbert" else key: SIZES[key] for key in SIZES}
    auto: Any = AutoModelForMaskedLM if words else AutoModel
    module = auto.from_config(AutoConfig.for_model(name, **sizes)).eval()
    drawn(module, seed)
    return module


def shown(module: Any) -> Tensor:
    with torch.no_grad():
        return module(input_ids=IDS + 1, attention_mask=torch.ones_like(IDS))[0]


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_permuting_channels_is_exact_with_and_without_a_head(name: str, words: bool) -> None:
    teacher, student = encoder(name, 1, words), encoder(name, 2, words)
    found = described(ModuleWeights(teacher))
    named = {piece.name for piece in found.pieces.values()}
    # What pre-training put on the first token is read by nobody.
    assert {n for n, _ in teacher.named_parameters() if "pooler" not in n} <= named
    assert found.tied == words
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    choices = [chosen(found.sizes, found.sizes, block) for block in range(2)]
    Mapping(student, ModuleWeights(teacher), Basis("p", 16, channels=order), choices).run()
    expected = shown(teacher)
    torch.testing.assert_close(
        shown(student), expected if words else expected[..., order], rtol=0, atol=1e-4
    )


def test_what_reads_no_tokens_has_no_table_to_take_a_basis_from() -> None:
    with pytest.raises(DataError, match="reads no tokens"):
        begin(model("vit", 1), model("vit", 2), Plan("guide"))
