import pytest
import torch
from torch.nn import functional as F

from preceptor.objectives.sp import SP

LAYERS = (("s", "t"),)


def maps(seed: int, channels: int = 3, size: int = 2, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)


def loss(student: torch.Tensor, teacher: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
    return SP(layers=LAYERS).on(
        student_logits=student.flatten(1),
        student_taps={"s": student},
        teacher_taps={"t": teacher},
        aux=torch.nn.Module(),
        **more,  # type: ignore[arg-type]
    )


def by_loops(student: torch.Tensor, teacher: torch.Tensor) -> float:
    grams = []
    for features in (student, teacher):
        flat = [f.flatten().tolist() for f in features]
        gram = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in flat] for a in flat]
        lengths = [sum(g * g for g in row) ** 0.5 for row in gram]
        grams.append([[g / n for g in row] for row, n in zip(gram, lengths, strict=True)])
    b = len(student)
    return sum((grams[0][i][j] - grams[1][i][j]) ** 2 for i in range(b) for j in range(b)) / b**2


def test_the_loss_is_the_sum_of_plain_loops_for_layers_of_other_shapes():
    student, teacher = maps(0), maps(1, channels=5, size=3)
    assert loss(student, teacher).item() == pytest.approx(by_loops(student, teacher), rel=1e-5)


def test_rows_are_divided_by_their_euclidean_length_not_by_the_sum_of_sizes():
    student, teacher = maps(0), maps(1)
    wrong = sum(
        sign * F.normalize(f.flatten(1) @ f.flatten(1).T, 1)  # p=1: the slip this guards against
        for sign, f in ((1, student), (-1, teacher))
    )
    assert isinstance(wrong, torch.Tensor)
    assert loss(student, teacher).item() > 1.5 * wrong.square().mean().item()


def test_an_orthogonal_transform_and_a_scale_of_the_student_change_nothing():
    student, teacher = maps(0), maps(1)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2))).Q
    turned = (5 * student.flatten(1) @ turn).view_as(student)
    torch.testing.assert_close(loss(turned, teacher), loss(student, teacher))
    assert loss((teacher.flatten(1) @ turn).view_as(teacher), teacher).item() < 1e-10


def test_dead_maps_and_single_examples_are_finite():
    for student in (
        torch.zeros(4, 3, 2, 2),
        maps(0) * torch.tensor([1.0, 0, 1, 1]).view(4, 1, 1, 1),
    ):
        student = student.clone().requires_grad_()
        loss(student, maps(1)).backward()
        assert student.grad is not None
        assert student.grad.abs().max() < 100
    assert loss(maps(0, count=1), maps(1, count=1)).item() == pytest.approx(0, abs=1e-10)


def test_a_masked_example_changes_nothing():
    student, teacher = maps(0), maps(1)
    mask = torch.tensor([True, True, True, False])
    spoilt = student.clone()
    spoilt[3] = torch.nan
    torch.testing.assert_close(loss(spoilt, teacher, mask=mask), loss(student[:3], teacher[:3]))
