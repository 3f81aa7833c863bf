"""A layer's distance whose gradient is taken at once."""

import pytest
import torch
from torch import Tensor, nn

from preceptor.objectives import attention_maps, hidden_states
from preceptor.objectives.attention_maps import AttentionMaps
from preceptor.ops.allocations import Allocations
from preceptor.ops.streamed import streamed
from tests.objectives.feature_taps import outputs, plain_batch, random_tensor, signal


def distance(student: Tensor) -> Tensor:
    return student.square().sum(dim=(1, 2)).exp().log1p()


def test_values_and_gradients_are_those_of_the_plain_computation() -> None:
    student = (0.3 * random_tensor(3, 4, 5)).double().requires_grad_()
    outer = random_tensor(3, seed=1).double()
    plain, found = distance(student), streamed(distance, student)
    assert torch.equal(found, plain)
    expected = torch.autograd.grad((plain * outer).sum(), student)[0]
    torch.testing.assert_close(torch.autograd.grad((found * outer).sum(), student)[0], expected)


def test_without_gradients_nothing_is_kept() -> None:
    student = random_tensor(2, 3, 4)
    assert not streamed(distance, student).requires_grad
    with torch.no_grad():
        assert not streamed(distance, student.clone().requires_grad_()).requires_grad


def test_an_empty_batch_has_no_value_and_an_empty_gradient() -> None:
    student = torch.zeros(0, 2, 3, requires_grad=True)
    streamed(distance, student).sum().backward()
    assert student.grad is not None
    assert student.grad.shape == (0, 2, 3)


LAYERS, MAP = 6, 4 * 4 * 48 * 48 * 4


def held_by_scoring(monkeypatch: pytest.MonkeyPatch, *, stream: bool) -> tuple[int, int]:
    """Bytes held between the passes, and the most while layers are scored."""
    if not stream:
        monkeypatch.setattr(attention_maps, "streamed", lambda distance, student: distance(student))
    names = [f"b{i}" for i in range(LAYERS)]
    ours = {n: random_tensor(4, 4, 48, 48).softmax(-1).requires_grad_() for n in names}
    theirs = {n: random_tensor(4, 4, 48, 48, seed=1).softmax(-1) for n in names}
    mask = torch.ones(4, 48, dtype=torch.bool)
    objective = AttentionMaps(tuple((n, n) for n in names))
    with Allocations() as seen:
        terms = objective.terms(outputs(ours), signal(theirs), plain_batch(4, mask), nn.Module())
        held = seen.now
        terms["attention_maps"].values.sum().backward()
    return held, seen.peak


def test_scored_layers_leave_one_gradient_each_and_temporaries_of_one_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, peak = held_by_scoring(monkeypatch, stream=True)
    assert held <= (LAYERS + 0.2) * MAP
    # Backwards each gradient is scaled: as many again.
    assert peak <= (2 * LAYERS + 1) * MAP
    plain, highest = held_by_scoring(monkeypatch, stream=False)
    assert plain >= 2.9 * LAYERS * MAP
    assert highest > 1.4 * peak


def test_both_methods_stream() -> None:
    assert hidden_states.streamed is streamed
    assert attention_maps.streamed is streamed
