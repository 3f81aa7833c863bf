"""Models of other libraries: transformers and timm."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from preceptor.errors import ModelError, nearest


@dataclass(frozen=True)
class Built:
    """A module and what its library knows about it; empty where that is nothing."""

    module: nn.Module
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    trained: bool = False


def from_transformers(spec: Mapping[str, Any]) -> Built:
    """`AutoModelForImageClassification` from a configuration, a local folder or a hub name."""
    import transformers

    auto, source = transformers.AutoModelForImageClassification, spec["transformers"]
    config = configuration(source)
    attention = {"attn_implementation": spec["attention"]} if "attention" in spec else {}
    if isinstance(source, Mapping) or not spec.get("pretrained", has_weights(source)):
        _fit(config, spec)
        # Of a kind with several classes the names are looked through, and here there are none yet.
        config.architectures = config.architectures or []
        return Built(auto.from_config(config, **attention), shape=_shape(config))
    fresh = spec.get("fresh_head", False)
    if "classes" in spec and config.num_labels != spec["classes"]:
        if not fresh:
            raise ModelError(
                f"the weights of {source} tell {config.num_labels} classes apart",
                f"the recipe says `classes: {spec['classes']}`",
                "Say the model's number, or `fresh_head: true` for a classifier drawn anew.",
            )
        config.num_labels = spec["classes"]
    try:
        # Weights are read from safetensors alone: the other format runs code when it is read.
        with quiet():
            module = auto.from_pretrained(
                source,
                config=config,
                use_safetensors=True,
                ignore_mismatched_sizes=fresh,
                dtype="float32",
                **attention,
            )
    except OSError as error:
        raise not_found(source, error) from error
    mean, std = _normalisation(source)
    return Built(module, mean, std, _shape(config), trained=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def configuration(name: Any) -> Any:
    """transformers' configuration by hub name or folder, or from a mapping of its fields."""
    import transformers

    if not isinstance(name, Mapping):
        try:
            return transformers.AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise not_found(name, error) from error
    options = dict(name)
    kind = options.pop("model_type", None)
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING.keys()
    if kind not in known:
        raise ModelError(
            f"the configuration's model_type is {kind!r}",
            "transformers has no such model",
            f"Nearest: {nearest(str(kind), known)}.",
        )
    try:
        return transformers.AutoConfig.for_model(kind, **options)
    except Exception as error:  # each configuration checks itself, with errors of its own
        reason = str(error.__cause__ or error).strip().splitlines()[-1].strip().rstrip(".")
        raise ModelError(
            f"a configuration of {kind} was asked for",
            reason,
            "Change the numbers that do not fit one another.",
        ) from error


def _fit(config: Any, spec: Mapping[str, Any]) -> None:
    """A configuration for these classes and images, where it is not itself the recipe's words."""
    source = spec["transformers"]
    said = source if isinstance(source, Mapping) else {}
    if "classes" in spec:
        config.num_labels = spec["classes"]
    for name, key in (("num_channels", "channels"), ("image_size", "size")):
        if key in spec and name not in said and hasattr(config, name):
            setattr(config, name, spec[key])


def has_weights(name: str) -> bool:
    """Whether a hub name or folder brings weights; a folder may hold a configuration alone."""
    folder = Path(name)
    return not folder.is_dir() or any(folder.glob("*.safetensors"))


def _shape(config: Any) -> tuple[int, ...]:
    channels, size = getattr(config, "num_channels", 3), getattr(config, "image_size", None)
    if isinstance(size, int):
        return (channels, size, size)
    if isinstance(size, list | tuple):
        return (channels, *size)
    return ()


def _normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and deviation in a checkpoint's preprocessor file; empty where it has none."""
    from transformers.utils.hub import cached_file

    try:
        file = cached_file(name, "preprocessor_config.json")
    except OSError:
        return (), ()
    assert file is not None
    settings = json.loads(Path(file).read_text())
    if not settings.get("do_normalize", True):
        return (), ()
    return tuple(settings.get("image_mean", ())), tuple(settings.get("image_std", ()))


def not_found(name: str, error: Exception) -> ModelError:
    """What to say where transformers finds no model."""
    return ModelError(
        f"the transformers model {name!r} was asked for",
        str(error).strip().splitlines()[0].rstrip("."),
        "Give a folder with config.json (and model.safetensors), a hub name, or a configuration.",
    )


def from_timm(spec: Mapping[str, Any]) -> Built:
    """A model of timm by name."""
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"the timm model {spec['timm']!r} was asked for",
            f"timm does not import here ({error})",
            "Install the optional extra: pip install 'preceptor[timm]'. timm needs torchvision, "
            "and torchvision must be built for the installed torch: beside a CPU-only torch, "
            "take both from PyTorch's CPU index.",
        ) from error
    name, trained = spec["timm"], spec.get("pretrained", False)
    if name not in timm.list_models() and not timm.is_model(name.partition(".")[0]):
        raise ModelError(
            f"the timm model {name!r} was asked for",
            "timm has none of that name",
            f"Nearest: {nearest(name, timm.list_models())}.",
        )
    said = {"num_classes": "classes", "in_chans": "channels", "img_size": "size"}
    arguments = {name: spec[key] for name, key in said.items() if key in spec}
    arguments |= spec.get("arguments", {})
    try:
        module = timm.create_model(name, pretrained=trained, **arguments)
    except TypeError:
        # Convolutional networks take any size and no `img_size`.
        arguments.pop("img_size", None)
        module = timm.create_model(name, pretrained=trained, **arguments)
    known = module.pretrained_cfg
    size = arguments.get("img_size", spec.get("size", known["input_size"][-1]))
    shape = (arguments.get("in_chans", 3), size, size)
    if not trained:
        return Built(module, shape=shape)
    return Built(module, tuple(known["mean"]), tuple(known["std"]), shape, trained=True)
