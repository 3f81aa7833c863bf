"""Closed forms against the plain functions and autograd, and against the limits of numbers."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.distributions import Dense, Distribution, Head, Mixture, Projected, Sampled, TopK
from preceptor.errors import ModelError, NeedsError
from preceptor.ops.closed_forms import ClosedForm, FormKind, Sides
from preceptor.ops.divergences import (
    adaptive_kl,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
)
from preceptor.ops.pairing import forward_kl_to

ROWS, CLASSES = 6, 40
PLAIN: dict[FormKind, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": lambda s, **sides: jensen_shannon(beta=s, **sides),
    "skew_kl": lambda s, **sides: skew_kl(skew=s, **sides),
    "skew_reverse_kl": lambda s, **sides: skew_reverse_kl(skew=1 - s, **sides),
    "total_variation": total_variation,
    "adaptive_kl": lambda s, **sides: adaptive_kl(head=s, **sides),
}
SHARED = ("jensen_shannon", "skew_kl", "skew_reverse_kl", "adaptive_kl")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(form: ClosedForm, teacher: Tensor, student: Tensor) -> Tensor:
    share = (form.parameter,) if form.kind in SHARED else ()
    sides = {"teacher": teacher, "student": student, "temperature": form.temperature}
    return PLAIN[form.kind](*share, **sides)


def of(form: ClosedForm, student: Tensor, teacher: Distribution | None, **said: Any) -> Any:
    """Values, and their gradient in the logits."""
    labels = said.pop("labels", None)
    values, slope = Sides(student, teacher, labels, **said).evaluate(form, gradient=True)
    assert slope is not None
    return values, slope / form.temperature


def by_autograd(value: Callable[[Tensor], Tensor], student: Tensor) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    values = value(leaf)
    (grad,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), grad


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("kind", PLAIN)
def test_value_and_gradient_are_autograds(kind: Any, temperature: float, finite: bool) -> None:
    student, teacher = normal(ROWS, CLASSES), normal(ROWS, CLASSES, seed=1)
    for share in (0.1, 0.5, 0.9) if kind in SHARED else (0.5,):
        form = ClosedForm(kind, temperature, share)
        given = student.clone()
        found = of(form, given, Dense(teacher), finite=finite)
        expected = by_autograd(lambda z, form=form: plain(form, teacher, z), student)
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)
        assert torch.equal(given, student)


@pytest.mark.parametrize("kind", [kind for kind in PLAIN if kind != "adaptive_kl"])
def test_the_gradient_is_that_of_finite_differences(kind: Any) -> None:
    teacher, form = normal(2, 7, seed=1), ClosedForm(kind, 1.5, 0.3)
    student, step = normal(2, 7), 1e-6
    _, slope = of(form, student, Dense(teacher))
    for place in range(7):
        moved = torch.zeros_like(student)
        moved[:, place] = step
        up, _ = of(form, student + moved, Dense(teacher))
        down, _ = of(form, student - moved, Dense(teacher))
        torch.testing.assert_close(slope[:, place], (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", PLAIN)
def test_values_without_gradients_are_the_same(kind: Any) -> None:
    student, teacher = normal(ROWS, CLASSES), normal(ROWS, CLASSES, seed=1)
    sides = Sides(student, Dense(teacher), None)
    alone = sides.evaluate(ClosedForm(kind), gradient=False)
    assert alone.slope is None
    torch.testing.assert_close(alone.values, of(ClosedForm(kind), student, Dense(teacher))[0])


@pytest.mark.parametrize("kind", PLAIN)
def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient(kind: Any) -> None:
    logits = normal(ROWS, CLASSES, dtype=torch.float32)
    values, slope = of(ClosedForm(kind, 2.0, 0.3), logits, Dense(logits.clone()))
    torch.testing.assert_close(values, torch.zeros(ROWS), atol=1e-6, rtol=0)
    torch.testing.assert_close(slope, torch.zeros(ROWS, CLASSES), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", [k for k in PLAIN if k != "reverse_kl" and k != "adaptive_kl"])
def test_classes_that_the_teacher_rules_out_are_as_in_the_plain_function(kind: Any) -> None:
    student, teacher = normal(ROWS, CLASSES), normal(ROWS, CLASSES, seed=1)
    teacher[:, ::3] = -torch.inf
    form = ClosedForm(kind, 1.0, 0.3)
    found = of(form, student, Dense(teacher))
    expected = by_autograd(lambda z: plain(form, teacher, z), student)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other)
        assert own.isfinite().all()


@pytest.mark.parametrize("kind", PLAIN)
def test_classes_that_both_rule_out_are_as_if_they_were_not_there(kind: Any) -> None:
    student, teacher = normal(ROWS, CLASSES), normal(ROWS, CLASSES, seed=1)
    form = ClosedForm(kind, 1.0, 0.3)
    few = of(form, student[:, 7:], Dense(teacher[:, 7:]))
    student[:, :7], teacher[:, :7] = -torch.inf, -torch.inf
    values, slope = of(form, student, Dense(teacher))
    torch.testing.assert_close(values, few[0])
    torch.testing.assert_close(slope[:, 7:], few[1])
    assert not slope[:, :7].any()


@pytest.mark.parametrize("kind", ["jensen_shannon", "skew_kl", "skew_reverse_kl", "forward_kl"])
def test_confident_and_disjoint_sides_stay_finite(kind: Any) -> None:
    student = torch.tensor([[300.0, 0.0, 0.0], [0.0, 90.0, 0.0]])
    teacher = torch.tensor([[0.0, 300.0, 0.0], [90.0, 0.0, 0.0]])
    form = ClosedForm(kind, 1.0, 0.1)
    values, slope = of(form, student, Dense(teacher), finite=True)
    exact = plain(form, teacher.double(), student.double())
    torch.testing.assert_close(values, exact.float(), rtol=1e-5, atol=1e-6)
    assert slope.isfinite().all()


@pytest.mark.parametrize("apart", [3.0, 1e-2])
@pytest.mark.parametrize("kind", PLAIN)
def test_float32_keeps_its_digits_also_near_the_teacher(kind: Any, apart: float) -> None:
    teacher = normal(ROWS, 4096)
    student = teacher + apart / 3 * normal(ROWS, 4096, seed=1)
    # What float32 holds of both is the input; only the arithmetic is judged.
    teacher, student = teacher.float(), student.float()
    form = ClosedForm(kind, 1.0, 0.5)
    _, slope = of(form, student, Dense(teacher), finite=True)
    _, exact = of(form, student.double(), Dense(teacher.double()), finite=True)
    assert float((slope - exact).norm() / exact.norm()) < 2e-4


def test_the_label_of_a_position_without_one_adds_nothing() -> None:
    student = normal(ROWS, CLASSES)
    labels = torch.tensor([3, -1, 0, 39, -1, 7])
    values, slope = of(ClosedForm("cross_entropy"), student, None, labels=labels)
    expected = by_autograd(
        lambda z: F.cross_entropy(z, labels, ignore_index=-1, reduction="none"), student
    )
    torch.testing.assert_close((values, slope), expected)


def top_k(teacher: Tensor, k: int, temperature: float) -> TopK:
    log_p = torch.log_softmax(teacher / temperature, dim=-1)
    kept, ids = log_p.topk(k, dim=-1)
    tail = log_p.scatter(-1, ids, -torch.inf).logsumexp(dim=-1)
    return TopK(ids, kept, tail, temperature, teacher.shape[-1])


def missing_entries(found: TopK) -> TopK:
    """Two rows keep fewer than k: what is left goes to the tail."""
    ids, log_p, tail = found.ids.clone(), found.log_p.clone(), found.log_tail.clone()
    for row, kept in ((0, 2), (1, 0)):
        tail[row] = torch.logaddexp(tail[row], log_p[row, kept:].logsumexp(dim=-1))
        ids[row, kept:], log_p[row, kept:] = -1, -torch.inf
    return TopK(ids, log_p, tail, found.temperature, found.classes)


@pytest.mark.parametrize("k", [5, CLASSES])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_forward_kl_over_top_k_bins_is_autograds(k: int, temperature: float) -> None:
    student = normal(ROWS, CLASSES)
    whole = top_k(normal(ROWS, CLASSES, seed=1), k, temperature)
    for teacher in (whole, missing_entries(whole)):
        found = of(ClosedForm("forward_kl", temperature), student, teacher)
        expected = by_autograd(lambda z, t=teacher: forward_kl_to(t, z, temperature), student)
        torch.testing.assert_close(found, expected)


def test_all_classes_of_a_top_k_are_the_whole_teacher() -> None:
    student, teacher = normal(ROWS, CLASSES), normal(ROWS, CLASSES, seed=1)
    form = ClosedForm("forward_kl")
    torch.testing.assert_close(
        of(form, student, top_k(teacher, CLASSES, 1.0)), of(form, student, Dense(teacher))
    )


def test_forward_kl_to_draws_is_autograds_also_where_nothing_was_drawn() -> None:
    student = normal(3, CLASSES)
    ids = torch.tensor([[4, 9, 1], [0, 7, -1], [-1, -1, -1]])
    counts = torch.tensor([[10, 3, 1], [2, 5, 0], [0, 0, 0]])
    entropy = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    teacher = Sampled(ids, counts, entropy, 1.0, CLASSES)
    found = of(ClosedForm("forward_kl"), student, teacher)
    expected = by_autograd(lambda z: forward_kl_to(teacher, z, 1.0), student)
    torch.testing.assert_close(found, expected)


def test_a_mixture_is_read_as_its_probabilities() -> None:
    student = normal(ROWS, CLASSES)
    members = Dense(normal(ROWS, CLASSES, seed=1)), Dense(normal(ROWS, CLASSES, seed=2))
    weights = torch.tensor([[0.25] * ROWS, [0.75] * ROWS], dtype=torch.float64)
    mixed = 0.25 * members[0].log_probs(2.0).exp() + 0.75 * members[1].log_probs(2.0).exp()
    form = ClosedForm("reverse_kl", 2.0)
    torch.testing.assert_close(
        of(form, student, Mixture(members, weights)), of(form, student, Dense(2 * mixed.log()))
    )


def test_several_forms_share_what_they_read_and_leave_it_whole() -> None:
    student, teacher = normal(ROWS, CLASSES), Dense(normal(ROWS, CLASSES, seed=1))
    labels = torch.arange(ROWS)
    forms = [ClosedForm(kind) for kind in (*PLAIN, "cross_entropy", *PLAIN)]
    sides = Sides(student, teacher, labels)
    for form in forms:
        together = sides.evaluate(form, gradient=True)
        torch.testing.assert_close(
            tuple(together), tuple(Sides(student, teacher, labels).evaluate(form, gradient=True))
        )
        assert together.slope is not None
        together.slope.fill_(torch.nan)


def test_half_precision_is_read_in_float32() -> None:
    student, teacher = normal(ROWS, CLASSES).bfloat16(), normal(ROWS, CLASSES, seed=1).bfloat16()
    for kind in PLAIN:
        found = of(ClosedForm(kind), student, Dense(teacher))
        expected = of(ClosedForm(kind), student.float(), Dense(teacher.float()))
        torch.testing.assert_close(found, expected)
        assert found[1].dtype == torch.float32


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
        (torch.float64, torch.float16),
    ],
)
def test_the_sides_may_have_other_precisions(
    kind: Any, student: torch.dtype, teacher: torch.dtype
) -> None:
    form = ClosedForm(kind, 2.0, 0.3)
    own, theirs = normal(ROWS, CLASSES).to(student), normal(ROWS, CLASSES, seed=1).to(teacher)
    values, grad = of(form, own, Dense(theirs))
    assert values.dtype == grad.dtype == student
    expected, slope = by_autograd(lambda z: plain(form, theirs.double(), z), own.double())
    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["reverse_kl", "adaptive_kl"])
def test_mass_where_the_teacher_has_none_is_infinite_and_not_nan(kind: Any) -> None:
    teacher = normal(ROWS, CLASSES)
    teacher[:, ::3] = -torch.inf
    values, _ = of(ClosedForm(kind), normal(ROWS, CLASSES, seed=1), Dense(teacher))
    assert (values == torch.inf).all()


def test_no_positions_are_no_numbers() -> None:
    nothing = torch.zeros(0, CLASSES)
    for kind in PLAIN:
        values, slope = of(ClosedForm(kind), nothing, Dense(nothing))
        assert values.shape == (0,)
        assert slope.shape == (0, CLASSES)


def test_what_a_form_covers() -> None:
    dense, few = Dense(normal(ROWS, CLASSES)), top_k(normal(ROWS, CLASSES), 3, 1.0)
    projected = Projected(normal(ROWS, 4), Head(normal(CLASSES, 4)))
    assert ClosedForm("reverse_kl").covers(dense)
    assert ClosedForm("reverse_kl").covers(projected)
    assert ClosedForm("forward_kl").covers(few)
    assert not ClosedForm("reverse_kl").covers(few)
    assert not ClosedForm("forward_kl").covers(None)
    assert ClosedForm("cross_entropy").covers(None)


def test_another_temperature_than_the_teachers_is_refused() -> None:
    student = normal(ROWS, CLASSES)
    for teacher in (Dense(student, temperature=2.0), top_k(student, 3, 2.0)):
        with pytest.raises(NeedsError, match="they exist at 2 alone"):
            Sides(student, teacher, None).evaluate(ClosedForm("forward_kl"), gradient=True)


def test_another_number_of_classes_is_refused() -> None:
    student = normal(ROWS, CLASSES)
    with pytest.raises(ModelError, match="over 39 classes"):
        of(ClosedForm("forward_kl"), student, Dense(student[:, 1:]))


def test_sides_of_different_precision_are_read_in_the_students() -> None:
    student, teacher = normal(ROWS, CLASSES), normal(ROWS, CLASSES, seed=1).float()
    for kind in PLAIN:
        found = of(ClosedForm(kind), student, Dense(teacher))
        assert found[1].dtype == torch.float64
        torch.testing.assert_close(
            found, of(ClosedForm(kind), student, Dense(teacher.double())), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", PLAIN)
def test_nothing_outlives_its_block_until_it_is_looked_for(kind: Any) -> None:
    gc.collect()
    gc.disable()
    try:
        sides = Sides(normal(ROWS, CLASSES), Dense(normal(ROWS, CLASSES, seed=1)), None)
        sides.evaluate(ClosedForm(kind), gradient=True)
        student = weakref.ref(sides.student)
        del sides
        assert student() is None
    finally:
        gc.enable()
