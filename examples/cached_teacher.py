"""A teacher that is asked once: its logits are written to disk, and every later run reads them.

Two students with the same seed, one taught by the model and one by the file, end with the same
weights, bit for bit; and a step costs no forward pass of the teacher.

    python examples/cached_teacher.py        # about ten seconds on one core
"""

import tempfile
import time
from pathlib import Path

import torch

from preceptor import CE, KD, Cached, Live, Nobody, OptimizerPlan, Plan, TappedModel, Teacher, fit
from preceptor.data.image_source import ImageSource
from preceptor.data.images import ImageSet
from preceptor.data.loading import load_images
from preceptor.models.load import load_model
from preceptor.teachers.store import Store
from preceptor.teachers.weights import fingerprint
from preceptor.teachers.writing import write_store


def model(name: str, seed: int) -> TappedModel:
    torch.manual_seed(seed)
    return load_model({"zoo": name, "classes": 10, "channels": 1, "size": 8})


def source(images: ImageSet) -> ImageSource:
    return ImageSource(images, labelled=images.labelled, batch=64, seed=0)


def trained_teacher(images: ImageSet) -> TappedModel:
    teacher = model("cnn-large", seed=0)
    plan = Plan(steps=100, optimizer=OptimizerPlan(name="adamw", lr=3e-3))
    for _ in fit(teacher, Nobody(), CE(), source(images), plan):
        pass
    return teacher


def taught(teacher: Teacher, images: ImageSet) -> tuple[TappedModel, float]:
    student = model("cnn-small", seed=1)
    started = time.perf_counter()
    for _ in fit(student, teacher, 0.1 * CE() + 0.9 * KD(), source(images), Plan(steps=100)):
        pass
    return student, time.perf_counter() - started


def main() -> None:
    images = load_images("digits").train
    live = Live(trained_teacher(images))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "signals"
        write_store(
            folder,
            live,
            images.batches(256),
            teacher_hash=fingerprint(live.model),
            data_hash=images.fingerprint(),
        )
        by_model, slow = taught(live, images)
        by_file, quick = taught(Cached(Store.open(folder)), images)
    assert fingerprint(by_model) == fingerprint(by_file), "the file answers as the model does"
    print(f"taught by the model: {slow:.1f} s; by the file: {quick:.1f} s; the same student")


if __name__ == "__main__":
    main()
