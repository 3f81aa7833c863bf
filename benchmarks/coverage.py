"""How often the intervals of a report hold the truth, by simulation: nominal 95 %.

Worlds with a known truth are drawn anew many times, each with its own seeds and test items, and
each time an interval is made as a report makes it. Answers of seeds and items are crossed: an item
is hard for all seeds, a seed is good at all items, and each pair has luck of its own. What has no
closed form (kappa, F1, a calibration error) has its truth from ten million items.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from paired import Claim, conclude, table
from scipy import stats

from preceptor.evaluate.alike import cohen
from preceptor.evaluate.significance import difference, means, share_where
from preceptor.evaluate.significance import gap as gap_of
from preceptor.ops import linearised
from preceptor.ops.calibration import ece_by_item
from preceptor.ops.correlations import spearman
from preceptor.ops.proportions import clopper_pearson, tango, wilson
from preceptor.ops.resampling import Crossed

SEEDS, ITEMS, DRAWS = 5, 300, 1000
LOW, HIGH = 0.93, 0.97
HEADS = ("interval", "setting", "trials", "holds the truth", "bound")

Limits = tuple[float | None, float | None]
Trial = Callable[[np.random.Generator], Limits]


@dataclass(frozen=True)
class Setting:
    """An interval, what it is made in, the truth, and one trial; `high` None for "at least"."""

    name: str
    where: str
    truth: float
    trial: Trial
    high: float | None = HIGH


def skills(
    generator: np.random.Generator, level: float, seeds: int, ease: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, "s n"]:
    """Hits of models of one kind: a seed's skill, an item's ease, luck."""
    own = 0.15 * generator.normal(size=(seeds, 1))
    return level + own + ease + generator.normal(size=(seeds, len(ease))) > 0


def rate(level: float) -> float:
    """The truth of `skills`' mean: all its parts are normal, items' of spread 1."""
    return float(stats.norm.cdf(level / math.sqrt(1 + 1 + 0.15**2)))


def gain(seeds: int, items: int) -> Setting:
    """A paired difference of accuracies, as in the verdict."""

    def trial(generator: np.random.Generator) -> Limits:
        ease = generator.normal(size=items)
        first, second = (skills(generator, level, seeds, ease) for level in (1.3, 1.0))
        crossed = Crossed(seeds, items, generator, draws=DRAWS)
        found = difference(("a", first), ("b", second), None, crossed, generator).gain
        return found.low, found.high

    # With one seed the statement is about two models: their own skills are part of the truth.
    return Setting("gain", f"{seeds} seeds, {items} items", rate(1.3) - rate(1.0), trial)


def rare(what: str, seeds: int, items: int, errors: float, unlike: float = 0.0) -> Setting:
    """Few errors: an accuracy, or the difference of two that are equally good.

    Each seed errs on each item on its own; with `unlike` items differ in how hard they are: beta
    of that many pseudo-items, so that some err under every seed and most under none.
    """

    def trial(generator: np.random.Generator) -> Limits:
        hard = np.full(items, errors)
        if unlike:
            hard = generator.beta(errors * unlike, (1 - errors) * unlike, items)
        first, second = (generator.random((seeds, items)) >= hard for _ in range(2))
        crossed = Crossed(seeds, items, generator, draws=DRAWS)
        if what == "rate":
            column = {"rate": first.astype(float)}
            found = means(column, {"rate": "fraction"}, crossed)["rate"]
        else:
            found = gap_of(first, second, crossed)
        return found.low, found.high

    where = f"{seeds} seeds, {items} items, {100 * errors:g} % errors"
    where += ", items unlike" if unlike else ""
    truth = 1 - errors if what == "rate" else 0.0
    return Setting(f"rare {what}", where, truth, trial, None)


def copies(seeds: int, items: int, apart: float) -> Setting:
    """Kappa with a teacher of three classes whom students hardly ever contradict."""

    def trial(generator: np.random.Generator) -> Limits:
        master = np.broadcast_to(generator.choice(3, items, p=(0.5, 0.3, 0.2)), (seeds, items))
        other = (master + generator.integers(1, 3, (seeds, items))) % 3
        own = np.where(generator.random((seeds, items)) < apart, other, master)
        found = cohen(own, master, Crossed(seeds, items, generator, draws=DRAWS))
        return getattr(found, "low", None), getattr(found, "high", None)

    master = np.array((0.5, 0.3, 0.2))
    own = (1 - apart) * master + apart / 2 * (1 - master)
    chance = float(own @ master)
    truth = (1 - apart - chance) / (1 - chance)
    where = f"{seeds} seeds, {items} items, {100 * apart:g} % differ"
    return Setting("rare kappa", where, truth, trial, None)


def answers(
    generator: np.random.Generator, seeds: int, items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels [n], a teacher's answers [n] and students' [s, n], of four classes."""
    labels = generator.choice(4, items, p=(0.4, 0.3, 0.2, 0.1))
    hard = generator.random(items)
    guess = generator.integers(0, 4, items)
    teacher = np.where(hard > 0.75, guess, labels)
    own = np.clip(0.3 + 0.03 * generator.normal(size=(seeds, 1)), 0, 1)
    copies = generator.random((seeds, items)) > own
    lucky = np.where(hard + 0.3 * generator.normal(size=(seeds, items)) > 0.6, 0, labels)
    return labels, teacher, np.where(copies, teacher, lucky)


