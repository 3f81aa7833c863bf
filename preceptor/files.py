"""Files that are whole or not there: written beside their place, flushed, renamed into it."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from preceptor.errors import StorageError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, flush it and put it in place in one move."""
    temporary = path.parent / f".tmp-{uuid.uuid4().hex}-{path.name}"
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def flush(path: Path) -> None:
    """Return once a file's contents, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn a disk's errors into a sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{path} could not be written ({error})",
            "the disk is full, or the folder cannot be written to; what was there still stands",
            "Make room or choose another folder, then start the same command again.",
        ) from error
