"""How good each model was on each test item: what another run is paired with.

Two runs may be compared item by item where their test items are the same ones, by their hash, and
seed by seed where their seeds are.

Dimension key: s seeds, n items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file

from preceptor.errors import StorageError
from preceptor.evaluate.report import LESS_IS_BETTER
from preceptor.evaluate.results import RunResult, SeedResult
from preceptor.files import write_atomically

FILE = "items.safetensors"


@dataclass(frozen=True)
class Items:
    """The primary measure of every arm on every test item.

    Args:
        test: a hash of the test items.
        primary: the measure.
        seeds: in the order of the rows.
        arms: by arm; more is better.
    """

    test: str
    primary: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Float[np.ndarray, "s n"]]

    def pairs_with(self, other: "Items") -> str:
        """Why these and other items cannot be paired; empty where they can."""
        if self.test != other.test:
            return "the test items differ"
        if self.primary != other.primary:
            return "the measures differ"
        if self.seeds != other.seeds:
            return "the seeds differ"
        return ""


def items_of(result: RunResult, test: str) -> Items:
    """What a run's arms scored on its test items, whose hash is `test`."""
    seeds = tuple(one.seed for one in result.student.seeds)
    arms = {arm.name: np.stack([_good(one, result) for one in arm.seeds]) for arm in result.arms}
    return Items(test, result.primary, seeds, arms)


def _good(one: SeedResult, result: RunResult) -> Float[np.ndarray, " n"]:
    if result.primary in one.items:
        column = np.asarray(one.items[result.primary], dtype=np.float64)
        return -column if result.primary in LESS_IS_BETTER else column
    assert one.logits is not None, "a run without a measure for each item was refused before"
    return (one.logits.argmax(axis=-1) == result.labels).astype(np.float64)


def save_items(items: Items, folder: Path) -> None:
    """Write them into a run's folder, whole or not at all."""
    tensors = {name: torch.from_numpy(good) for name, good in items.arms.items()}
    known = {"test": items.test, "primary": items.primary}
    known["seeds"] = " ".join(map(str, items.seeds))
    write_atomically(folder / FILE, lambda path: save_file(tensors, path, known))


def load_items(folder: Path) -> Items | None:
    """Read them; None where a run has none (of an earlier version).

    Raises:
        StorageError: the file is broken.
    """
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, "numpy") as file:
            known = file.metadata()
            arms = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        seeds = tuple(map(int, known["seeds"].split()))
        return Items(known["test"], known["primary"], seeds, arms)
    except Exception as error:
        raise StorageError(
            f"{folder / FILE} cannot be read ({error})",
            "it breaks off, or something else wrote it",
            f"Make it again: preceptor evaluate {folder}.",
        ) from None
