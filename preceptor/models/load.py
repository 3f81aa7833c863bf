"""A model from what a recipe says about it.

    {zoo: resnet8x4, classes: 100}                              # channels: 3, size: 32
    {timm: resnet18, classes: 10, pretrained: true}             # arguments: timm's own
    {transformers: google/vit-base-patch16-224}                 # a hub name, a folder, a mapping
    {factory: "my_models:small_net", arguments: {width: 16}}    # my_models.py beside the recipe
    {causal: Qwen/Qwen3-0.6B, dtype: bfloat16}                  # language models: `language.py`
    {encoder: ./all-MiniLM-L6-v2, pooling: mean}                # of sentences: `encoders.py`
    {folder: runs/digits/student}                               # what `save_model` wrote

Each may say `mean` and `std` (the model's own normalisation), `head` (its linear classifier's
name) and `classes`, which is then checked. `channels` and `size` are the images'; a library's
model is built for them unless its weights are read, a factory is not told. `shape`, all three of
[channels, height, width], is what the model is tried with, and must work.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preceptor.errors import ModelError, nearest
from preceptor.models import zoo
from preceptor.models.encoders import from_encoder
from preceptor.models.heads import Sight, sight
from preceptor.models.hub import Built, from_timm, from_transformers
from preceptor.models.imports import made
from preceptor.models.language import from_causal
from preceptor.models.save import load_weights, save_model, saved_spec
from preceptor.models.tapped import TappedModel

__all__ = ["load", "load_model", "save_model"]

_COMMON = {"classes", "mean", "std", "head"}
_IMAGES = {"channels", "size", "shape", "graft"}
_OWN = {
    "zoo": {"arguments", *_IMAGES},
    "timm": {"pretrained", "arguments", *_IMAGES},
    "transformers": {"pretrained", "attention", "fresh_head", *_IMAGES},
    "factory": {"arguments", *_IMAGES},
    "causal": {
        "pretrained",
        "dtype",
        "attention",
        "lora",
        "adapters",
        "vocabulary",
        "gradient_checkpointing",
        "arguments",
    },
    "encoder": {"pretrained", "pooling", "normalise", "dimension", "attention"},
    "folder": {"dtype", "attention", "gradient_checkpointing"},
}


def load_model(spec: Mapping[str, Any]) -> TappedModel:
    """The model that a mapping describes.

    What it does not say is found by a pass without a trace: the linear classifier, the number of
    classes. Fresh weights come from torch's generator, and such a model is in
    train mode; one with weights that were read is in eval mode. `spec` of the answer holds all
    that was found.

    Errors:
        ModelError: an unknown key, model or module; another number of classes; a library that is
            not installed.
        StorageError: a folder that does not hold what it should.
    """
    kind = _kind(spec)
    if kind == "folder":
        return _from_folder(spec)
    if kind == "causal":
        return from_causal(spec)
    if kind == "encoder":
        return from_encoder(spec)
    built = _BUILD[kind](spec)
    model = TappedModel(
        built.module,
        mean=tuple(spec.get("mean", built.mean)),
        std=tuple(spec.get("std", built.std)),
        head=spec.get("head", ""),
    )
    found = {**spec, "mean": list(model.mean), "std": list(model.std)}
    seen = _seen(model, spec, built)
    if seen is not None:
        model.head_name = spec.get("head", seen.head)
        if built.shape or {"shape", "size"} & spec.keys():
            found["shape"] = list(seen.shape)
        if "graft" not in spec:
            found["classes"] = _agreed(seen.classes, spec)
    if model.has_head():
        model.head()
    model.spec = {**found, "head": model.head_name}
    if "graft" in spec:
        model = _with_graft(model, spec["graft"])
    return model.eval() if built.trained else model


def load(folder: str | Path) -> TappedModel:
    """The model in a folder: a run's student, or whatever `save_model` wrote."""
    return load_model({"folder": str(folder)})


def _kind(spec: Mapping[str, Any]) -> str:
    kinds = [kind for kind in _OWN if kind in spec]
    if len(kinds) != 1:
        raise ModelError(
            f"a model was described by {', '.join(map(str, spec)) or 'nothing'}",
            f"exactly one of {', '.join(_OWN)} says where it comes from",
            f"Nearest: {nearest(str(next(iter(spec), '')), _OWN)}.",
        )
    # A language model's pixels need no normalisation, and its head is found.
    common = {"classes"} if kinds[0] in ("causal", "encoder") else _COMMON
    known = {kinds[0]} | _OWN[kinds[0]] | common
    for key in spec:
        if key not in known:
            raise ModelError(
                f"{key!r} was said of a {kinds[0]} model",
                "there is no such key",
                f"Nearest: {nearest(str(key), known)}.",
            )
    return kinds[0]


def _seen(model: TappedModel, spec: Mapping[str, Any], built: Built) -> Sight | None:
    """A dry pass of the shape that was said, or the library knows, or the data have."""
    if "shape" in spec or built.shape:
        return sight(model, spec.get("shape", built.shape))
    if "channels" not in spec or "size" not in spec:
        return sight(model, ())
    try:
        return sight(model, (spec["channels"], spec["size"], spec["size"]))
    except ModelError:
        return None  # The images need not be square.


def _agreed(found: int, spec: Mapping[str, Any]) -> int:
    if spec.get("classes", found) != found:
        raise ModelError(
            f"the model tells {found} classes apart",
            f"the recipe says `classes: {spec['classes']}`",
            "Say the model's number, or use a model with that many classes.",
        )
    return found


def _from_zoo(spec: Mapping[str, Any]) -> Built:
    if "classes" not in spec:
        raise ModelError(
            f"the zoo's {spec['zoo']} was asked for",
            "the number of classes is not said",
            "Add `classes`.",
        )
    channels, size = spec.get("channels", 3), spec.get("size", 32)
    own = spec.get("arguments", {})
    module = zoo.create(spec["zoo"], spec["classes"], channels, size, **own)
    return Built(module, shape=(channels, size, size))


def _from_factory(spec: Mapping[str, Any]) -> Built:
    return Built(made(spec["factory"], spec.get("arguments", {})))


def _from_folder(spec: Mapping[str, Any]) -> TappedModel:
    own = {key: value for key, value in spec.items() if key not in ("folder", "classes")}
    saved = {**saved_spec(spec["folder"]), **own}
    _agreed(saved.get("classes", spec.get("classes", 0)), spec)
    model = load_model(saved)
    if model.causal or isinstance(saved.get("transformers", saved.get("encoder")), str):
        return model
    load_weights(model, spec["folder"])
    return model.eval()


def _with_graft(model: TappedModel, graft: Mapping[str, Any]) -> TappedModel:
    module = made(graft["class"], graft.get("arguments", {}))
    bare = {key: graft[key] for key in ("class", "arguments", "head") if key in graft}
    model.head_name = graft.get("replaces", model.head_name)
    return model.grafted(module, graft["tap"], bare)


_BUILD = {
    "zoo": _from_zoo,
    "timm": from_timm,
    "transformers": from_transformers,
    "factory": _from_factory,
}