def by_influence(name: str) -> Setting:
    """Kappa with the teacher, or macro F1, of students."""

    def measured(labels: np.ndarray, teacher: np.ndarray, row: np.ndarray) -> np.ndarray:
        if name == "kappa":
            return linearised.kappa(row, teacher)
        return linearised.macro_f1(row, labels)

    def trial(generator: np.random.Generator) -> Limits:
        labels, teacher, students = answers(generator, SEEDS, ITEMS)
        columns = np.stack([measured(labels, teacher, row) for row in students])
        crossed = Crossed(SEEDS, ITEMS, generator, draws=DRAWS)
        found = means({name: columns}, {name: "kappa"}, crossed)[name]
        return found.low, found.high

    whole = answers(np.random.default_rng(9), 400, 25_000)
    truth = np.mean([measured(whole[0], whole[1], row).mean() for row in whole[2]])
    return Setting(name, f"{SEEDS} seeds, {ITEMS} items", float(truth), trial)


def retention() -> Setting:
    """The share of what the teacher has right that students have right."""

    def trial(generator: np.random.Generator) -> Limits:
        labels, teacher, students = answers(generator, SEEDS, ITEMS)
        crossed = Crossed(SEEDS, ITEMS, generator, draws=DRAWS)
        right = np.broadcast_to(teacher == labels, students.shape)
        found = share_where(students == labels, right, crossed, "")
        return getattr(found, "low", None), getattr(found, "high", None)

    labels, teacher, students = answers(np.random.default_rng(9), 400, 25_000)
    truth = float((students == labels)[:, teacher == labels].mean())
    return Setting("retention", f"{SEEDS} seeds, {ITEMS} items", truth, trial)


def calibration(items: int) -> Setting:
    """The calibration error of a model that says 10 points more than it hits."""

    def trial(generator: np.random.Generator) -> Limits:
        confidence = np.tile(generator.uniform(0.6, 1.0, items), (SEEDS, 1))
        hit = generator.random((SEEDS, items)) < confidence - 0.1
        columns = np.stack([ece_by_item(c, h) for c, h in zip(confidence, hit, strict=True)])
        crossed = Crossed(SEEDS, items, generator, draws=DRAWS)
        found = means({"ece": columns}, {"ece": "fraction"}, crossed)["ece"]
        return found.low, found.high

    return Setting("calibration error", f"{SEEDS} seeds, {items} items", 0.1, trial)


def clusters() -> Setting:
    """A mean of questions about 60 passages, some of which have many."""

    def trial(generator: np.random.Generator) -> Limits:
        passage = np.repeat(np.arange(60), generator.integers(1, 9, 60))
        level = generator.normal(size=60)
        values = level[passage] + generator.normal(size=(SEEDS, len(passage)))
        crossed = Crossed(SEEDS, len(passage), generator, draws=DRAWS, clusters=passage)
        found = means({"drift": values}, {"drift": "nats more"}, crossed)["drift"]
        return found.low, found.high

    return Setting("mean of clusters", f"{SEEDS} seeds, 60 passages", 0.0, trial)


