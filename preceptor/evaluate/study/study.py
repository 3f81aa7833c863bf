"""A study: what every comparison of a grid came to together, as JSON of a stated version."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from preceptor.errors import StorageError
from preceptor.evaluate.report import Measured, Value, typed

SCHEMA = "preceptor.study/1"
Answer = Literal["yes", "no", "not shown"]


@final
@dataclass(frozen=True)
class Finding:
    """A question, its answer by rule, and the sentences with the numbers behind it."""

    question: str
    answer: Answer
    sentences: tuple[str, ...]


@final
@dataclass(frozen=True)
class TaskRow:
    """One task: averages over students, teachers and methods; limits over seeds and test items."""

    task: str
    items: int
    commonest: float
    teacher: Measured
    control: Measured
    taught: Measured
    gain: Measured


@final
@dataclass(frozen=True)
class GroupRow:
    """One student, teacher, method or option: averages over tasks, of which limits are taken.

    `parameters` is the mean over tasks; `chosen` counts places where an option was chosen on
    validation, and `against_first` is how much more an option gives, used everywhere, than the
    first one, task by task.
    """

    name: str
    parameters: float
    control: Measured
    taught: Measured
    gain: Measured
    agreement: Measured
    chosen: int
    against_first: Measured


@final
@dataclass(frozen=True)
class CorrelationRow:
    """Spearman's rank correlation of two columns.

    Args:
        first, second: what is correlated.
        across: "tasks", one row a task; "students" or "teachers", ranks within each task.
        rho: with an interval over tasks.
        p: two-sided, by permutation; within tasks where `across` is not "tasks".
        p_holm: adjusted for all correlations of the study.
    """

    first: str
    second: str
    across: str
    rho: Measured
    p: Measured
    p_holm: Measured


@final
@dataclass(frozen=True)
class FidelityRow:
    """A measure of agreement with the teacher: taught, not taught, and the difference."""

    measure: str
    taught: Measured
    control: Measured
    change: Measured


@final
@dataclass(frozen=True)
class SignalRow:
    """What a signal gave on one task: against the control, and against the true signal."""

    task: str
    signal: str
    gain: Measured
    against_true: Measured


@final
@dataclass(frozen=True)
class PlaceRow:
    """One place of the grid, mean over seeds, at the option that was chosen there.

    `measures` has every measure by name; `values` has those that the page shows, with limits over
    seeds and test items: for these trained models and this task.
    """

    task: str
    student: str
    teacher: str
    method: str
    option: str
    seeds: int
    measures: Mapping[str, float]
    values: Mapping[str, Measured] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Trouble:
    """A cell whose numbers were not finite ("collapsed"), that knows nothing, or that failed."""

    cell: str
    state: str
    why: str


@final
@dataclass(frozen=True)
class Study:
    """What a study showed, made by `study.assembly.build_study`.

    `mean_gain` is over tasks, and `small_minus_large` how much more the smallest student gained
    than the largest. `seconds` are of processor time, all cells together.
    """

    schema: str
    name: str
    findings: tuple[Finding, ...]
    mean_gain: Measured
    small_minus_large: Measured
    tasks: tuple[TaskRow, ...]
    students: tuple[GroupRow, ...]
    teachers: tuple[GroupRow, ...]
    methods: tuple[GroupRow, ...]
    options: tuple[GroupRow, ...]
    correlations: tuple[CorrelationRow, ...]
    fidelity: tuple[FidelityRow, ...]
    signals: tuple[SignalRow, ...]
    places: tuple[PlaceRow, ...]
    troubles: tuple[Trouble, ...]
    seeds: tuple[int, ...]
    cells: int
    comparisons: int
    seconds: float
    recipe: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str]

    def to_json(self) -> str:
        """As JSON text; `from_json` gives back an equal study."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Study":
        """Read what `to_json` wrote, in this version's schema."""
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise _unreadable(f"the study breaks off or is no JSON ({error})") from None
        seen = plain.get("schema") if isinstance(plain, dict) else None
        if seen != SCHEMA:
            raise _unreadable(f"the study's schema is {seen!r}, and this version reads {SCHEMA!r}")
        try:
            return typed(Study, plain)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(f"a field is missing or of another type ({error!r})") from None


def _unreadable(seen: str) -> StorageError:
    return StorageError(seen, "it cannot be read", "Make it again: preceptor study RECIPE.")


def rho_value(estimate: float, low: float | None, high: float | None, n: int) -> Value:
    """A rank correlation over n rows."""
    return Value(estimate, low, high, n, "rho")
