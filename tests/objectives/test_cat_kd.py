import pytest
import torch

from preceptor.errors import ModelError
from preceptor.objectives.cat_kd import CATKD, activation_maps
from preceptor.types import Batch, Head, Outputs, Signal


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values(
    objective: CATKD,
    student: torch.Tensor,
    teacher: torch.Tensor,
    student_head: Head,
    teacher_head: Head,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    terms = objective.terms(
        Outputs(torch.zeros(len(student), 3), {"s": student}, student_head),
        Signal(None, {"t": teacher}, teacher_head),
        Batch(student, mask=mask),
        torch.nn.Module(),
    )
    return terms["cat_kd"].values


PAIR = (("s", "t"),)
STUDENT, TEACHER = randn(0, 2, 4, 4, 4), randn(1, 2, 5, 4, 4)
HEADS = Head(randn(2, 3, 4)), Head(randn(3, 3, 5), randn(4, 3))


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_the_one_of_plain_loops(normalize: bool):
    expected = torch.zeros(2)
    for b in range(2):
        for k in range(3):
            maps = []
            for features, head in ((STUDENT, HEADS[0]), (TEACHER, HEADS[1])):
                cam = sum(head.weight[k, c] * features[b, c] for c in range(features.shape[1]))
                assert isinstance(cam, torch.Tensor)
                pooled = [cam[i : i + 2, j : j + 2].mean() for i in (0, 2) for j in (0, 2)]
                length = sum(p**2 for p in pooled) ** 0.5 if normalize else 1
                maps.append([p / length for p in pooled])
            expected[b] += sum((x - y) ** 2 for x, y in zip(*maps, strict=True)) / 12
    found = values(CATKD(layers=PAIR, normalize=normalize), STUDENT, TEACHER, *HEADS)
    torch.testing.assert_close(found, expected)


def test_activation_maps_averaged_over_space_are_the_logits_without_bias():
    found = activation_maps(TEACHER, HEADS[1]).mean(dim=(2, 3))
    torch.testing.assert_close(found, TEACHER.mean(dim=(2, 3)) @ HEADS[1].weight.T)


def test_scaling_a_classifier_changes_nothing_once_maps_are_normalised():
    scaled = Head(7 * HEADS[0].weight)
    torch.testing.assert_close(
        values(CATKD(layers=PAIR), STUDENT, TEACHER, scaled, HEADS[1]),
        values(CATKD(layers=PAIR), STUDENT, TEACHER, *HEADS),
    )


def test_maps_of_other_sizes_are_compared_on_the_same_square():
    small = TEACHER.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(
        values(CATKD(layers=PAIR), STUDENT, small, *HEADS),
        values(CATKD(layers=PAIR), STUDENT, TEACHER, *HEADS),
    )


def test_the_gradient_reaches_the_students_classifier_and_not_the_teachers():
    heads = [Head(head.weight.clone().requires_grad_()) for head in HEADS]
    values(CATKD(layers=PAIR), STUDENT, TEACHER, heads[0], heads[1]).sum().backward()
    assert heads[0].weight.grad is not None
    assert heads[0].weight.grad.abs().sum() > 0
    assert heads[1].weight.grad is None


def test_dead_maps_are_finite():
    dead = torch.zeros(1, 4, 2, 2, requires_grad=True)
    values(CATKD(layers=PAIR), dead, TEACHER[:1], *HEADS).sum().backward()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


def test_a_masked_example_reaches_no_gradient_even_as_nan():
    weight = HEADS[0].weight.clone().requires_grad_()
    spoilt = STUDENT.clone()
    spoilt[1] = torch.nan
    mask = torch.tensor([True, False])
    found = values(CATKD(layers=PAIR), spoilt, TEACHER, Head(weight), HEADS[1], mask)
    found.sum().backward()
    assert found[1] == 0
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("student", "head", "words"),
    [
        (STUDENT, Head(randn(2, 3, 9)), "4 channels, its classifier reads 9"),
        (randn(0, 2, 4), HEADS[0], "no map"),
        (STUDENT, Head(randn(2, 8, 4)), "8 classes"),
    ],
)
def test_what_is_no_map_under_a_linear_classifier_is_refused(
    student: torch.Tensor, head: Head, words: str
):
    with pytest.raises(ModelError, match=words):
        values(CATKD(layers=PAIR), student, TEACHER, head, HEADS[1])
