"""A report: every number with its interval, frozen, as JSON of a stated version."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from preceptor.errors import DataError, StorageError, nearest
from preceptor.evaluate.contamination import Contamination
from preceptor.evaluate.diagnosis import Finding
from preceptor.evaluate.measures import LESS_IS_BETTER as LESS_IS_BETTER
from preceptor.evaluate.measures import MEASURES as MEASURES
from preceptor.evaluate.rankings import TeacherRanking

SCHEMA = "preceptor.report/3"
Kind = Literal["helped", "hurt", "no difference seen", "not enough seeds", "not known"]
Role = Literal["teacher", "independent", "student", "control", "plain"]


@dataclass(frozen=True)
class Value:
    """An estimate, its 95 % limits (null where none can be had), what it was taken over, its unit.

    `n` counts test items where items were resampled, seeds where only seeds were, rounds for
    latencies, and is 1 for what is exact.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    unit: str


@dataclass(frozen=True)
class Undefined:
    """A number that does not exist here, and why."""

    why: str


Measured = Value | Undefined


@dataclass(frozen=True)
class ArmReport:
    """An arm's measures, and the primary one under each seed."""

    name: str
    role: Role
    measures: Mapping[str, Measured]
    by_seed: tuple[Value, ...]
    unlabelled: int


@dataclass(frozen=True)
class Difference:
    """How much better one arm is than another, in the primary measure, over seeds and items.

    `gain` is positive where `of` is better, whether more or less is better. `p` is two-sided (sign
    flips over seeds; with one seed McNemar's, or sign flips over items), `p_holm` is adjusted for
    all the differences of the report, `smallest` is what this setting would have seen four times
    in five, `at_least` is the gain's lower limit (less than that is ruled out, which a large p does
    not do), and `share` is the part of the way from the other arm
    to the teacher that was gone.
    """

    of: str
    versus: str
    gain: Value
    p: Value
    p_holm: Value
    smallest: Value
    at_least: Value
    share: Measured


@dataclass(frozen=True)
class ClassReport:
    """A class, or another slice of the test items, under teacher, student and control.

    `accuracy` is the primary measure of each, `agreement` how often student and control answer as
    the teacher does, `gain` the student's over the control.
    """

    name: str
    items: int
    accuracy: Mapping[str, Value]
    agreement: Mapping[str, Value]
    gain: Measured


@dataclass(frozen=True)
class Curve:
    """A loss term over steps: mean, least and greatest over seeds, each in a window of steps."""

    arm: str
    term: str
    steps: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence, accuracy and items of each bin, all seeds pooled."""

    arm: str
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class Matrix:
    """Numbers by row and column."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LayerPair:
    """A layer of the student's and the teacher's at the same share of the depth, by tap.

    By arm: `cka`, the unbiased linear alignment with the teacher's features; `procrustes`, what a
    rotation brings together; `rank`, the effective rank of the arm's features, and the teacher's.
    """

    student: str
    teacher: str
    cka: Mapping[str, Measured]
    procrustes: Mapping[str, Measured]
    rank: Mapping[str, Measured]


@dataclass(frozen=True)
class Quantised:
    """The primary measure before and after weights were rounded to 8 bits, by arm.

    `change` is what an arm gained by it, negative where it lost; `more` is the student's change
    minus its control's: negative where the student is the worse to quantise.
    """

    before: Mapping[str, Value]
    after: Mapping[str, Value]
    change: Mapping[str, Value]
    more: Measured


@dataclass(frozen=True)
class Licence:
    """The terms of something that the student was made from; empty where they are not stated.

    `of` is "teacher", "data" or "student", `source` its name, `where` who states the licence.
    """

    of: str
    source: str
    licence: str
    where: str


