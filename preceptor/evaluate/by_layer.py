"""What a report says layer by layer: which of the student's see as which of the teacher's.

Dimension key: s seeds, a layers of the student, t of the teacher.
"""

import numpy as np
from jaxtyping import Float
from scipy import special

from preceptor.evaluate.report import LayerPair, Matrix, Measured, Undefined, Value
from preceptor.evaluate.results import Likeness, RunResult
from preceptor.ops.resampling import LEVEL, standard_error


def layer_pairs(result: RunResult) -> tuple[LayerPair, ...]:
    """The student's layers with the teacher's at the same share of the depth, beside the control.

    Intervals of alignments are over seeds and examples together; the other two are over seeds.
    """
    found = _by_arm(result)
    own = found.get(result.student.name)
    if own is None:
        return ()
    first = own[0]
    pairs = [(i, _opposite(i, first)) for i in range(len(first.student))]
    return tuple(
        LayerPair(
            student=first.student[i],
            teacher=first.teacher[j],
            cka={arm: _alignment(each, i, j) for arm, each in found.items()},
            procrustes={
                arm: _over_seeds(np.array([one.procrustes[i, j] for one in each]), "share")
                for arm, each in found.items()
            },
            rank={
                arm: _over_seeds(np.array([one.student_rank[i] for one in each]), "rank")
                for arm, each in found.items()
            }
            | {"teacher": _over_seeds(first.teacher_rank[j : j + 1], "rank")},
        )
        for i, j in pairs
    )


def layer_map(result: RunResult) -> Matrix | None:
    """The alignment of every two layers, meaned over seeds; None where there was none."""
    own = _by_arm(result).get(result.student.name)
    if own is None:
        return None
    mean = np.nan_to_num(np.mean([one.cka for one in own], axis=0))
    return Matrix(
        title="Alignment (unbiased linear CKA) of the student's layers with the teacher's",
        rows=own[0].student,
        columns=own[0].teacher,
        values=tuple(tuple(map(float, row)) for row in mean),
    )


def _by_arm(result: RunResult) -> dict[str, list[Likeness]]:
    """Of the arms of which every seed was compared; all have the student's layers."""
    found = {arm.name: [one.layers for one in arm.seeds if one.layers] for arm in result.arms}
    whole = {
        arm.name: each for arm in result.arms if len(each := found[arm.name]) == len(arm.seeds)
    }
    own = whole.get(result.student.name)
    if own is None:
        return {}
    return {name: each for name, each in whole.items() if each[0].student == own[0].student}


def _opposite(layer: int, of: Likeness) -> int:
    """The teacher's layer at the same share of the depth; the last two meet."""
    return -(-(layer + 1) * len(of.teacher) // len(of.student)) - 1


def _alignment(seeds: list[Likeness], i: int, j: int) -> Measured:
    values = np.array([one.cka[i, j] for one in seeds])
    if np.isnan(values).any():
        return Undefined("a layer's features do not vary")
    over_examples = float(np.mean([one.error[i, j] for one in seeds])) * _normal()
    half = float(np.hypot(over_examples, _half_width(values)))
    mean = float(values.mean())
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Value(mean, min(low, mean), max(high, mean), seeds[0].examples, "correlation")


def _over_seeds(values: Float[np.ndarray, " s"], unit: str) -> Measured:
    if np.isnan(values).any():
        return Undefined("a layer's features do not vary")
    mean = float(values.mean())
    if len(values) == 1:
        return Value(mean, None, None, 1, unit)
    half = _half_width(values)
    return Value(mean, mean - half, mean + half, len(values), unit)


def _half_width(values: Float[np.ndarray, " s"]) -> float:
    """Student's, over seeds; 0 with one."""
    if len(values) < 2:
        return 0.0
    return float(special.stdtrit(len(values) - 1, 0.5 + LEVEL / 2)) * standard_error(values)


def _normal() -> float:
    return float(special.ndtri(0.5 + LEVEL / 2))
