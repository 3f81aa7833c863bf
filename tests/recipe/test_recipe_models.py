"""What a recipe says of a model is what the loader takes."""

import pytest
import torch

from preceptor.models.load import load_model
from preceptor.recipe.load import model_of
from preceptor.recipe.models import FolderModel, TimmModel, TransformersModel

SHAPE = (1, 8, 8)


@pytest.mark.parametrize(
    "text",
    [
        "cnn-small",
        "{zoo: resnet8, size: 16}",
        "{zoo: mlp, arguments: {widths: [4]}}",
        "{zoo: cnn-small, classes: 5, mean: [0.5], std: [0.25], head: head}",
    ],
)
def test_a_zoo_model_takes_its_classes_and_shape_from_the_data(text: str) -> None:
    said = model_of(text)
    made = load_model(said.spec(10, SHAPE)).eval()
    assert made(torch.zeros(2, *SHAPE)).logits.shape == (2, said.classes or 10)


def test_a_configuration_of_transformers_is_a_model() -> None:
    said = model_of(
        "{transformers: {model_type: vit, hidden_size: 8, num_hidden_layers: 1, "
        "num_attention_heads: 2, intermediate_size: 8, image_size: 8, patch_size: 4, "
        "num_channels: 1}}"
    )
    assert not said.brings_weights
    made = load_model(said.spec(10, SHAPE)).eval()
    assert made(torch.zeros(2, *SHAPE)).logits.shape == (2, 10)


def test_a_factory_is_called_with_its_arguments() -> None:
    said = model_of("{factory: 'preceptor.models.zoo:create', arguments: {name: mlp, classes: 7, "
                    "channels: 1, size: 8}}")  # fmt: skip
    made = load_model(said.spec(10, SHAPE)).eval()
    assert made(torch.zeros(2, *SHAPE)).logits.shape == (2, 7)


def test_weights_come_with_folders_and_pretrained_models_alone() -> None:
    assert FolderModel(folder="x").brings_weights
    assert TimmModel(timm="x", pretrained=True).brings_weights
    assert TransformersModel(transformers="x", pretrained=True).brings_weights
    assert not TransformersModel(transformers="x").brings_weights
    assert not model_of("mlp").brings_weights
    assert not model_of("a.b:c").brings_weights


def test_a_folder_says_the_rest_itself() -> None:
    assert FolderModel(folder="x").spec(10, SHAPE) == {"folder": "x"}
