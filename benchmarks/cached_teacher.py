"""What is left of a teacher once its answers are on disk: a cached KD step against a plain one.

Both go through `fit`, with the same student, optimizer and augmented images: 0.1 CE + 0.9 KD with
the teacher's logits read from a store by example and view, and cross-entropy alone. What `fit`
adds now and then to measure shares is counted as in `loop_overhead.py`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from loop_overhead import ENDLESS, MOMENTUM, RATE, loss, taking, with_share
from paired import at_most, conclude, paired, table
from settings import BATCH, CIFAR

from preceptor.data.images import ImageSet
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.teachers.base import Teacher
from preceptor.teachers.cached import Cached
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.teachers.store import Store
from preceptor.teachers.writing import write_store
from preceptor.train.fit import Losses, fit
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.types import Batch

BOUND = 1.10
VIEWS = 2


def every_view(images: ImageSet) -> Iterator[Batch]:
    """All images in all views that training draws."""
    for number in range(1, VIEWS + 1):
        for rows in torch.arange(len(images)).split(BATCH):
            view = torch.full_like(rows, number)
            yield images.batch(rows, augment=CIFAR.augment(VIEWS), view=view)


def store(folder: Path, images: ImageSet) -> Store:
    """Logits on disk. A student wrote them: whose they are changes no time."""
    _, quick = CIFAR.pair()
    write_store(
        folder,
        Live(quick),
        every_view(images),
        teacher_hash="student",
        data_hash="noise",
        views=VIEWS + 1,
    )
    return Store.open(folder)


def steps(
    objective: Objective, teacher: Teacher, images: ImageSet, probe_every: int = 0
) -> Iterator[Losses]:
    """The steps of `fit`, past the first ones."""
    _, student = CIFAR.pair()
    optimizer = OptimizerPlan(name="sgd", lr=RATE, momentum=MOMENTUM)
    plan = Plan(steps=ENDLESS, batch=BATCH, optimizer=optimizer, probe_every=probe_every)
    taken = fit(student, teacher, objective, CIFAR.source(images, views=VIEWS), plan)
    for _ in range(6):
        next(taken)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer rounds")
    rounds = 10 if parser.parse_args().quick else 100
    torch.set_num_threads(1)
    images = CIFAR.images(512)
    with tempfile.TemporaryDirectory() as folder:
        teacher = Cached(store(Path(folder), images))
        plain = taking(steps(CE(), Nobody(), images), 1)
        cached = paired(taking(steps(loss(), teacher, images), 1), plain, rounds=rounds)
        probing = taking(steps(loss(), teacher, images, probe_every=1), 1)
        measuring = paired(probing, plain, rounds=max(3, rounds // 4))
    ours, theirs = (1000 * seconds for seconds in cached.medians("cpu"))
    heads = (
        "student",
        "cached KD, ms",
        "CE, ms",
        "ratio, CPU time",
        "by the wall",
        "when measuring",
    )
    ratios = (cached.ratio("cpu"), cached.ratio("wall"), measuring.ratio("cpu"))
    print(table(heads, [(CIFAR.student, f"{ours:.1f}", f"{theirs:.1f}", *ratios)]))
    words = (
        f"a KD step with a cached teacher over a CE step, {CIFAR.student}, batch {BATCH}, CPU time"
    )
    conclude([at_most(words, with_share(cached, measuring), BOUND)])


if __name__ == "__main__":
    main()
