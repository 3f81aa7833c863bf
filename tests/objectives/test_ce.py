import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from preceptor.objectives.ce import CE
from preceptor.types import Outputs, Signal
from tests.objectives.by_slices import assert_slices_are_the_whole, batch_of_two
from tests.objectives.random_logits import loss_on, pair


def test_cross_entropy_is_scipys_log_softmax_at_the_label() -> None:
    _, s = pair(6, 7)
    labels = torch.tensor([0, 3, 6, 2, 2, 5])
    expected = -log_softmax(s.numpy(), axis=-1)[np.arange(6), labels.numpy()].mean()
    assert float(loss_on(CE(), student_logits=s, labels=labels)) == pytest.approx(expected)


def test_only_labelled_positions_count() -> None:
    _, s = pair(6, 7)
    labels = torch.tensor([0, -1, 6, -1, 2, 5])
    some = loss_on(CE(), student_logits=s, labels=labels)
    kept = labels >= 0
    torch.testing.assert_close(some, loss_on(CE(), student_logits=s[kept], labels=labels[kept]))


def test_a_batch_without_any_label_has_no_loss_and_a_gradient_of_zero() -> None:
    _, s = pair(3, 7)
    s.requires_grad_()
    loss = loss_on(CE(), student_logits=s, labels=torch.full((3,), -1))
    loss.backward()
    assert float(loss.detach()) == 0
    assert s.grad is not None
    assert not s.grad.any()


def test_sequences_are_positions() -> None:
    _, s = pair(2, 3, 7)
    labels = torch.tensor([[0, 1, -1], [4, 5, 6]])
    flat = loss_on(CE(), student_logits=s.flatten(0, 1), labels=labels.flatten())
    torch.testing.assert_close(loss_on(CE(), student_logits=s, labels=labels), flat)


def test_over_a_named_mask_a_position_without_a_label_counts_and_adds_nothing() -> None:
    _, s = pair(2, 6, 11)
    batch = batch_of_two()
    term = CE(over="student_written").terms(Outputs(s), Signal(), batch, nn.Module())["ce"]
    assert term.over == "student_written"
    assert not term.values[~batch.mask("labelled")].any()
    read = batch.mask("labelled")
    expected = -torch.log_softmax(s, -1).gather(-1, batch.labels.clamp_min(0)[..., None])[..., 0]
    torch.testing.assert_close(term.values[read], expected[read])


@pytest.mark.parametrize("over", ["labelled", "teacher_written"])
def test_slices_of_a_projection_are_the_whole(over: str) -> None:
    assert_slices_are_the_whole(CE(over=over))
