"""What a report is made from, in one file of a run's folder, so that no model is asked twice.

Arrays lie in a safetensors file, each different one once; everything else is JSON in its header.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from preceptor.errors import StorageError
from preceptor.evaluate.report import typed
from preceptor.evaluate.results import RunResult
from preceptor.files import write_atomically

FILE = "results.safetensors"
_SCHEMA = "preceptor.results/1"


@dataclass(frozen=True)
class Stored:
    """A run's results, and the parts of the report that were asked for."""

    result: RunResult
    parts: tuple[str, ...]


def save_results(stored: Stored, folder: Path) -> None:
    """Write them into a run's folder, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps({"schema": _SCHEMA, "stored": _plain(stored, arrays)})
    write_atomically(folder / FILE, lambda path: save_file(arrays, path, {"preceptor": text}))


def load_results(folder: Path) -> Stored | None:
    """Read them; None where there are none, or those of another version.

    Raises:
        StorageError: the file is broken.
    """
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, "numpy") as file:
            plain = json.loads(file.metadata()["preceptor"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if plain["schema"] != _SCHEMA:
            return None
        return typed(Stored, _filled(plain["stored"], arrays))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{folder / FILE} cannot be read ({error})",
            "it breaks off, or something else wrote it",
            f"Remove it and make it again: preceptor evaluate {folder}.",
        ) from None


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """As JSON, with the names of arrays in their place."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        kind = f"{array.dtype}{array.shape}".encode()
        name = blake2b(kind + array.tobytes(), digest_size=12).hexdigest()
        arrays[name] = array
        return {"array": name}
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {each.name: _plain(getattr(value, each.name), arrays) for each in fields}
    if isinstance(value, Mapping):
        return {name: _plain(each, arrays) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each, arrays) for each in value]
    return value


def _filled(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(plain, list):
        return [_filled(each, arrays) for each in plain]
    if not isinstance(plain, dict):
        return plain
    if set(plain) == {"array"} and plain["array"] in arrays:
        return arrays[plain["array"]]
    return {name: _filled(each, arrays) for name, each in plain.items()}
