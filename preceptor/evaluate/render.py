"""A report as a page, as Markdown, as text."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from preceptor.evaluate import plots, words
from preceptor.evaluate.drawing import Picture
from preceptor.evaluate.measures import GROUPS
from preceptor.evaluate.quantised import in_a_sentence
from preceptor.evaluate.report import (
    MEASURES,
    ArmReport,
    Matrix,
    Measured,
    Report,
    Undefined,
    Value,
)

SHOWN_TERMS = 6
_TONES = {"helped": "good", "hurt": "bad", "no difference seen": "even"}
_NOTES = "Intervals come from resampling seeds and test items at once."

_RATIO_TILES = (
    ("quality", "of the teacher's quality kept"),
    ("bytes", "size, teacher / student"),
    ("latency", "latency, teacher / student"),
)


class Table(NamedTuple):
    """Column heads, and rows of a name with its values."""

    heads: tuple[str, ...]
    rows: list[tuple[str, list[Measured]]]


def summary(report: Report) -> Table:
    """The table that a run ends with: one row an arm."""
    unmeasured = Undefined("not measured")
    # What writes text has no classes to be calibrated on.
    sixth = "ece" if report.classes else "kl_teacher_model"
    rows: list[tuple[str, list[Measured]]] = []
    for arm in report.arms:
        gained = [each for each in report.differences if each.of == arm.name][:1]
        measure, alone = arm.measures.get, Undefined("it is compared with none")
        own = Undefined("it is the teacher" if arm.role == "teacher" else "not asked for")
        rows.append(
            (
                arm.name,
                [
                    measure(report.primary, unmeasured),
                    gained[0].gain if gained else alone,
                    gained[0].share if gained else alone,
                    measure("agreement", measure("token_agreement", own)),
                    measure(sixth, own if sixth == "kl_teacher_model" else unmeasured),
                    measure("parameters", unmeasured),
                    measure("latency_p50", unmeasured),
                ],
            )
        )
    heads = (
        "arm",
        MEASURES[report.primary],
        "against its control",
        "gap closed",
        "agrees with teacher",
        "calibration error" if report.classes else MEASURES[sixth],
        "parameters",
        "latency",
    )
    return Table(heads, rows)


def render_html(report: Report, drawn: Callable[[Picture], Markup] = Picture.drawn) -> str:
    """One page that needs nothing else: styles and pictures are in it, and no script is.

    `drawn` draws a picture, or has it already.
    """
    class_arms = [arm.name for arm in report.arms if arm.role == "teacher"]
    class_arms += [report.student] + ([report.control] if report.control else [])
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            colours=plots.palette(report),
            tone=_TONES.get(report.verdict.kind, "open"),
            tiles=_tiles(report),
            summary=summary(report),
            notes=_NOTES,
            primary=_capital(MEASURES[report.primary]),
            plots=[
                (title, "" if each is None else drawn(each), caption)
                for title, each, caption in _pictures(report)
            ],
            measures=_measures(report),
            by_seed=_by_seed(report),
            class_arms=class_arms,
            rankings=[
                (each, list(each.lines()), drawn(plots.ranking(each))) for each in report.rankings
            ],
            rounded=in_a_sentence(report.quantised) if report.quantised else "",
            phases=[(name, words.in_words(value)) for name, value in report.phases.items()],
        )
    )


def environment() -> Environment:
    """Templates with every value escaped, and values shown in words."""
    found = Environment(
        loader=PackageLoader("preceptor.evaluate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    found.filters |= {"estimate": words.estimate, "limits": words.limits, "why": words.why}
    return found


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _tiles(report: Report) -> list[tuple[str, Measured]]:
    main = report.difference(report.student, report.control or "")
    teacher = [arm for arm in report.arms if arm.role == "teacher"]
    label = MEASURES[report.primary]
    tiles = [(f"{label}, {arm.name}", arm.measures[report.primary]) for arm in teacher]
    for name in filter(None, (report.student, report.control)):
        tiles.append((f"{label}, {name}", report.arm(name).measures[report.primary]))
    if main:
        tiles.append(("gained over the control", main.gain))
        tiles.append(("of the gap closed", main.share))
    tiles += [(label, report.ratios[name]) for name, label in _RATIO_TILES if name in report.ratios]
    return tiles


class Group(NamedTuple):
    """Measures of one kind: the arms that have any of them, and a row a measure."""

    title: str
    arms: list[str]
    rows: list[tuple[str, list[Measured]]]


def _measures(report: Report) -> list[Group]:
    """Groups of measures of which some arm has a number; of fidelity also why there is none."""
    nothing = Undefined("it does not apply")
    groups: list[Group] = []
    for title, names in GROUPS.items():
        shown = [arm for arm in report.arms if _has(arm, names)]
        told = title.startswith("Fidelity")
        rows = [
            (label, [arm.measures.get(name, nothing) for arm in shown])
            for name, label in names.items()
            if any(_has(arm, (name,)) or (told and name in arm.measures) for arm in shown)
        ]
        groups += [Group(title, [arm.name for arm in shown], rows)] if rows else []
    return groups


def _has(arm: ArmReport, names: Iterable[str]) -> bool:
    return any(isinstance(arm.measures.get(name), Value) for name in names)


def _by_seed(report: Report) -> list[tuple[str, list[Measured]]]:
    shared = "one model for all seeds"
    return [
        (
            str(seed),
            [arm.by_seed[i] if i < len(arm.by_seed) else Undefined(shared) for arm in report.arms],
        )
        for i, seed in enumerate(report.seeds)
    ]


def _pictures(report: Report) -> list[tuple[str, Picture | None, str]]:
    """Title, picture, caption; no picture where the caption says why."""
    found: list[tuple[str, Picture | None, str]] = []
    many = len(report.classes) > 20
    what = _capital(MEASURES[report.primary])
    if (sized := plots.against(report, "parameters", "parameters")) is not None:
        caption = "Bars are 95 % intervals. Arms of one size stand side by side."
        found.append((f"{what} against size", sized, caption))
    if (timed := plots.against(report, "latency_p50", "latency, ms", scale=1e3)) is not None:
        found.append((f"{what} against latency", timed, report.timing))
    if (gained := plots.gains(report)) is not None:
        caption = "Student minus control, sorted; lines are 95 % intervals."
        caption += " The ten that gain most and the ten that gain least." if many else ""
        found.append(("Gain of each class", gained, caption))
    if report.reliability:
        of_tokens = "" if report.classes else "of its next token "
        found.append(
            (
                "Reliability",
                plots.reliability(report),
                f"On the dashed line a model is as sure {of_tokens}as it is right. Ten bins of "
                "equal mass, all seeds.",
            )
        )
    if not report.classes:
        pass  # What writes text has no classes to compare.
    elif isinstance(report.class_agreement, Undefined):
        found.append(("Agreement by class", None, report.class_agreement.why))
    else:
        picture = plots.matrix(report.class_agreement, "teacher's class", "student's class")
        found.append(("Agreement by class", picture, f"{report.class_agreement.title}, %."))
    if len(report.arms) > 1 and isinstance(report.model_agreement, Matrix):
        least = min(min(row) for row in report.model_agreement.values)
        picture = plots.matrix(report.model_agreement, "", "", least - 0.1 if least > 0.1 else 0.0)
        found.append(("Agreement of models", picture, f"{report.model_agreement.title}, %."))
    if report.layer_map is not None:
        picture = plots.matrix(report.layer_map, "student's layer", "teacher's layer")
        caption = "Alignment (unbiased linear CKA) of features of training examples, %."
        found.append(("Layers that see alike", picture, caption))
    terms = plots.loss_terms(report)
    for term in terms[:SHOWN_TERMS]:
        caption = "Mean over seeds; the band is from the least to the greatest seed."
        if len(terms) > SHOWN_TERMS:
            caption += f" {SHOWN_TERMS} of {len(terms)} terms are drawn; report.json has all."
        found.append((f"Loss: {term}", plots.losses(report, term), caption))
    return found
