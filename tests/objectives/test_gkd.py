import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax

from preceptor.distributions import Sampled
from preceptor.errors import RecipeError
from preceptor.objectives.gkd import GKD
from preceptor.objectives.kd import KD
from preceptor.objectives.reverse_kl import ReverseKL
from preceptor.types import Needs
from tests.objectives.by_slices import assert_slices_are_the_whole
from tests.objectives.random_logits import gradient, loss_on, pair, terms_of

DRAWS = Needs(kinds=frozenset({"draws"}))


def test_at_a_half_it_is_scipys_jensen_shannon_distance_squared() -> None:
    t, s = pair(6, 7)
    p, q = softmax(t.numpy(), axis=-1), softmax(s.numpy(), axis=-1)
    expected = [jensenshannon(p[i], q[i]) ** 2 for i in range(6)]
    found = terms_of(GKD(), t, s)["gkd"].values
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_beta_is_the_teachers_share() -> None:
    # Trap: other code mixes the other way round under the same name.
    t, s = pair(6, 7)
    p, q = softmax(t.numpy(), axis=-1), softmax(s.numpy(), axis=-1)
    m = 0.9 * p + 0.1 * q
    expected = 0.9 * rel_entr(p, m).sum(-1) + 0.1 * rel_entr(q, m).sum(-1)
    found = terms_of(GKD(beta=0.9), t, s)["gkd"].values
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_the_ends_are_forward_and_reverse_kl_in_value_and_gradient() -> None:
    t, s = pair(6, 7)
    s.requires_grad_()
    for beta, plain in ((0.0, KD(temperature=1.0)), (1.0, ReverseKL())):
        for normalised in (False, True):
            ours = GKD(beta=beta, normalised=normalised)
            loss = loss_on(ours, student_logits=s, teacher_logits=t)
            other = loss_on(plain, student_logits=s, teacher_logits=t)
            torch.testing.assert_close(loss, other)
            torch.testing.assert_close(gradient(loss, s), gradient(other, s))


def test_normalised_it_has_the_same_gradient_near_the_optimum_for_every_beta() -> None:
    t, noise = pair(6, 7)
    s = (t + 1e-3 * noise).requires_grad_()
    plain = gradient(loss_on(KD(temperature=1.0), student_logits=s, teacher_logits=t), s)
    for beta in (0.01, 0.5, 0.99):
        ours = GKD(beta=beta, normalised=True)
        found = gradient(loss_on(ours, student_logits=s, teacher_logits=t), s)
        torch.testing.assert_close(found, plain, rtol=2e-2, atol=1e-6)
        faded = gradient(loss_on(GKD(beta=beta), student_logits=s, teacher_logits=t), s)
        torch.testing.assert_close(faded, beta * (1 - beta) * found)


def test_draws_do_at_zero_and_at_no_other_beta() -> None:
    assert GKD(beta=0.0).needs().unmet_by(DRAWS) == ()
    assert GKD(beta=0.1).needs().unmet_by(DRAWS)
    _, s = pair(2, 7)
    ids = torch.tensor([[1], [2]])
    drawn = Sampled(ids, torch.ones_like(ids), torch.zeros(2, dtype=torch.float64), 1.0, 7)
    values = terms_of(GKD(beta=0.0), drawn, s)["gkd"].values
    torch.testing.assert_close(values, -torch.log_softmax(s, -1).gather(-1, ids).squeeze(-1))


def test_beta_lies_between_its_ends() -> None:
    with pytest.raises(RecipeError, match="beta must be"):
        GKD(beta=1.1)


def test_it_counts_over_the_mask_that_it_names() -> None:
    assert terms_of(GKD(over="student_written"), *pair(2, 7))["gkd"].over == "student_written"
    assert GKD(over="student_written").needs().masks == {"student_written"}
    assert GKD().needs().masks == frozenset()


@pytest.mark.parametrize(
    "objective",
    [GKD(), GKD(beta=0.0), GKD(beta=1.0), GKD(beta=0.1, normalised=True, over="student_written")],
)
def test_slices_of_a_projection_are_the_whole(objective: GKD) -> None:
    assert_slices_are_the_whole(objective)


def test_the_closed_form_says_what_terms_compute() -> None:
    form = GKD(beta=0.2, normalised=True, temperature=2.0, over="x").closed_form()
    assert (form.kind, form.temperature, form.parameter, form.over) == (
        "jensen_shannon",
        2.0,
        0.2,
        "x",
    )
    assert form.factor == pytest.approx(1 / 0.16)
    assert [GKD(beta=b).closed_form().kind for b in (0.0, 1.0)] == ["forward_kl", "reverse_kl"]
