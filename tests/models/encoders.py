"""Tiny sentence encoders and a tokenizer that they share."""

from pathlib import Path
from typing import Any

import torch

from preceptor.data.tokenizers import bpe_tokenizer
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel

TEXT = "the cat sat on the mat, and then it slept all day long. " * 8
BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tokenizer() -> Any:
    """Byte pairs; every text has an encoding."""
    return bpe_tokenizer([TEXT], 300)


def encoder(seed: int = 0, **said: Any) -> TappedModel:
    """A fresh one, its embedding as is said."""
    torch.manual_seed(seed)
    config = {**BERT, "vocab_size": 300, **said.pop("config", {})}
    return load_model({"encoder": config, **said})


def saved_folder(folder: Path, seed: int = 0, **said: Any) -> Path:
    """An encoder with its tokenizer, as `save_model` writes them."""
    from preceptor.models.save import save_model

    save_model(encoder(seed, **said), folder, tokenizer())
    return folder
