"""What all feature methods promise together, and what they share."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import DataError, ModelError, NeedsError
from preceptor.objectives._adapters import (
    BatchNorm,
    Tapped,
    counting_tokens,
    kept,
    matching_convolution,
    pointwise,
    tapped,
    tapped_maps,
    valid_convolution,
)
from preceptor.objectives.attention_maps import AttentionMaps
from preceptor.objectives.attention_transfer import AttentionTransfer
from preceptor.objectives.base import Objective
from preceptor.objectives.feature_statistics import FeatureStatistics
from preceptor.objectives.fitnets import FitNets
from preceptor.objectives.fitnets_onestage import FitNetsOneStage
from preceptor.objectives.fsp import FSP
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.objectives.reduction import mean_loss
from preceptor.objectives.reviewkd import ReviewKD
from preceptor.types import Batch
from tests.objectives.feature_taps import PAIR, context, outputs, plain_batch, random_tensor, signal

Shape = tuple[int, ...]
TWICE = (("s", "t"), ("s2", "t2"))

METHODS: Mapping[str, tuple[Objective[Any], Mapping[str, Shape], Mapping[str, Shape]]] = {
    "fitnets": (FitNets(PAIR), {"s": (3, 6, 6)}, {"t": (5, 4, 4)}),
    "fitnets_onestage": (FitNetsOneStage(PAIR), {"s": (3, 4, 4)}, {"t": (5, 4, 4)}),
    "attention_transfer": (AttentionTransfer(PAIR), {"s": (3, 4, 4)}, {"t": (5, 8, 8)}),
    "fsp": (
        FSP(TWICE),
        {"s": (3, 8, 8), "s2": (5, 4, 4)},
        {"t": (3, 8, 8), "t2": (5, 4, 4)},
    ),
    "feature_statistics": (FeatureStatistics(PAIR), {"s": (3, 4, 4)}, {"t": (5, 2, 2)}),
    "hidden_states": (HiddenStates(PAIR), {"s": (6, 3)}, {"t": (6, 5)}),
    "attention_maps": (AttentionMaps(PAIR, "mse"), {"s": (2, 6, 6)}, {"t": (4, 6, 6)}),
    "reviewkd": (
        ReviewKD(TWICE),
        {"s": (3, 8, 8), "s2": (4, 4, 4)},
        {"t": (5, 8, 8), "t2": (6, 4, 4)},
    ),
}


class Case:
    """One method with random taps and its modules."""

    def __init__(self, name: str, batch: int = 4) -> None:
        self.objective, ours, theirs = METHODS[name]
        self.student = {k: random_tensor(batch, *s, seed=1) for k, s in ours.items()}
        self.teacher = {k: random_tensor(batch, *s, seed=2) for k, s in theirs.items()}
        torch.manual_seed(0)
        self.aux = self.objective.auxiliary(context(self.student, self.teacher))

    def loss(self, batch: Batch) -> Tensor:
        student, teacher = outputs(self.student), signal(self.teacher)
        return mean_loss(self.objective.terms(student, teacher, batch, self.aux), batch)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_and_the_adapters_but_never_the_teacher(name: str) -> None:
    case = Case(name)
    for tap in (*case.student.values(), *case.teacher.values()):
        tap.requires_grad_()
    case.loss(plain_batch(4)).backward()
    for moved in (*case.student.values(), *case.aux.parameters()):
        assert moved.grad is not None
        assert moved.grad.isfinite().all()
        assert moved.grad.any()
    assert all(tap.grad is None for tap in case.teacher.values())


@pytest.mark.parametrize("name", METHODS)
def test_an_example_that_does_not_count_reaches_neither_value_nor_adapters(name: str) -> None:
    mask = torch.tensor([True, True, False, True])
    found = []
    for filler in (0.0, torch.nan):
        case = Case(name)
        for tap in (*case.student.values(), *case.teacher.values()):
            tap[2] = filler
        for tap in case.student.values():
            tap.requires_grad_()
        loss = case.loss(plain_batch(4, mask))
        loss.backward()
        gradients = [tap.grad[mask] for tap in case.student.values() if tap.grad is not None]
        weights = [weight.grad for weight in case.aux.parameters()]
        found.append([loss.detach(), *gradients, *weights])
    for zero, nan in zip(*found, strict=True):
        assert nan is not None
        assert nan.isfinite().all()
        assert torch.equal(zero, nan)


@pytest.mark.parametrize("name", METHODS)
def test_a_teachers_nan_in_a_row_that_does_not_count_leaves_the_student_finite(name: str) -> None:
    case = Case(name)
    for tap in case.teacher.values():
        tap[2] = torch.nan
    for tap in case.student.values():
        tap.requires_grad_()
    case.loss(plain_batch(4, torch.tensor([True, True, False, True]))).backward()
    for tap in case.student.values():
        assert tap.grad is not None
        assert tap.grad.isfinite().all()
        assert not tap.grad[2].any()


@pytest.mark.parametrize("name", METHODS)
def test_one_example_alone_is_finite_in_training(name: str) -> None:
    case = Case(name, batch=1)
    case.aux.train()
    assert case.loss(plain_batch(1)).isfinite()


@pytest.mark.parametrize("name", METHODS)
def test_repeating_the_batch_changes_nothing(name: str) -> None:
    case = Case(name, batch=2)
    single = case.loss(plain_batch(2))
    for taps in (case.student, case.teacher):
        taps.update({key: torch.cat([tap, tap]) for key, tap in taps.items()})
    torch.testing.assert_close(case.loss(plain_batch(4)), single)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_taps_give_a_float32_loss(name: str, dtype: torch.dtype) -> None:
    case = Case(name)
    exact = case.loss(plain_batch(4))
    case.student = {key: tap.to(dtype) for key, tap in case.student.items()}
    loss = case.loss(plain_batch(4))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_float64_taps_keep_a_float64_student(name: str) -> None:
    case = Case(name)
    exact = case.loss(plain_batch(4))
    case.aux.double()
    case.student = {key: tap.double().requires_grad_() for key, tap in case.student.items()}
    loss = case.loss(plain_batch(4))
    loss.backward()
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss.float(), exact)


@pytest.mark.parametrize("name", METHODS)
def test_it_names_its_taps_and_is_about_examples(name: str) -> None:
    objective, ours, theirs = METHODS[name]
    needs = objective.needs()
    assert (needs.student_taps, needs.teacher_taps) == (frozenset(ours), frozenset(theirs))
    assert needs.scope == "example"
    assert objective.name == name
    unsettled = type(objective)()
    assert unsettled.needs().student_taps == {"auto"}
    layers = getattr(objective, "layers")  # noqa: B009
    assert unsettled.settled(lambda kind: layers if kind else "auto").needs() == needs


def test_layers_that_are_not_settled_are_refused_in_words() -> None:
    with pytest.raises(NeedsError, match="layers"):
        list(tapped("auto", outputs({"s": torch.zeros(1, 1)}), signal({})))


def test_a_vector_counts_as_a_map_of_one_position() -> None:
    taps = outputs({"s": torch.ones(2, 3)}), signal({"t": torch.ones(2, 5, 4, 4)})
    (pair,) = tapped_maps(PAIR, *taps)
    assert pair.student.shape == (2, 3, 1, 1)


def test_tokens_are_no_map() -> None:
    taps = outputs({"s": torch.ones(2, 7, 3)}), signal({"t": torch.ones(2, 5, 4, 4)})
    with pytest.raises(ModelError, match=r"\(2, 7, 3\)"):
        list(tapped_maps(PAIR, *taps))


def test_masks_over_examples_and_over_tokens_both_keep_what_counts() -> None:
    ones = torch.ones(2, 3, 4)
    assert kept(ones, torch.tensor([True, False])).sum((1, 2)).tolist() == [12, 0]
    tokens = torch.tensor([[True, False, False], [True, True, False]])
    assert kept(ones, tokens).sum((1, 2)).tolist() == [4, 8]
    assert kept(ones, None) is ones


def test_an_example_that_does_not_count_has_no_tokens_that_do() -> None:
    inputs = {"attention_mask": torch.ones(2, 3, dtype=torch.int64)}
    batch = Batch(inputs, mask=torch.tensor([True, False]))
    mask = counting_tokens(batch, torch.zeros(2, 3, 4), "taps")
    assert mask is not None
    assert mask.tolist() == [[True] * 3, [False] * 3]
    with pytest.raises(DataError, match="padding"):
        counting_tokens(batch, torch.zeros(2, 5, 4), "taps")


@pytest.mark.parametrize(
    ("build", "ours", "kernel"),
    [
        (valid_convolution, (6, 5), (3, 2)),
        (matching_convolution, (4, 4), (1, 1)),
        (matching_convolution, (8, 8), (3, 3)),
        (matching_convolution, (5, 5), (2, 2)),
        (matching_convolution, (2, 2), (4, 4)),
    ],
)
def test_a_regressor_brings_the_students_map_to_the_teachers_shape(
    build: Any, ours: tuple[int, int], kernel: tuple[int, int]
) -> None:
    pair = Tapped("pair", torch.zeros(1, 2, *ours), torch.zeros(1, 3, 4, 4))
    regressor = build(pair)
    assert regressor.kernel_size == kernel
    assert regressor(pair.student).shape == (1, 3, 4, 4)


def test_equal_channels_need_no_convolution() -> None:
    maps = torch.zeros(1, 2, 4, 4)
    assert isinstance(pointwise(Tapped("pair", maps, maps)), nn.Identity)


def test_batch_normalisation_of_one_value_uses_and_keeps_the_running_statistics() -> None:
    norm = BatchNorm(2)
    norm(random_tensor(4, 2, 3, 3))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    one = random_tensor(1, 2, 1, 1)
    torch.testing.assert_close(norm(one), norm.eval()(one))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
