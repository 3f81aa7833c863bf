"""The tables of the reproduction, and its claims: from finished cells to words.

Dimension key: s seeds, t teachers, n test problems.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from grace_analysis import Outcomes, mean_correlation, mean_regret
from grace_cells import Cell, Key
from grace_setting import Setting, Teacher
from paired import Claim, reported

from preceptor.selection.cautions import TERSE

SELECTORS = ("grace", "teacher_accuracy", "mean_loss", "g_norm", "g_vendi", "rank_surprisal")
"""GRACE, and those that the paper and the issue set beside it."""
OTHERS = ("grace_released", "grace_variance", "log_determinant", "mean_length", "duplicate_rate")
TARGET = 0.86

Lines = list[tuple[str, ...]]
"""A table's head and rows."""


def whole_seeds(
    cells: Mapping[Key, Cell], architecture: str, teachers: Sequence[Teacher]
) -> list[int]:
    """The seeds of which every teacher's student is there."""
    seeds = sorted({key.seed for key in cells if key.architecture == architecture})
    return [
        seed
        for seed in seeds
        if all(Key(architecture, seed, teacher.name) in cells for teacher in teachers)
    ]


def outcomes(
    cells: Mapping[Key, Cell],
    architecture: str,
    teachers: Sequence[Teacher],
    measured: str = "accuracy",
) -> Outcomes | None:
    """What one architecture's whole seeds came to; None where there is none."""
    if not (seeds := whole_seeds(cells, architecture, teachers)):
        return None
    held = [[cells[Key(architecture, s, each.name)] for each in teachers] for s in seeds]
    first = held[0][0]
    scores = {
        name: np.array([[cell["scores"][name] for cell in row] for row in held])
        * (1 if better == "higher" else -1)
        for name, better in first["better"].items()
    }
    scores["teacher_accuracy"] = np.array([[c["teacher_accuracy"] for c in row] for row in held])
    accuracy = np.array([[cell[measured] for cell in row] for row in held])
    return Outcomes(tuple(teacher.name for teacher in teachers), scores, accuracy)


def of_teachers(found: Outcomes) -> Lines:
    """A line a teacher, the best student first."""
    scores = {name: held.mean(axis=0) for name, held in found.scores.items()}
    reached, by_seed = 100 * found.reached, (100 * found.accuracy.mean(axis=2)).round().astype(int)
    rows = [
        (
            found.teachers[at],
            _percent(scores["teacher_accuracy"][at]),
            f"{reached[at]:.0f} ({', '.join(map(str, by_seed[:, at]))})",
            f"{-scores['grace'][at]:.0f}",
            f"{-scores['g_norm'][at]:.2f}",
            f"{scores['g_vendi'][at]:.2f}",
            f"{-scores['mean_loss'][at]:.2f}",
            f"{-scores['rank_surprisal'][at]:.2f}",
            f"{scores['mean_length'][at]:.0f}",
            _percent(abs(scores["duplicate_rate"][at])),
        )
        for at in np.argsort(-reached).tolist()
    ]
    heads = ("teacher", "its accuracy", "student (each seed)", "GRACE", "G-Norm", "G-Vendi")
    return [(*heads, "loss", "RSR", "length", "duplicates"), *rows]


def of_selectors(found: Outcomes, setting: Setting) -> Lines:
    """A line a selector: rho with its interval, also without those whom a caution calls terse,
    regret, and regrets of narrower choices.
    """
    families, sizes, others = _families(setting), _sizes(setting), found.of(_longer(found))
    rows = [
        (
            name,
            _correlation(found, name),
            _correlation(others, name),
            f"{100 * found.regret(name):.1f}",
            " or ".join(found.teachers[at] for at in found.chosen(name)),
            f"{100 * mean_regret(found, sizes, name):.1f}",
            f"{100 * mean_regret(found, families, name):.1f}",
        )
        for name in (*SELECTORS, *OTHERS)
    ]
    heads = (
        "selector",
        "rho, 95 %",
        "without the terse",
        "regret",
        "chooses",
        "by size",
        "in families",
    )
    return [heads, *rows]


def of_temperatures(found: Outcomes, setting: Setting) -> Lines:
    """Each heated teacher's students by temperature, and where selectors would have written."""
    heads = [f"student (GRACE) at {t:g}" for t in setting.temperatures]
    lines: Lines = [("teacher", *heads, "best", "GRACE's", "G-Norm's", "G-Vendi's")]
    for names in _heated(setting):
        one = found.of(names)
        grace = -one.scores["grace"].mean(axis=0)
        picks = [_at(one, name, setting) for name in ("grace", "g_norm", "g_vendi")]
        best = setting.temperatures[int(one.reached.argmax())]
        told = [f"{_percent(a)} ({g:.0f})" for a, g in zip(one.reached, grace, strict=True)]
        lines.append((names[0].partition("@")[0], *told, f"{best:g}", *picks))
    return lines


def within_teachers(found: Outcomes, setting: Setting) -> Lines:
    """A line a selector: rho and regret over one teacher's temperatures, their means."""
    groups = _heated(setting)
    return [
        ("selector", "mean rho over temperatures", "mean regret"),
        *(
            (
                name,
                f"{mean_correlation(found, groups, name):+.2f}",
                f"{100 * mean_regret(found, groups, name):.1f}",
            )
            for name in SELECTORS
        ),
    ]


def claims_of(found: Outcomes, architecture: str) -> list[Claim]:
    """Targets, reported and not enforced: nobody can promise what a study finds."""
    rho = found.correlation("grace")
    beside = {name: found.regret(name) for name in SELECTORS[1:]}
    own, least = found.regret("grace"), min(beside.values())
    return [
        reported(f"{architecture}: Spearman of GRACE", rho, TARGET, bool(rho[0] >= TARGET)),
        reported(
            f"{architecture}: regret of GRACE less the best baseline's, points",
            [100 * (own - least)] * 3,
            target=0.0,
            reached=bool(own <= least),
        ),
    ]


def _longer(found: Outcomes) -> list[str]:
    """Those who write at least half of what the middle teacher writes."""
    length = found.scores["mean_length"].mean(axis=0)
    return [found.teachers[at] for at in np.flatnonzero(length >= TERSE * np.median(length))]


def _correlation(found: Outcomes, selector: str) -> str:
    estimate, low, high = found.correlation(selector)
    return f"{estimate:+.2f} ({low:+.2f} to {high:+.2f})"


def _at(found: Outcomes, selector: str, setting: Setting) -> str:
    return " or ".join(f"{setting.temperatures[at]:g}" for at in found.chosen(selector))


def _heated(setting: Setting) -> list[list[str]]:
    known = {teacher.name: teacher for teacher in setting.teachers}
    return [[known[n].at(t).name for t in setting.temperatures] for n in setting.heated]


def _families(setting: Setting) -> list[list[str]]:
    """Teachers that write alike, where there are two or more."""
    ordered = sorted(setting.teachers, key=lambda teacher: teacher.style)
    each = [[t.name for t in own] for _, own in groupby(ordered, key=lambda t: t.style)]
    return [names for names in each if len(names) > 1]


def _sizes(setting: Setting) -> list[list[str]]:
    """Those within each limit of width that admits two or more, but the last, which admits all."""
    limits = sorted({teacher.width for teacher in setting.teachers})[:-1]
    each = [[t.name for t in setting.teachers if t.width <= limit] for limit in limits]
    return [names for names in each if len(names) > 1]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
