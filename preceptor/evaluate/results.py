"""What a finished run hands over to be judged: plain arrays and numbers, nothing that is trained.

Dimension key: n test items, m validation items, v classes, k logged steps, g graded pairs, a
layers of the student, t of the teacher, b bins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from preceptor.errors import DataError, NonFiniteError
from preceptor.evaluate.contamination import Contamination
from preceptor.evaluate.diagnosis import Finding
from preceptor.evaluate.report import Licence
from preceptor.evaluate.timing import Timing, Writing

PLAIN = ("control", "smoothing", "longer", "scratch")
"""Names of the arms that meet no teacher; every other arm is a student."""


@dataclass(frozen=True)
class ModelCost:
    """A model's size, and what one example's forward pass takes.

    Args:
        parameters: how many numbers are learned.
        bytes: of parameters and buffers.
        flops: floating-point operations.
        peak: bytes of tensors held at once, the model's own among them; 0 where not measured.
        disk: bytes of the folder that the model is loaded from; 0 where it has none of its own.
    """

    parameters: int
    bytes: int
    flops: int
    peak: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Likeness:
    """A student's layers beside its teacher's.

    Args:
        student: taps, from the input on.
        teacher: likewise.
        cka: unbiased linear alignment of each two layers.
        error: its standard error over examples (jackknife of ten blocks).
        procrustes: of each two layers.
        student_rank: the effective rank of each layer's features.
        teacher_rank: likewise.
        examples: how many there were.
    """

    student: tuple[str, ...]
    teacher: tuple[str, ...]
    cka: Float[np.ndarray, "a t"]
    error: Float[np.ndarray, "a t"]
    procrustes: Float[np.ndarray, "a t"]
    student_rank: Float[np.ndarray, " a"]
    teacher_rank: Float[np.ndarray, " t"]
    examples: int


@dataclass(frozen=True)
class Validation:
    """Logits and labels of held-out training items, for post-hoc temperatures alone."""

    logits: Float[np.ndarray, "m v"]
    labels: Int[np.ndarray, " m"]


@dataclass(frozen=True)
class TrainPart:
    """The same model's answers to some training examples; see `SeedResult` for its fields."""

    labels: Int[np.ndarray, " m"]
    logits: Float[np.ndarray, "m v"] | None = None
    items: Mapping[str, Float[np.ndarray, " m"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Losses:
    """What was logged while training: each term's value at some steps."""

    steps: Int[np.ndarray, " k"]
    terms: Mapping[str, Float[np.ndarray, " k"]]


@dataclass(frozen=True)
class SeedResult:
    """One model, trained under one seed.

    Args:
        seed: the seed's number; arms are paired by it.
        logits: of the test items, or finite log-probabilities; None for what writes text.
        steps: optimizer steps of all stages.
        seconds: of training.
        validation: where given, a temperature is fitted on it and shown before and after.
        losses: where given, drawn in the report.
        items: for what writes text: measures by name, one number a test item.
        train: answers to some training examples; the same examples for all arms.
        finals: for what writes text: the final answer to each test item, as it is compared.
        texts: and all that was written to each.
        layers: its layers beside its teacher's.
        graded: for encoders: how alike it finds the sentences of each graded pair, as cosines.
        reliability: of next tokens: sums of confidence and of hits, and tokens, in bins of equal
            mass (`confidences.Confidences`).
        sizes: of text: bytes of what is scored of each test row, over which its bits are counted.
    """

    seed: int
    logits: Float[np.ndarray, "n v"] | None
    steps: int
    seconds: float
    validation: Validation | None = None
    losses: Losses | None = None
    items: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    train: TrainPart | None = None
    finals: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    layers: Likeness | None = None
    graded: Float[np.ndarray, " g"] | None = None
    reliability: Float[np.ndarray, "b 3"] | None = None
    sizes: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class ArmResult:
    """One way of training, under every seed.

    Args:
        name: "distilled", one of `PLAIN`, or the name of a cohort's member.
        seeds: in one order for all arms; a teacher may have one alone, shared by all.
        cost: of the model.
        versus: the arm that is this arm's control.
        unlabelled: how many images the arm saw without a label.
    """

    name: str
    seeds: tuple[SeedResult, ...]
    cost: ModelCost
    versus: str = "control"
    unlabelled: int = 0


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        name: the recipe's name.
        labels: of the test items, which are the same for every seed and arm; for what writes
            text their numbers alone.
        classes: their names; none for what writes text.
        arms: students and what they are compared with.
        teacher: None where there is nobody to imitate (own exits, peers).
        independent: a teacher like it, from another seed, that no student met; where asked for.
        recipe: the resolved recipe's text.
        timing: latencies by arm name and "teacher"; arms of one architecture may share an entry.
        versions: of the packages.
        hardware: what it ran on, by kind.
        warnings: sentences that a reader must see.
        phases: seconds of each part of the run.
        primary: the measure that the verdict is about.
        slices: by a column's name, each test item's value in it; what is shown slice by slice.
        clusters: which test items belong together, one name an item, and are drawn as one.
        many: seconds of many examples at once, like `timing`.
        writing: how fast those of them that write do so.
        rounded: some of the arms with their weights rounded to 8 bits.
        contamination: test examples found among training examples.
        licences: terms of what the student was made from.
        findings: what was found of the teacher before.
        begun: how the student began, where that was inside its teacher.
        grades: of pairs of sentences, how alike people find them.
        test: a hash of the test items: runs with the same ones may be paired item by item.
    """

    name: str
    labels: Int[np.ndarray, " n"]
    classes: tuple[str, ...]
    arms: tuple[ArmResult, ...]
    teacher: ArmResult | None
    recipe: str
    timing: Timing | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    phases: Mapping[str, float] = field(default_factory=dict)
    primary: str = "accuracy"
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clusters: tuple[str, ...] = ()
    many: Timing | None = None
    rounded: tuple[ArmResult, ...] = ()
    contamination: Contamination | None = None
    licences: tuple[Licence, ...] = ()
    findings: tuple[Finding, ...] = ()
    begun: str = ""
    test: str = ""
    independent: ArmResult | None = None
    writing: Writing | None = None
    grades: Float[np.ndarray, " g"] | None = None

    @property
    def student(self) -> ArmResult:
        """The arm that the verdict is about: "distilled", or else the first that is not plain."""
        named = [arm for arm in self.arms if arm.name == "distilled"]
        students = named or [arm for arm in self.arms if arm.name not in PLAIN]
        if not students:
            raise DataError(
                f"the arms are {', '.join(arm.name for arm in self.arms) or 'none'}",
                "none of them is a student that was taught",
                'Name one "distilled".',
            )
        return students[0]

    @property
    def everybody(self) -> tuple[ArmResult, ...]:
        """The teacher and an independent one, where there are any, and all arms."""
        teachers = (self.teacher, self.independent)
        return (*(each for each in teachers if each is not None), *self.arms)


def check(result: RunResult) -> None:
    """Raise where arms cannot be compared item by item and seed by seed."""
    _check_names(result)
    shape = (len(result.labels), len(result.classes))
    names = [arm.name for arm in result.everybody]
    if len(set(names)) < len(names):
        raise DataError(
            f"the arms are named {', '.join(names)}", "names must differ", "Rename one."
        )
    seeds = [one.seed for one in result.student.seeds]
    for arm in result.everybody:
        own = [one.seed for one in arm.seeds]
        if own != seeds and not (_teaches(arm, result) and len(own) == 1):
            raise DataError(
                f"arm {arm.name!r} has seeds {own}, the student has {seeds}",
                "arms are compared seed by seed",
                "Run the same seeds, in one order, for every arm.",
            )
        for one in arm.seeds:
            if one.logits is None:
                _check_items(arm.name, one, result)
                continue
            if one.logits.shape != shape:
                raise DataError(
                    f"arm {arm.name!r}, seed {one.seed}: logits are {one.logits.shape}",
                    f"{shape[0]} labels and {shape[1]} class names need {shape}",
                    "Score every arm on the same items.",
                )
            if not np.isfinite(one.logits).all():
                bad = int((~np.isfinite(one.logits)).any(axis=-1).sum())
                raise NonFiniteError(
                    f"arm {arm.name!r}, seed {one.seed}: {bad} items have logits of NaN or Inf",
                    "they have no probabilities to measure",
                    "Look at that run's losses; give zero probabilities a finite floor.",
                )
    if result.classes and (
        len(result.labels) == 0 or result.labels.min() < 0 or result.labels.max() >= shape[1]
    ):
        raise DataError(
            "the test labels are none, or outside the classes",
            f"there are {shape[1]} classes, counted from 0",
            "Score labelled items alone.",
        )


def _teaches(arm: ArmResult, result: RunResult) -> bool:
    return arm is result.teacher or arm is result.independent


def _check_names(result: RunResult) -> None:
    """Raise where test items have no name in a column by which they are grouped."""
    for what, names in {"clusters": result.clusters or None, **result.slices}.items():
        if names is not None and len(names) != len(result.labels):
            raise DataError(
                f"{what} names {len(names)} test items",
                f"there are {len(result.labels)}",
                "Give each test item one name.",
            )


def _check_items(arm: str, one: SeedResult, result: RunResult) -> None:
    """Raise where an item has no number, or the primary measure is not there."""
    if result.primary not in one.items:
        raise DataError(
            f"arm {arm!r}, seed {one.seed} was measured in {', '.join(one.items) or 'nothing'}",
            f"the verdict is about {result.primary}",
            "Measure that, or name another primary measure.",
        )
    for name, numbers in one.items.items():
        if len(numbers) != len(result.labels) or not np.isfinite(numbers).all():
            bad = int((~np.isfinite(numbers)).sum())
            raise NonFiniteError(
                f"arm {arm!r}, seed {one.seed}: {name} has {len(numbers)} numbers, {bad} of them "
                "NaN or Inf",
                f"there are {len(result.labels)} test items, and each has one",
                "Look at that run's losses.",
            )