@dataclass(frozen=True)
class Verdict:
    """Did the teacher help: a kind, one sentence, and what else must be said."""

    kind: Kind
    headline: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a run showed, made by `assembly.build_report`; `student` and `control` name arms.

    `primary` names the measure that the verdict is about; see `LESS_IS_BETTER`. `rankings` tell
    how the teacher was found, where it was not named; `begun` how the student began, where that was
    inside its teacher; `findings` what speaks for or against the teacher; `clusters` counts the
    groups in which test items were drawn, 0 where each was drawn alone.
    """

    schema: str
    name: str
    primary: str
    student: str
    control: str | None
    verdict: Verdict
    items: int
    seeds: tuple[int, ...]
    arms: tuple[ArmReport, ...]
    differences: tuple[Difference, ...]
    gap: Measured
    ratios: Mapping[str, Measured]
    classes: tuple[ClassReport, ...]
    slices: Mapping[str, tuple[ClassReport, ...]]
    class_agreement: Matrix | Undefined
    model_agreement: Matrix | Undefined
    reliability: tuple[ReliabilityCurve, ...]
    curves: tuple[Curve, ...]
    timing: str
    recipe: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    phases: Mapping[str, Value]
    warnings: tuple[str, ...]
    rankings: tuple[TeacherRanking, ...] = ()
    layers: tuple[LayerPair, ...] = ()
    layer_map: Matrix | None = None
    contamination: Contamination | None = None
    licences: tuple[Licence, ...] = ()
    quantised: Quantised | None = None
    findings: tuple[Finding, ...] = ()
    begun: str = ""
    clusters: int = 0

    def arm(self, name: str) -> ArmReport:
        """The arm of that name."""
        arms = {arm.name: arm for arm in self.arms}
        if name not in arms:
            raise DataError(
                f"the arm {name!r} was asked",
                f"the report has {', '.join(arms)}",
                f"Nearest: {nearest(name, arms)}.",
            )
        return arms[name]

    def difference(self, of: str, versus: str) -> Difference | None:
        """The paired difference of two arms, where it was taken."""
        pairs = {(each.of, each.versus): each for each in self.differences}
        return pairs.get((of, versus))

    def to_json(self) -> str:
        """As JSON text; `from_json` gives back an equal report."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Report":
        """Read what `to_json` wrote, in this version's schema."""
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise StorageError(
                f"the report breaks off or is no JSON ({error})",
                "it must be whole to be read",
                "Make it again from its run.",
            ) from None
        seen = plain.get("schema") if isinstance(plain, dict) else None
        if seen != SCHEMA:
            raise StorageError(
                f"the report's schema is {seen!r}",
                f"this version reads {SCHEMA!r}",
                "Make it again from its run, or read it with the version that wrote it.",
            )
        try:
            return typed(Report, plain)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"the report says {SCHEMA} and does not keep to it ({error!r})",
                "a field is missing or of another type",
                "Make it again from its run.",
            ) from None


def typed(kind: Any, plain: Any) -> Any:
    """`plain` JSON as an object of type `kind`: dataclasses, tuples, mappings, unions, scalars.

    A field with a default may be missing: what was written before it was thought of.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints, missing = get_type_hints(kind), dataclasses.MISSING
        needed = {each.name for each in dataclasses.fields(kind) if each.default is missing}
        if not needed <= set(plain) <= set(hints):
            raise ValueError(f"{kind} has fields {sorted(hints)}, found {sorted(plain)}")
        return kind(**{name: typed(hints[name], value) for name, value in plain.items()})
    if origin is tuple:
        return tuple(typed(inner[0], each) for each in plain)
    if origin is Mapping:
        return {name: typed(inner[1], each) for name, each in plain.items()}
    if origin in (types.UnionType, typing.Union):
        return _read_either(inner, plain)
    if origin is Literal:
        if plain not in inner:
            raise ValueError(f"{plain!r} is none of {inner}")
        return plain
    if kind is float and isinstance(plain, int):
        return float(plain)
    if not isinstance(plain, kind):
        raise TypeError(f"{plain!r} is no {kind.__name__}")
    return plain


def _read_either(kinds: tuple[Any, ...], plain: Any) -> Any:
    for kind in kinds:
        if kind is type(None):
            if plain is None:
                return None
            continue
        try:
            return typed(kind, plain)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{plain!r} is none of {kinds}")
