"""How a recipe names a model: by zoo, timm, transformers, import path or folder."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from preceptor.fields import Count, Positive
from preceptor.recipe.section import Section, which


class Model(Section):
    """What every way of naming a model has in common.

    Args:
        classes: how many classes; where not given, the data's.
        channels: image channels; where not given, the data's.
        size: the image's side in pixels; where not given, the data's.
        mean: what is subtracted from each channel of pixels in [0, 1]; where not given, the
            model's own, or the training data's.
        std: what each channel is then divided by; where not given, as for `mean`.
        head: the module that is the classifier; where not given, the model's last linear layer.
    """

    classes: Count | None = None
    channels: Count | None = None
    size: Count | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    head: str | None = None


class ZooModel(Model):
    """One of the built-in families, such as `resnet8x4`; its own arguments beside it."""

    zoo: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class TimmModel(Model):
    """A timm model by name."""

    timm: str
    pretrained: bool = False


class TransformersModel(Model):
    """An image classifier of transformers, by hub name or local folder.

    With `pretrained: false` its configuration is read and the weights start at random.
    """

    transformers: str
    pretrained: bool = False


class FactoryModel(Model):
    """Whatever `package.module:function` returns when called with `arguments`."""

    factory: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class FolderModel(Model):
    """A student that an earlier run saved."""

    folder: str


MODEL_KEYS = ("zoo", "timm", "transformers", "factory", "folder")

AnyModel = Annotated[
    Annotated[ZooModel, Tag("<zoo>")]
    | Annotated[TimmModel, Tag("<timm>")]
    | Annotated[TransformersModel, Tag("<transformers>")]
    | Annotated[FactoryModel, Tag("<factory>")]
    | Annotated[FolderModel, Tag("<folder>")],
    Discriminator(
        which(*MODEL_KEYS),
        custom_error_type="which",
        custom_error_message="names not exactly one kind",
    ),
]
