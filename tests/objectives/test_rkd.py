import numpy as np
import pytest
import torch

from preceptor.objectives import rkd as module
from preceptor.objectives.base import Objective
from preceptor.objectives.rkd import RKD
from preceptor.types import Batch, Outputs, Signal


def rows(seed: int, count: int = 5, width: int = 3) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def losses(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    terms = RKD(layers=(("s", "t"),)).terms(
        Outputs(student[:, :2], {"s": student}),
        Signal(taps={"t": teacher}),
        Batch(student, mask=mask),
        torch.nn.Module(),
    )
    return terms["rkd.distance"].values, terms["rkd.angle"].values


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def by_loops(student: np.ndarray, teacher: np.ndarray) -> tuple[float, float]:
    """The paper's sums, written out."""
    b = len(student)
    far, wide = [], []
    for e in (student, teacher):
        d = np.array([[np.linalg.norm(x - y) for y in e] for x in e])
        far.append(d / d[d > 0].mean())
        cosines = np.zeros((b, b, b))
        for i in range(b):
            for j in range(b):
                for k in range(b):
                    u, v = e[j] - e[i], e[k] - e[i]
                    if i not in (j, k):
                        cosines[i, j, k] = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        wide.append(cosines)
    return tuple(sum(map(huber, (x - y).ravel())) / x.size for x, y in (far, wide))  # type: ignore


def test_both_terms_are_the_sums_of_plain_loops_with_the_zero_diagonal_counted():
    student, teacher = 5 * rows(0), rows(1, width=4)
    found = [value.item() for value in losses(student, teacher)]
    assert found == pytest.approx(by_loops(student.numpy(), teacher.numpy()), rel=1e-4)


def test_rotation_shift_and_scale_of_the_student_change_nothing():
    student, teacher = rows(0), rows(1)
    turn = torch.linalg.qr(rows(2, 3, 3)).Q
    for found, moved in zip(
        losses(student, teacher), losses(4 * student @ turn - 2, teacher), strict=True
    ):
        torch.testing.assert_close(moved, found, rtol=1e-4, atol=1e-6)
    copied = losses(4 * teacher @ turn - 2, teacher)
    assert max(value.item() for value in copied) < 1e-9


def test_anchors_in_chunks_give_the_same_value_and_gradient(monkeypatch: pytest.MonkeyPatch):
    answers = []
    for numbers in (2**24, 2 * 5 * 8):  # all five anchors at once, or two at a time
        monkeypatch.setattr(module, "_NUMBERS", numbers)
        student = rows(0).requires_grad_()
        far, wide = losses(student, rows(1))
        (far + wide).backward()
        answers.append((far, wide, student.grad))
    torch.testing.assert_close(answers[0], answers[1])


@pytest.mark.parametrize(
    "student", [rows(0, count=1), torch.ones(4, 3), torch.zeros(4, 3), rows(0, count=2)]
)
def test_one_row_or_equal_rows_are_finite(student: torch.Tensor):
    student = student.clone().requires_grad_()
    far, wide = losses(student, student.detach().clone())
    (far + wide).backward()
    assert far.item() == wide.item() == 0
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_equal_rows_of_the_student_do_not_explode_against_a_teacher_that_tells_them_apart():
    student = rows(0)
    student[1] = student[0]
    student.requires_grad_()
    far, wide = losses(student, rows(1))
    (far + wide).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 100


def test_masked_rows_do_not_enter_the_relations_even_as_nan():
    student, teacher = rows(0), rows(1)
    spoilt = torch.cat((student, torch.full((2, 3), torch.nan))).requires_grad_()
    mask = torch.tensor([True] * 5 + [False] * 2)
    far, wide = losses(spoilt, torch.cat((teacher, torch.ones(2, 3))), mask)
    torch.testing.assert_close((far, wide), losses(student, teacher))
    (far + wide).backward()
    assert spoilt.grad is not None
    assert spoilt.grad.isfinite().all()


def test_no_row_that_counts_gives_zero():
    far, wide = losses(rows(0), rows(1), torch.zeros(5, dtype=torch.bool))
    assert far.item() == wide.item() == 0


def test_the_weights_are_the_authors_and_the_terms_unweighted():
    objective: Objective = RKD(layers=(("s", "t"),))
    student, teacher = rows(0), rows(1)
    far, wide = losses(student, teacher)
    whole = objective.on(
        student_logits=student,
        student_taps={"s": student},
        teacher_taps={"t": teacher},
        aux=torch.nn.Module(),
    )
    torch.testing.assert_close(whole, 25 * far + 50 * wide)
