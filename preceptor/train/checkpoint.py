"""Checkpoints that a kill at any moment cannot spoil: safetensors and JSON, nothing pickled.

A checkpoint is a folder `step-00000120` with `tensors.safetensors`, `numbers.json` and, written
last, `manifest.json` with every file's size and sha256. It is made under another name, flushed to
the disk and renamed, so that a folder of that name is whole or was damaged later; then the
manifest shows it, the damage is named, and the checkpoint before it is used.
"""

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from preceptor.errors import StorageError
from preceptor.files import flush, storage
from preceptor.train.training import Training

_STEP = "step-"


def save(training: Training, folder: Path, keep: int = 2) -> None:
    """Write a checkpoint of a training between two steps, then drop all but the last `keep`."""
    tensors = training.tensors() | _generators(training)
    numbers = training.numbers()
    if training.accelerator.is_main_process:
        final = folder / f"{_STEP}{training.step:08d}"
        with storage(final):
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(final, tensors, numbers)
            for old in _steps(folder)[:-keep]:
                _discard(old)
    training.accelerator.wait_for_everyone()


def resume(training: Training, folder: Path) -> tuple[str, ...]:
    """Load the last whole checkpoint, if any; gives a sentence for each damaged one passed over."""
    _sweep(folder)
    notices: list[str] = []
    for candidate in reversed(_steps(folder)):
        damage = _damage(candidate)
        if damage:
            notices.append(f"{candidate.name} is damaged ({damage}); the one before it is used")
            continue
        tensors = load_file(candidate / "tensors.safetensors")
        numbers = json.loads((candidate / "numbers.json").read_text())
        _set_generators(training, tensors)
        training.load({k: v for k, v in tensors.items() if not k.startswith("rng.")}, numbers)
        break
    return tuple(notices)


def _write_whole(final: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    temporary = final.parent / f".tmp-{final.name}-{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        # Clones: tied parameters share memory, which the format refuses.
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        save_file(plain, temporary / "tensors.safetensors")
        (temporary / "numbers.json").write_text(json.dumps(numbers))
        files = sorted(temporary.iterdir())
        manifest = {f.name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in files}
        for file in files:
            flush(file)
        (temporary / "manifest.json").write_text(json.dumps(manifest))
        flush(temporary / "manifest.json")
        flush(temporary)
        if final.exists():
            _discard(final)
        os.replace(temporary, final)
        flush(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, in words; empty where it is whole."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        for name, known in manifest.items():
            size = (checkpoint / name).stat().st_size
            if size != known["bytes"]:
                return f"{name} has {size} of {known['bytes']} bytes"
            if _sha256(checkpoint / name) != known["sha256"]:
                return f"the contents of {name} have changed"
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__} while reading it"
    return ""


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_STEP}*")) if folder.is_dir() else []


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written or half-removed."""
    for pattern in (".tmp-*", ".trash-*"):
        for left in folder.glob(pattern) if folder.is_dir() else ():
            shutil.rmtree(left, ignore_errors=True)


def _discard(path: Path) -> None:
    trash = path.parent / f".trash-{uuid.uuid4().hex}"
    os.replace(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _generators(training: Training) -> dict[str, Tensor]:
    """Every rank's generators; they move with dropout and the like."""
    states = {"cpu": torch.get_rng_state()}
    if training.accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(training.accelerator.device)
    if not dist.is_initialized():
        return {f"rng.0.{kind}": state for kind, state in states.items()}
    gathered: list[dict[str, Tensor]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, states)
    return {f"rng.{r}.{k}": state for r, own in enumerate(gathered) for k, state in own.items()}


def _set_generators(training: Training, tensors: dict[str, Tensor]) -> None:
    prefix = f"rng.{training.accelerator.process_index}."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not own:
        raise StorageError(
            f"a checkpoint of {sum(k.endswith('.cpu') for k in tensors)} processes",
            f"this is process {training.accelerator.process_index} of "
            f"{training.accelerator.num_processes}",
            "Resume with as many processes as the run was started with.",
        )
    torch.set_rng_state(own["cpu"])
    if "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], training.accelerator.device)


def student_in(folder: Path, member: int = 0) -> dict[str, Tensor]:
    """The state of a member's student (a `TappedModel`) in a whole checkpoint, by name.

    Raises:
        StorageError: the checkpoint is damaged.
    """
    if damage := _damage(folder):
        raise StorageError(
            f"the checkpoint {folder}", damage, "Name another one, or train that stage again."
        )
    prefix = f"member.{member}.student."
    held = load_file(folder / "tensors.safetensors")
    return {n.removeprefix(prefix): t for n, t in held.items() if n.startswith(prefix)}


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one."""
    return (folder / "tensors.safetensors").is_file() and (folder / "numbers.json").is_file()