def graded(pairs: int) -> Setting:
    """Spearman's correlation of an encoder's similarities with grades, under several seeds."""

    def trial(generator: np.random.Generator) -> Limits:
        grades = generator.normal(size=pairs)
        shared = 0.7 * grades + 0.5 * generator.normal(size=pairs)
        similar = shared + 0.5 * generator.normal(size=(SEEDS, pairs))
        each = [linearised.rank_correlation(row, grades) for row in similar]
        crossed = Crossed(SEEDS, pairs, generator, draws=DRAWS)
        found = means({"rho": np.stack(each)}, {"rho": "correlation"}, crossed)["rho"]
        return found.low, found.high

    truth = 6 / math.pi * math.asin(0.7 / math.sqrt(0.7**2 + 0.5**2 + 0.5**2) / 2)
    return Setting("graded pairs", f"{SEEDS} seeds, {pairs} pairs", truth, trial)


def rates(name: str, interval: Callable[[int, int], tuple[float, float, float]]) -> Setting:
    """A rate of 0.9 on 200 items."""

    def trial(generator: np.random.Generator) -> Limits:
        return interval(int(generator.binomial(200, 0.9)), 200)[1:]

    high = None if name == "Clopper-Pearson" else HIGH
    return Setting(name, "200 items, 0.9", 0.9, trial, high)


def tangos() -> Setting:
    """The difference of two rates on the same 150 items."""

    def trial(generator: np.random.Generator) -> Limits:
        b, c, _ = generator.multinomial(150, (0.08, 0.03, 0.89))
        return tango(int(b), int(c), 150)[1:]

    return Setting("Tango", "150 items, 8 % and 3 % differ", 0.05, trial)


def correlated(interval: str) -> Setting:
    """Spearman's rho of 40 cells."""

    def trial(generator: np.random.Generator) -> Limits:
        x, y = generator.multivariate_normal((0, 0), ((1, 0.6), (0.6, 1)), 40).T
        found = spearman(x, y, generator, interval=interval, draws=DRAWS)  # pyright: ignore[reportArgumentType]
        return getattr(found, "low", None), getattr(found, "high", None)

    return Setting(f"rho, {interval}", "40 cells", 6 / math.pi * math.asin(0.3), trial)


def settings() -> list[Setting]:
    """All of them."""
    return [
        gain(5, 300),
        gain(8, 500),
        gain(3, 300),
        rare("rate", 5, 60, 0.02),
        rare("rate", 5, 60, 0.02, 2.0),
        rare("rate", 3, 180, 0.02, 2.0),
        rare("rate", 1, 60, 0.02),
        rare("gain", 5, 60, 0.02),
        rare("gain", 5, 60, 0.005),
        rare("gain", 3, 180, 0.02, 2.0),
        copies(3, 53, 0.02),
        copies(1, 53, 0.05),
        by_influence("kappa"),
        by_influence("macro F1"),
        retention(),
        calibration(2000),
        clusters(),
        graded(150),
        rates("Wilson", wilson),
        rates("Clopper-Pearson", clopper_pearson),
        tangos(),
        correlated("percentile"),
        correlated("bca"),
    ]


def covered(setting: Setting, trials: int) -> tuple[float, float, float]:
    """How often the interval held the truth, with Wilson's interval of that."""
    held = 0
    for number in range(trials):
        low, high = setting.trial(np.random.default_rng(number))
        held += low is not None and high is not None and low <= setting.truth <= high
    return wilson(held, trials)


def main() -> None:
    """Draw, count, print; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 trials each, for a look")
    parser.add_argument("--only", default="", help="settings whose name holds this")
    said = parser.parse_args()
    trials = 200 if said.quick else 2000
    claims: list[Claim] = []
    rows: list[tuple[object, ...]] = []
    for setting in settings():
        if said.only not in setting.name:
            continue
        rate, low, high = covered(setting, trials)
        bound = f"{LOW} to {setting.high}" if setting.high else f"at least {LOW}"
        rows.append(
            (setting.name, setting.where, trials, f"{rate:.3f} [{low:.3f}, {high:.3f}]", bound)
        )
        # A count of trials is a draw too: what its interval reaches is not refuted.
        holds = high >= LOW and (setting.high is None or low <= setting.high)
        claims.append(
            Claim(f"coverage: {setting.name}, {setting.where}", rate, low, high, LOW, holds)
        )
    print(table(HEADS, rows))
    conclude(claims)


if __name__ == "__main__":
    main()
