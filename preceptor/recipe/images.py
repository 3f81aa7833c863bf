"""Images in a recipe: their three sets, their sources, the models made for them.

Below here there is no dict of options and no lookup by name.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from preceptor.data.image_source import ImageSource, rest
from preceptor.data.images import ImageData, ImageSet
from preceptor.data.loading import load_images
from preceptor.data.stratified import few_labels
from preceptor.errors import DataError, ModelError, RecipeError
from preceptor.models.load import load_model
from preceptor.models.save import load_weights, saved_spec
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import AnyData
from preceptor.recipe.models import AnyModel, CausalModel
from preceptor.recipe.schema import Data, Splits, Student
from preceptor.train.plan import Plan

DATA_SEED = 0
"""What is held out belongs to the data: it is the same for every run and every seed."""


def image_data(said: AnyData) -> ImageData:
    """The three sets of images that a recipe names."""
    assert isinstance(said, Data), "text is loaded elsewhere"
    source = said.source
    train, test = (source.train, source.test) if isinstance(source, Splits) else (source, None)
    return load_images(
        train,
        test=test,
        size=said.size,
        channels=said.channels,
        validation_share=said.validation,
        test_share=said.test,
        limit=said.limit,
        seed=DATA_SEED,
        image=said.image,
        label=said.label,
        class_names=said.class_names,
        columns=tuple(dict.fromkeys((*said.slices, *((said.clusters,) if said.clusters else ())))),
        groups=said.groups,
    )


def source(
    said: Data, data: ImageData, plan: Plan, seed: int, *, every_label: bool = False
) -> ImageSource:
    """Where a student's batches come from: its labelled examples and, beside them, the others.

    With `every_label` it is a teacher's source: all labels, nothing omitted.
    """
    images, augment = data.train, said.augment
    if every_label:
        return ImageSource(
            images, labelled=images.labelled, batch=plan.batch, seed=seed, augment=augment
        )
    if said.labelled == "all":
        labelled = images.labelled
    else:
        labelled = few_labels(images.labels, said.labelled, seed)
    unlabelled = _unlabelled(said, images, labelled, seed)
    beside = (plan.unlabelled_batch or plan.batch) if len(unlabelled) else 0
    if plan.unlabelled_batch and not beside:
        raise RecipeError(
            f"plan.unlabelled_batch: {plan.unlabelled_batch}",
            "the data has no unlabelled images",
            "Set data.unlabelled to rest, or leave unlabelled_batch out.",
        )
    return ImageSource(
        images,
        labelled=labelled,
        unlabelled=unlabelled,
        batch=plan.batch,
        unlabelled_batch=beside,
        seed=seed,
        augment=augment,
        omit=said.omit,
    )


def model(said: AnyModel, data: ImageData, seed: int) -> TappedModel:
    """A model for this data, its random weights drawn from a seed of its own."""
    if isinstance(said, CausalModel):
        raise ModelError(
            "a causal language model was asked to tell images apart",
            "it reads text",
            "Name a model of images (zoo, timm, transformers, factory), or data of kind: text.",
        )
    spec = said.spec(data.num_classes, data.shape)
    if said.mean is None and not said.brings_weights:
        spec |= _statistics(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = load_model(spec)
    check_classes(made, data)
    return made


def loaded(said: AnyModel, place: str, data: ImageData) -> TappedModel:
    """A model with the weights in a folder that a run saved, or in a safetensors file."""
    card = saved_spec(place) if Path(place).is_dir() else {}
    for key, value in said.said().items() if card else ():
        # A saved transformers model is its own folder by now, whatever it was made from.
        if key in _HOW_READ or (key in card and card[key] == _plain(value)) or value == {}:
            continue
        raise ModelError(
            f"{place} holds a model with {key}: {card.get(key, 'nothing')}",
            f"the recipe says {key}: {value}",
            f"Describe the saved model, or name it by itself: model: {{folder: {place}}}.",
        )
    made = load_model({"folder": place}) if card else _filled(model(said, data, DATA_SEED), place)
    check_classes(made, data)
    return made


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_HOW_READ = frozenset({"transformers", "pretrained", "attention", "fresh_head", "folder"})


def _filled(made: TappedModel, file: str) -> TappedModel:
    if not Path(file).is_file():
        raise ModelError(
            f"weights were looked for in {file}",
            "there is no such file or folder",
            "Give the folder of a saved model, or a safetensors file.",
        )
    load_weights(made, file)
    return made.eval()


def student(said: Student, data: ImageData, seed: int) -> TappedModel:
    """The student at its start."""
    if said.folder is None:
        return model(said.model, data, seed)
    started = load_model({"folder": said.folder})
    check_classes(started, data)
    return started


def check_classes(model: TappedModel, data: ImageData) -> None:
    """Raise `ModelError` where a model cannot take these images or knows other classes."""
    mode = model.training
    try:
        with torch.no_grad():
            classes = model.eval()(data.train.batch(torch.arange(2)).inputs).logits.shape[-1]
    except (RuntimeError, ValueError) as error:  # transformers refuses sizes with the latter
        raise ModelError(
            f"a forward pass of {type(model.module).__name__} on images of {data.shape}",
            f"it failed: {error}",
            "Set the model's `channels` and `size`, or the data's, so that they fit.",
        ) from error
    finally:
        model.train(mode)
    if classes != data.num_classes:
        raise ModelError(
            f"the {type(model.module).__name__} has {classes} classes",
            f"the data has {data.num_classes}",
            "Set `classes` of the model, or use the data it was made for.",
        )


def _unlabelled(said: Data, images: ImageSet, labelled: torch.Tensor, seed: int) -> torch.Tensor:
    others = rest(images, labelled)
    if said.unlabelled == "none":
        return others[:0]
    if said.unlabelled == "rest":
        return others
    if said.unlabelled > len(others):
        raise DataError(
            f"data.unlabelled: {said.unlabelled}",
            f"{len(others)} training images are left beside the {len(labelled)} labelled ones",
            "Ask for fewer, or for `rest`.",
        )
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    return others[order[: said.unlabelled]].sort().values


def _statistics(data: ImageData) -> dict[str, list[float]]:
    """Mean and standard deviation of the training pixels, one number a channel."""
    return dict(_channel_statistics(data))


@cache
def _channel_statistics(data: ImageData) -> tuple[tuple[str, list[float]], ...]:
    total = torch.zeros(data.shape[0], dtype=torch.float64)
    squares, count = total.clone(), 0
    for batch in data.train.batches(1024):
        assert isinstance(batch.inputs, torch.Tensor)
        pixels = batch.inputs.double()
        total += pixels.sum(dim=(0, 2, 3))
        squares += pixels.square().sum(dim=(0, 2, 3))
        count += pixels[:, 0].numel()
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-12).sqrt()
    return (("mean", mean.tolist()), ("std", std.tolist()))
