"""What the loop costs: a KD step through `fit` against the same step written by hand.

Both sides draw their batches from the same kind of source, train copies of the same student with
the same SGD, ask copies of the same teacher, and read the loss as a number. By hand means: in
plain PyTorch, nothing but what the step needs.

`fit` measures each method's share of the gradient in the first steps and in one step of a hundred
from then on, which takes one more backward pass; a hundredth of what that costs is added here.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
from paired import Interval, Rounds, at_most, conclude, paired, table
from settings import BATCH, CIFAR, DIGITS, Setting
from torch.nn import functional as F

from preceptor.data.images import ImageSet
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.teachers.live import Live
from preceptor.train.fit import Losses, fit
from preceptor.train.plan import OptimizerPlan, Plan

BOUNDS = {CIFAR: 1.05, DIGITS: 1.15}
ALPHA, TEMPERATURE, RATE, MOMENTUM = 0.9, 4.0, 0.01, 0.9
ENDLESS = 1_000_000


def loss() -> Objective:
    """0.1 CE + 0.9 KD."""
    return (1 - ALPHA) * CE() + ALPHA * KD(temperature=TEMPERATURE)


def through_fit(setting: Setting, images: ImageSet, probe_every: int = 0) -> Iterator[Losses]:
    """The steps of `fit`, past the first ones, which also measure."""
    teacher, student = setting.pair()
    optimizer = OptimizerPlan(name="sgd", lr=RATE, momentum=MOMENTUM)
    plan = Plan(steps=ENDLESS, batch=BATCH, optimizer=optimizer, probe_every=probe_every)
    steps = fit(student, Live(teacher), loss(), setting.source(images), plan)
    for _ in range(6):
        next(steps)
    return steps


def by_hand(setting: Setting, images: ImageSet) -> Iterator[float]:
    """The same steps in plain PyTorch."""
    teacher, student = setting.pair()
    teacher.requires_grad_(False)
    source = setting.source(images)
    optimizer = torch.optim.SGD(student.module.parameters(), lr=RATE, momentum=MOMENTUM)
    while True:
        batch = source.take()
        assert isinstance(batch.inputs, torch.Tensor)
        pixels = student.normalized(batch.inputs)
        with torch.no_grad():
            taught = teacher.module(pixels)
        logits = student.module(pixels)
        hard = F.cross_entropy(logits, batch.labels)
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=-1),
            F.softmax(taught / TEMPERATURE, dim=-1),
            reduction="batchmean",
        )
        loss = (1 - ALPHA) * hard + ALPHA * TEMPERATURE**2 * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def taking(steps: Iterator[object], count: int) -> Callable[[], None]:
    """A callable that takes so many steps."""

    def several() -> None:
        for _ in range(count):
            next(steps)

    return several


def measured(setting: Setting, steps: int, rounds: int) -> tuple[Rounds, Rounds]:
    """Plain steps, and steps that measure shares, each over the same by hand."""
    images = setting.images()
    hand = taking(by_hand(setting, images), steps)
    plain = paired(taking(through_fit(setting, images), steps), hand, rounds=rounds)
    probing = taking(through_fit(setting, images, probe_every=1), steps)
    return plain, paired(probing, hand, rounds=max(3, rounds // 4))


def with_share(plain: Rounds, probing: Rounds) -> Interval:
    """The ratio by processor time, with its share of the steps that measure."""
    value, low, high = plain.ratio("cpu")
    extra = (probing.ratio("cpu").value - value) / Plan(steps=1).probe_every
    return Interval(value + extra, low + extra, high + extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    claims, rows = [], []
    for setting, steps, rounds in (
        (CIFAR, 1, 5 if quick else 60),
        (DIGITS, 20, 30 if quick else 200),
    ):
        plain, probing = measured(setting, steps, rounds)
        words = f"a KD step through fit over one by hand, {setting.name}, batch {BATCH}, CPU time"
        claims.append(at_most(words, with_share(plain, probing), BOUNDS[setting]))
        milliseconds = (f"{1000 * seconds / steps:.2f}" for seconds in plain.medians("cpu"))
        ratios = (plain.ratio("cpu"), plain.ratio("wall"), probing.ratio("cpu"))
        rows.append((setting.name, *milliseconds, *ratios))
    heads = ("pair", "fit, ms", "by hand, ms", "ratio, CPU time", "by the wall", "when measuring")
    print(table(heads, rows))
    conclude(claims)


if __name__ == "__main__":
    main()
