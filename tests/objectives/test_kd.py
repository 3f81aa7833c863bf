import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from preceptor.objectives.ce import CE
from preceptor.objectives.dkd import DKD
from preceptor.objectives.grouped_kd import GroupedKD
from preceptor.objectives.kd import KD
from preceptor.objectives.logit_regression import LogitRegression
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_t_squared_times_scipys_relative_entropy(temperature: float) -> None:
    t, s = pair(6, 7)
    p, q = softmax(t.numpy() / temperature, axis=-1), softmax(s.numpy() / temperature, axis=-1)
    expected = temperature**2 * np.array([entropy(p[i], q[i]) for i in range(6)])
    ours = terms_of(KD(temperature=temperature), t, s)["kd"].values
    torch.testing.assert_close(ours, torch.from_numpy(expected))


def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient() -> None:
    t, _ = pair(6, 7)
    s = t.clone().requires_grad_()
    loss = loss_on(KD(), student_logits=s, teacher_logits=t)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient(loss, s), torch.zeros_like(t))


def test_a_constant_added_to_a_row_changes_neither_loss_nor_gradient() -> None:
    t, s = pair(6, 7)
    shift = torch.linspace(-30, 30, 6, dtype=torch.float64).unsqueeze(-1)
    plain, moved = s.clone().requires_grad_(), (s + shift).requires_grad_()
    loss = loss_on(KD(), student_logits=plain, teacher_logits=t)
    other = loss_on(KD(), student_logits=moved, teacher_logits=t - shift)
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(gradient(other, moved), gradient(loss, plain))


def test_the_gradient_is_t_times_the_difference_of_probabilities() -> None:
    t, s = pair(6, 7)
    s.requires_grad_()
    loss = loss_on(KD(temperature=4.0), student_logits=s, teacher_logits=t)
    q, p = softmax(s.detach().numpy() / 4, axis=-1), softmax(t.numpy() / 4, axis=-1)
    torch.testing.assert_close(gradient(loss, s), torch.from_numpy(4 * (q - p) / 6))


def test_at_high_temperature_the_gradient_is_that_of_centred_squares() -> None:
    # Hinton et al., equation 4: (s - t) / K for centred logits; half of mean squares' gradient.
    t, s = pair(6, 7)
    s.requires_grad_()
    hot = gradient(loss_on(KD(temperature=1e4), student_logits=s, teacher_logits=t), s)
    centred = (s - s.mean(-1, keepdim=True) - t + t.mean(-1, keepdim=True)).detach()
    torch.testing.assert_close(hot, centred / 7 / 6, rtol=1e-2, atol=1e-5)
    squares = loss_on(LogitRegression(centred=True), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(hot, gradient(squares, s) / 2, rtol=1e-2, atol=1e-5)


def test_the_t_squared_keeps_the_gradients_scale() -> None:
    t, s = pair(64, 7)
    s.requires_grad_()
    sizes = [
        gradient(loss_on(KD(temperature=temperature), student_logits=s, teacher_logits=t), s).norm()
        for temperature in (8.0, 16.0)
    ]
    # Without it the second would be a quarter of the first.
    assert float(sizes[1] / sizes[0]) == pytest.approx(1.0, abs=0.25)


def test_kd_is_its_target_part_and_its_other_classes_weighted_by_what_is_left() -> None:
    t, s = pair(6, 7)
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    parts = terms_of(DKD(alpha=1.0, beta=1.0, temperature=2.0), t, s, labels)
    p_label = torch.softmax(t / 2, -1)[torch.arange(6), labels]
    whole = parts["dkd.target"].values + (1 - p_label) * parts["dkd.others"].values
    torch.testing.assert_close(whole, terms_of(KD(temperature=2.0), t, s)["kd"].values)


@pytest.mark.parametrize(
    "groups", [((0, 3), (1, 2, 4)), ((0, 1, 2, 3, 4),), ((4,), (0, 1), (2, 3))]
)
def test_kd_is_the_coupled_grouped_kd_of_any_partition(groups) -> None:
    t, s = pair(6, 5)
    whole = sum(term.values for term in terms_of(GroupedKD(groups=groups), t, s).values())
    torch.testing.assert_close(whole, terms_of(KD(), t, s)["kd"].values)


def test_a_batch_that_stands_twice_has_the_same_loss() -> None:
    t, s = pair(6, 7)
    once = loss_on(KD(), student_logits=s, teacher_logits=t)
    twice = loss_on(KD(), student_logits=torch.cat([s, s]), teacher_logits=torch.cat([t, t]))
    torch.testing.assert_close(twice, once)


def test_one_example_is_a_batch() -> None:
    t, s = pair(1, 7)
    assert loss_on(KD(), student_logits=s, teacher_logits=t).isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32_within_a_thousandth(dtype: torch.dtype) -> None:
    t, s = (x.to(dtype) for x in pair(6, 7))
    low = loss_on(KD(), student_logits=s, teacher_logits=t)
    assert low.dtype == torch.float32
    high = loss_on(KD(), student_logits=s.double(), teacher_logits=t.double())
    assert float(low) == pytest.approx(float(high), rel=1e-3)


def test_enormous_logits_give_numbers() -> None:
    t = torch.tensor([[1e4, -1e4, 0.0]])
    s = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    loss = loss_on(KD(), student_logits=s, teacher_logits=t)
    assert loss.isfinite()
    assert gradient(loss, s).isfinite().all()


def test_a_teacher_that_was_left_attached_gets_no_gradient() -> None:
    t, s = (x.requires_grad_() for x in pair(6, 7))
    loss_on(KD(), student_logits=s, teacher_logits=t).backward()
    assert t.grad is None


# Defects of other libraries.


def test_the_scale_does_not_depend_on_whether_labels_are_there() -> None:
    # torchdistill 1.1.5's KDLoss leaves T^2 out where it is given no labels.
    t, s = pair(6, 7)
    labels = torch.tensor([0, 1, 2, 3, 4, -1])
    alone = loss_on(KD(), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(
        loss_on(KD(), student_logits=s, teacher_logits=t, labels=labels), alone
    )
    mixed = 0.1 * CE() + 0.9 * KD()
    expected = 0.1 * loss_on(CE(), student_logits=s, labels=labels) + 0.9 * alone
    both = loss_on(mixed, student_logits=s, teacher_logits=t, labels=labels)
    torch.testing.assert_close(both, expected)


def test_classes_are_on_the_last_axis_of_sequences_too() -> None:
    # torchdistill's KDLoss takes axis 1, which is time here.
    t, s = pair(2, 3, 7)
    values = terms_of(KD(), t, s)["kd"].values
    flat = terms_of(KD(), t.flatten(0, 1), s.flatten(0, 1))["kd"].values
    torch.testing.assert_close(values.flatten(), flat)


def test_a_weight_multiplies_the_loss_and_nothing_else() -> None:
    t, s = pair(6, 7)
    once = loss_on(KD(), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(loss_on(3.0 * KD(), student_logits=s, teacher_logits=t), 3 * once)


def test_probabilities_are_compared_and_not_their_squares() -> None:
    # KD_Lib's default is a mean square of probabilities at T = 20: near zero for any student.
    t, s = pair(64, 7)
    theirs = (torch.softmax(t / 20, -1) - torch.softmax(s / 20, -1)).square().mean()
    assert float(loss_on(KD(temperature=20.0), student_logits=s, teacher_logits=t)) > 1000 * float(
        theirs
    )


@pytest.mark.parametrize("over", ["all", "teacher_written"])
def test_slices_of_a_projection_are_the_whole(over: str) -> None:
    assert_slices_are_the_whole(KD(over=over))
