"""Models on disk: safetensors and JSON, each file written whole or not at all.

A transformers model becomes a folder that transformers loads, a language model with its tokenizer
one that a server loads too; any other `model.safetensors`.
Beside both stands `preceptor.json`, with what is needed to make the model again.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_model as load_tensors
from safetensors.torch import save_model as save_tensors
from torch import nn

from preceptor.errors import ModelError, StorageError
from preceptor.files import flush, storage
from preceptor.models.encoders import SentenceEncoder, encoder_card, write_encoder
from preceptor.models.grafts import Grafted
from preceptor.models.hub import quiet
from preceptor.models.language import ADAPTERS, language_card, write_language_model
from preceptor.models.tapped import TappedModel

_FORMAT = 1
_CARD, _WEIGHTS = "preceptor.json", "model.safetensors"


def save_model(
    model: TappedModel, folder: str | Path, tokenizer: Any = None, *, merged: bool = True
) -> None:
    """Writes a model so that `load_model({"folder": ...})` makes it again, bit for bit.

    Args:
        model: what is saved.
        folder: where; files of other names stay.
        tokenizer: of a language model or an encoder, transformers' own; its files are put beside
            the weights.
        merged: whether a student with adapters is saved as one model, its adapters added to the
            weights (and alone in `adapter/`), or by its adapters alone.

    Errors:
        ModelError: it is not known how to make the model again, or that cannot be told in JSON.
        StorageError: the disk refused.
    """
    card = _card(model, merged)
    folder = Path(folder)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that each file is renamed into place within one file system.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as name:
            draft = Path(name)
            if model.causal:
                write_language_model(model, draft, tokenizer, merged=merged)
            elif isinstance(model.module, SentenceEncoder):
                write_encoder(model, draft, tokenizer)
            elif _of_transformers(model.module):
                with quiet():
                    cast("Any", model.module).save_pretrained(draft)
            else:
                save_tensors(model.module, str(draft / _WEIGHTS))
            (draft / _CARD).write_text(card)
            # What says how to read it comes last: whoever finds that finds the weights.
            files = [path for path in sorted(draft.rglob("*")) if path.is_file()]
            order = {"config.json": 1, _CARD: 2}
            for file in sorted(files, key=lambda file: order.get(file.name, 0)):
                target = folder / file.relative_to(draft)
                target.parent.mkdir(exist_ok=True)
                flush(file)
                os.replace(file, target)
        flush(folder)


def saved_spec(folder: str | Path) -> dict[str, Any]:
    """How to make a saved model again, from its card or from transformers' own configuration."""
    folder = Path(folder)
    card = folder / _CARD
    if not card.is_file() and (folder / "config.json").is_file():
        return {"causal" if _is_language(folder) else "transformers": str(folder)}
    if not card.is_file():
        raise ModelError(
            f"a model was looked for in {folder}",
            f"there is no {_CARD} and no config.json",
            "Give the folder that a run or `save_model` wrote.",
        )
    try:
        content = json.loads(card.read_text())
        version, spec = content["format"], content["spec"]
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{card} was read", f"it is not what `save_model` writes ({error})", "Save again."
        ) from error
    if version != _FORMAT:
        raise ModelError(
            f"{card} has format {version}",
            f"this version reads format {_FORMAT}",
            "Use the version of preceptor that wrote it.",
        )
    if "transformers" in spec and "graft" not in spec:
        spec["transformers"] = str(folder)
    if "adapters" in spec:
        spec["adapters"] = str(folder / ADAPTERS)
    for kind in ("causal", "encoder"):
        if kind in spec and "adapters" not in spec:
            spec[kind] = str(folder)
    return spec


def _is_language(folder: Path) -> bool:
    """Whether transformers' own configuration says that a folder holds a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    named = json.loads((folder / "config.json").read_text()).get("architectures") or ()
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return any(name in known for name in named)


def load_weights(model: TappedModel, folder: str | Path) -> None:
    """Puts a folder's weights into a model made from its `saved_spec`; or those in one file."""
    file = Path(folder)
    file = file if file.is_file() else file / _WEIGHTS
    try:
        load_tensors(model.module, str(file))
    except FileNotFoundError as error:
        raise StorageError(
            f"weights were looked for in {folder}", f"{file.name} is missing", "Save again."
        ) from error
    except SafetensorError as error:
        raise StorageError(
            f"{file} was read", f"it is truncated or no safetensors file ({error})", "Save again."
        ) from error
    except RuntimeError as error:
        raise ModelError(
            f"the weights in {file} were put into a {type(model.module).__name__}",
            f"they belong to another model ({error})",
            "Keep weights and card of one model together.",
        ) from error


def _of_transformers(module: nn.Module) -> bool:
    return hasattr(module, "save_pretrained") and hasattr(module, "config")


def _card(model: TappedModel, merged: bool) -> str:
    if model.causal:
        return _as_json(language_card(model, merged=merged))
    if isinstance(model.module, SentenceEncoder):
        return _as_json(encoder_card(model))
    spec = {key: value for key, value in model.spec.items() if key != "fresh_head"}
    spec |= {"mean": list(model.mean), "std": list(model.std)}
    if "graft" not in spec:
        spec["head"] = model.head_name
    trunk = model.module.trunk if isinstance(model.module, Grafted) else model.module
    if _of_transformers(trunk):
        # The whole configuration, so that nothing is asked of a hub when it is loaded.
        spec["transformers"] = cast("Any", trunk).config.to_diff_dict()
    elif not {"zoo", "timm", "factory"} & spec.keys():
        raise ModelError(
            f"a {type(model.module).__name__} was to be saved",
            "its `spec` does not say how to make it again",
            'Load it by import path, or give `spec={"factory": "package.module:name"}`.',
        )
    spec.pop("pretrained", None)
    return _as_json(spec)


def _as_json(spec: dict[str, Any]) -> str:
    try:
        return json.dumps({"format": _FORMAT, "spec": spec}, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ModelError(
            "a model's arguments were to be written as JSON",
            str(error),
            "Use numbers, strings, lists and mappings as arguments.",
        ) from error
