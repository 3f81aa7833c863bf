import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import ModelError, RecipeError
from preceptor.objectives.fsp import FSP
from tests.objectives.feature_taps import outputs, plain_batch, random_tensor, signal

LAYERS = (("in", "first"), ("out", "last"))


def value(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> Tensor:
    student = outputs(dict(zip(("in", "out"), ours, strict=True)))
    teacher = signal(dict(zip(("first", "last"), theirs, strict=True)))
    return FSP(LAYERS).terms(student, teacher, plain_batch(len(ours[0])), nn.Module())["fsp"].values


def random_flow(seed: int) -> tuple[Tensor, Tensor]:
    return random_tensor(2, 3, 8, 8, seed=seed), random_tensor(2, 5, 4, 4, seed=seed + 1)


def test_a_case_worked_by_hand() -> None:
    # Flows of one channel over two positions: (1*3 + 2*4) / 2 = 5.5 and (1*1 + 1*1) / 2 = 1.
    ours = (torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, 4.0]]]]))
    theirs = (torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert value(ours, theirs).item() == pytest.approx(4.5**2)


def test_the_value_is_a_squared_frobenius_norm_after_max_pooling() -> None:
    ours, theirs = random_flow(0), random_flow(5)
    expected = torch.zeros(2)
    for b in range(2):
        flows = []
        for entry, leave in (ours, theirs):
            small = F.max_pool2d(entry[b], 2).reshape(3, 16)
            flows.append(small @ leave[b].reshape(5, 16).T / 16)
        expected[b] = torch.linalg.matrix_norm(flows[0] - flows[1], "fro") ** 2
    torch.testing.assert_close(value(ours, theirs), expected)


def test_equal_flows_have_no_distance_and_twice_the_difference_four_times_the_distance() -> None:
    ours = random_flow(0)
    assert torch.equal(value(ours, ours), torch.zeros(2))
    nothing = (torch.zeros_like(ours[0]), torch.zeros_like(ours[1]))
    doubled = (ours[0], 2 * ours[1])
    torch.testing.assert_close(value(doubled, nothing), 4 * value(ours, nothing))


def test_the_two_nets_need_not_have_the_same_resolution() -> None:
    ours = random_flow(0)
    theirs = (random_tensor(2, 3, 6, 6), random_tensor(2, 5, 6, 6))
    assert value(ours, theirs).isfinite().all()


def test_other_channels_are_refused_in_words() -> None:
    theirs = (random_tensor(2, 3, 8, 8), random_tensor(2, 7, 4, 4))
    with pytest.raises(ModelError, match=r"student 'out' and teacher 'last'.*5 and 7 channels"):
        value(random_flow(0), theirs)


def test_an_odd_number_of_pairs_is_refused() -> None:
    with pytest.raises(RecipeError, match="two"):
        FSP((("a", "b"),))
