"""How a recipe names a model: by zoo, timm, transformers, import path or folder."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from preceptor.fields import Count, Fraction, Positive
from preceptor.recipe.section import Section, which


class Model(Section):
    """What every way of naming a model has in common.

    Args:
        classes: how many classes; where not given, the data's.
        channels: image channels; where not given, the data's.
        size: the image's side in pixels; where not given, the data's.
        mean: what is subtracted from each channel of pixels in [0, 1]; where not given, the
            model's own where it brings weights, else the training data's.
        std: what each channel is then divided by; where not given, as for `mean`.
        head: the module that is the classifier; where not given, the model's last linear layer.
    """

    classes: Count | None = None
    channels: Count | None = None
    size: Count | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    head: str | None = None

    @property
    def brings_weights(self) -> bool:
        """Whether the model comes with weights that somebody trained."""
        return False

    def spec(self, classes: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """What `preceptor.models.load.load_model` takes, for data of these classes and shape."""
        data = {"classes": classes, "channels": shape[0], "size": max(shape[1:])}
        return {**{key: data[key] for key in self._asks}, **self.said()}

    def said(self) -> dict[str, Any]:
        """What was said of the model, and nothing that was left open."""
        return {key: value for key, value in self.model_dump().items() if value is not None}

    _asks: ClassVar[tuple[str, ...]] = ("classes", "channels", "size")
    """What it takes from the data where nothing is said."""


class ZooModel(Model):
    """One of the built-in families, such as `resnet8x4`; `arguments` are what it leaves open."""

    zoo: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class TimmModel(Model):
    """A timm model by name; `arguments` go to `timm.create_model`."""

    timm: str
    pretrained: bool = False
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def brings_weights(self) -> bool:
        """Whether it is pretrained."""
        return self.pretrained


class TransformersModel(Model):
    """An image classifier of transformers.

    Args:
        transformers: a hub name, a local folder, or a configuration such as {model_type: vit}.
        pretrained: whether its weights are read; without them only its configuration is.
        attention: the implementation of attention; "eager" for methods that read attention maps.
        fresh_head: draw the classifier anew where its number of classes is another.
    """

    transformers: str | dict[str, Any]
    pretrained: bool = False
    attention: str | None = None
    fresh_head: bool = False

    @property
    def brings_weights(self) -> bool:
        """Whether it is pretrained."""
        return self.pretrained


class FactoryModel(Model):
    """Whatever `package.module:function` returns when called with `arguments`."""

    factory: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    # How many classes it has is found by a pass, and compared with the data's there.
    _asks: ClassVar[tuple[str, ...]] = ("channels", "size")


class FolderModel(Model):
    """A student that an earlier run saved."""

    folder: str

    _asks: ClassVar[tuple[str, ...]] = ()

    @property
    def brings_weights(self) -> bool:
        """Always."""
        return True


class Lora(Section):
    """Low-rank adapters, which alone are trained.

    Args:
        rank: of each adapter.
        alpha: the update is scaled by alpha / rank.
        targets: the modules that get one, by the ends of their names; the library's usual ones
            for the architecture where not given.
        dropout: before each adapter.
    """

    rank: Count = 8
    alpha: Positive = 16.0
    targets: tuple[str, ...] | None = None
    dropout: Fraction = 0.0


class CausalModel(Model):
    """A causal language model of transformers.

    Args:
        causal: a hub name, a local folder, or a configuration such as {model_type: llama}.
        pretrained: whether its weights are read; where not given, if there are any.
        dtype: what its weights are held in.
        attention: the implementation of attention.
        lora: adapters on a frozen base; without them every weight is trained.
        adapters: a folder of adapters that were saved before.
        vocabulary: how many rows of its head are tokens; where not given, as many as the
            tokenizer has: models pad their vocabularies.
        gradient_checkpointing: compute activations twice rather than keep them.
        tokenizer: a folder or hub name; where not given the data's, or the model's own.
        arguments: changes to the configuration.
    """

    causal: str | dict[str, Any]
    pretrained: bool | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: str | None = None
    lora: Lora | None = None
    adapters: str | None = None
    vocabulary: Count | None = None
    gradient_checkpointing: bool = False
    tokenizer: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)

    _asks: ClassVar[tuple[str, ...]] = ()

    @property
    def brings_weights(self) -> bool:
        """Whether weights are read: a name's are, unless it is said otherwise."""
        return isinstance(self.causal, str) if self.pretrained is None else self.pretrained

    def said(self) -> dict[str, Any]:
        """What `load_model` takes."""
        return {
            k: v for k, v in super().said().items() if k != "tokenizer" and v not in ({}, False)
        }


class EncoderModel(Model):
    """A sentence encoder of transformers.

    Args:
        encoder: a hub name, a local folder, package:NAME/FOLDER inside an installed package, or a
            configuration such as {model_type: bert}.
        pretrained: whether its weights are read; where not given, if there are any.
        pooling: "mean" over tokens, or "cls", the first one.
        normalise: give every embedding length 1.
        dimension: end in a linear map to so many numbers, the teacher's for instance; no map where
            not given.
        attention: the implementation of attention; "eager" for methods that read attention maps.
    """

    encoder: str | dict[str, Any]
    pretrained: bool | None = None
    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = True
    dimension: Count | None = None
    attention: str | None = None

    _asks: ClassVar[tuple[str, ...]] = ()

    @property
    def brings_weights(self) -> bool:
        """Whether weights are read: a name's are, unless it is said otherwise."""
        return isinstance(self.encoder, str) if self.pretrained is None else self.pretrained


MODEL_KEYS = ("zoo", "timm", "transformers", "factory", "folder", "causal", "encoder")

AnyModel = Annotated[
    Annotated[ZooModel, Tag("<zoo>")]
    | Annotated[TimmModel, Tag("<timm>")]
    | Annotated[TransformersModel, Tag("<transformers>")]
    | Annotated[FactoryModel, Tag("<factory>")]
    | Annotated[FolderModel, Tag("<folder>")]
    | Annotated[CausalModel, Tag("<causal>")]
    | Annotated[EncoderModel, Tag("<encoder>")],
    Discriminator(
        which(*MODEL_KEYS),
        custom_error_type="which",
        custom_error_message="names not exactly one kind",
    ),
]
