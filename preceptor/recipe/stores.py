"""The signals of a run's teacher on disk: written once, named by hashes, read from then on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch

from preceptor.data.augment import Augment
from preceptor.data.images import ImageData
from preceptor.errors import RecipeError
from preceptor.teachers.base import Teacher
from preceptor.teachers.cached import Cached
from preceptor.teachers.ensemble import Ensemble
from preceptor.teachers.live import Live
from preceptor.teachers.store import Store
from preceptor.teachers.weights import fingerprint
from preceptor.teachers.writing import write_store
from preceptor.train.processes import main_process_first
from preceptor.types import Batch

_BATCH = 256


def cached(
    folder: Path,
    teacher: Teacher,
    data: ImageData,
    augment: Augment | None,
) -> Cached:
    """A teacher's signals for every training image and view, written where they are not yet.

    A store of another teacher or of other data is refused.
    """
    views = 1 if augment is None else augment.views + 1
    names = teacher_hash(teacher), data_hash(data, augment)
    batches = _every_view(data, augment)
    with main_process_first() as main:
        if main:
            write_store(
                folder, teacher, batches, teacher_hash=names[0], data_hash=names[1], views=views
            )
    store = Store.open(folder)
    store.expect(teacher=names[0], data=names[1])
    return Cached(store)


def teacher_hash(teacher: Teacher) -> str:
    """A name for a teacher whose answers do not change: a hash of all its weights."""
    if isinstance(teacher, Live):
        return fingerprint(teacher.model)
    if isinstance(teacher, Ensemble):
        said = [teacher.combine, str(teacher.weights), *map(teacher_hash, teacher.members)]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()
    raise RecipeError(
        f"a cache of {type(teacher).__name__}'s signals",
        "its answers change while the student trains, or are on disk already",
        "Cache a model, or an ensemble of models.",
    )


def data_hash(data: ImageData, augment: Augment | None) -> str:
    """A name for the training images and what is done to them."""
    said = f"{data.train.fingerprint()}\n{augment}"
    return hashlib.sha256(said.encode()).hexdigest()


def _every_view(data: ImageData, augment: Augment | None) -> Iterator[Batch]:
    numbers = [0] if augment is None else range(1, augment.views + 1)
    for number in numbers:
        for rows in torch.arange(len(data.train)).split(_BATCH):
            view = torch.full_like(rows, number)
            yield data.train.batch(rows, augment=augment, view=view)
