"""Where a teacher's weights come from: a folder of safetensors, read a tensor or a few rows at a
time, or a module in memory. A folder's teacher is never made, so its size is not the machine's.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from preceptor.errors import ModelError, StorageError
from preceptor.models.hub import configuration
from preceptor.models.tapped import TappedModel
from preceptor.models.zoo.vit import VisionTransformer

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_SLICE = 1 << 26
"""Numbers of a tensor that are read at once, where it can be cut into rows."""


class Weights(ABC):
    """A model's tensors by name, and its configuration."""

    config: Any
    """transformers' configuration, or what has the same fields."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape."""

    @abstractmethod
    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """A tensor, or some of its rows, in the precision that it is held in."""

    def in_rows(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        """A tensor a few rows at a time: which, and what they hold."""
        shape = self.shapes()[name]
        width = max(1, _SLICE // max(1, _product(shape[1:])))
        for start in range(0, shape[0], width):
            rows = slice(start, min(start + width, shape[0]))
            yield rows, self.read(name, rows)


@final
class FolderWeights(Weights):
    """The safetensors in a folder, in one file or in several with an index.

    Errors:
        ModelError: no configuration, or no safetensors.
        StorageError: an index that names a file that is not there, or a damaged file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = configuration(str(folder))
        self._file_of = _files(self.folder)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Read from the files' headers alone."""
        if not self._shapes:
            for file in sorted(set(self._file_of.values())):
                with _opened(file) as tensors:
                    for name in (name for name, at in self._file_of.items() if at == file):
                        self._shapes[name] = tuple(tensors.get_slice(name).get_shape())
        return self._shapes

    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """Only what is asked for is read."""
        # Opened each time: what was read of an open file stays in the process's memory.
        with _opened(self._file_of[name]) as tensors:
            whole = tensors.get_slice(name)
            return whole[rows] if whole.get_shape() else tensors.get_tensor(name)


@final
class ModuleWeights(Weights):
    """The tensors of a module that is in memory; nothing is copied.

    `parameters` names those that are learned, a shared one under each of its names.
    """

    def __init__(self, model: nn.Module) -> None:
        module = model.module if isinstance(model, TappedModel) else model
        self.config = configuration_of(module)
        learned = dict(module.named_parameters(remove_duplicate=False))
        self.parameters = tuple(learned)
        state = learned | dict(module.named_buffers(remove_duplicate=False))
        self._tensors = {name: tensor.detach() for name, tensor in state.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters and buffers; a shared one under each of its names."""
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """The module's own memory: not to be written to."""
        tensor = self._tensors[name]
        return tensor[rows] if tensor.dim() else tensor


def weights_of(teacher: str | Path | nn.Module) -> Weights:
    """A teacher as a source of weights: a folder's are read as they are asked for."""
    return ModuleWeights(teacher) if isinstance(teacher, nn.Module) else FolderWeights(teacher)


def configuration_of(module: nn.Module) -> Any:
    """The configuration of the transformers model in a module, or what stands for it."""
    for part in module.modules():
        config = getattr(part, "config", None)
        if hasattr(config, "model_type"):
            return config
        if isinstance(part, VisionTransformer):
            heads = [block.attention.heads for block in part.blocks]  # pyright: ignore
            return SimpleNamespace(model_type="zoo vit", num_attention_heads=heads[0])
    raise ModelError(
        f"a student was to begin inside its teacher, and one of them is a {type(module).__name__}",
        "it is no model of transformers, no ViT and no convolutional network of the zoo: what its "
        "tensors' axes stand for is not written down",
        "Use such a model, or begin at random.",
    )


def _files(folder: Path) -> dict[str, Path]:
    """Each tensor's file."""
    if (folder / _INDEX).is_file():
        listed = json.loads((folder / _INDEX).read_text())["weight_map"]
        return {name: folder / file for name, file in listed.items()}
    file = folder / _SINGLE
    if not file.is_file():
        raise ModelError(
            f"weights were looked for in {folder}",
            f"there is no {_SINGLE} and no {_INDEX}",
            "Give a folder of safetensors: the other format runs code when it is read.",
        )
    with _opened(file) as tensors:
        return dict.fromkeys(tensors.keys(), file)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, "pt") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{file} was read",
            f"it is missing, truncated or no safetensors file ({error})",
            "Fetch or save it again.",
        ) from error


def _product(numbers: tuple[int, ...]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product
