import pytest
import torch
from torch import nn

from preceptor.errors import RecipeError
from preceptor.objectives.distillm2 import DistiLLM2
from preceptor.objectives.reduction import mean_loss
from preceptor.objectives.skew_kl import SkewKL
from preceptor.objectives.skew_reverse_kl import SkewReverseKL
from preceptor.types import Dense, Outputs, Signal
from tests.objectives.by_slices import CLASSES, assert_slices_are_the_whole, batch_of_two
from tests.objectives.random_logits import gradient, pair


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.5])
def test_it_is_both_skewed_kls_on_the_text_of_either_side(beta: float) -> None:
    t, s = pair(2, 6, CLASSES)
    s.requires_grad_()
    batch = batch_of_two()
    shown = Outputs(s), Signal(Dense(t)), batch
    ours = mean_loss(DistiLLM2(beta=beta).terms(*shown, nn.Module()), batch)
    apart = (2 - beta) * SkewKL(over="teacher_written") + beta * SkewReverseKL(
        over="student_written"
    )
    other = mean_loss(apart.terms(*shown, nn.ModuleList([nn.Module(), nn.Module()])), batch)
    torch.testing.assert_close(ours, other)
    torch.testing.assert_close(gradient(ours, s), gradient(other, s))


def test_by_hand_each_part_is_the_mean_over_its_own_tokens() -> None:
    t, s = pair(2, 6, CLASSES)
    batch = batch_of_two()
    p, q = torch.softmax(t, -1), torch.softmax(s, -1)
    up = (p * (p / (0.1 * p + 0.9 * q)).log()).sum(-1)
    down = (q * (q / (0.9 * p + 0.1 * q)).log()).sum(-1)
    written = {who: batch.mask(f"{who}_written") for who in ("teacher", "student")}
    expected = up[written["teacher"]].mean() + down[written["student"]].mean()
    terms = DistiLLM2().terms(Outputs(s), Signal(Dense(t)), batch, nn.Module())
    assert set(terms) == {"distillm2.teacher", "distillm2.student"}
    torch.testing.assert_close(mean_loss(terms, batch), expected)


def test_what_it_reads_is_said() -> None:
    assert DistiLLM2().needs().masks == {"teacher_written", "student_written"}
    assert not DistiLLM2().needs().linear
    with pytest.raises(RecipeError, match="beta must be"):
        DistiLLM2(beta=2.5)


def test_slices_of_a_projection_are_the_whole() -> None:
    assert_slices_are_the_whole(DistiLLM2(beta=1.3))
