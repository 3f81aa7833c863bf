"""Slices of a projection against the whole: value, gradients, memory."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from preceptor.distributions import Head
from preceptor.ops.projection import Scorer, block_length, by_autograd, projected, slice_length

POSITIONS, WIDTH, CLASSES = 13, 5, 11


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class CrossEntropy:
    """Weighted cross-entropy, with or without a gradient of its own."""

    def __init__(self, count: int, *, closed: bool) -> None:
        self.labels = torch.arange(count) % CLASSES
        self.weights = torch.arange(count) / 7
        self.closed = closed
        self.slices: list[slice] = []
        self.blocks: list[slice] = []
        self.written = 0

    def begin(self, rows: slice) -> None:
        self.slices.append(rows)

    def value(self, logits: Tensor, rows: slice) -> Tensor:
        self.blocks.append(rows)
        each = F.cross_entropy(logits, self.labels[rows], reduction="none")
        return (self.weights[rows].to(logits.dtype) * each).sum()

    def gradient_(self, logits: Tensor, rows: slice) -> Tensor | None:
        if not self.closed:
            return None
        self.written += 1
        value, slope = by_autograd(lambda z: self.value(z, rows), logits)
        logits.copy_(slope)
        return value


HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "scaled": {"scale": 0.25},
    "capped": {"bias": True, "scale": 2.0, "cap": 1.5},
}


def parts(form: str, count: int = POSITIONS) -> tuple[list[Tensor], dict[str, Any]]:
    """Hidden states, weight and perhaps bias as leaves, and the rest of a head."""
    rest = dict(HEADS[form])
    leaves = [normal(count, WIDTH), normal(CLASSES, WIDTH, seed=1)]
    if rest.pop("bias", False):
        leaves.append(normal(CLASSES, seed=2))
    return [leaf.requires_grad_() for leaf in leaves], rest


def head_of(leaves: list[Tensor], rest: dict[str, Any]) -> Head:
    return Head(leaves[1], leaves[2] if len(leaves) > 2 else None, **rest)


def dense(leaves: list[Tensor], rest: dict[str, Any], scorer: CrossEntropy) -> Tensor:
    return scorer.value(head_of(leaves, rest).logits(leaves[0]), slice(0, len(leaves[0])))


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("length", [1, 4, 13, 100, 0])
@pytest.mark.parametrize("form", HEADS)
def test_value_and_gradients_are_those_of_whole_logits(
    form: str, length: int, closed: bool
) -> None:
    leaves, rest = parts(form)
    scorer = CrossEntropy(POSITIONS, closed=closed)
    sliced = projected(leaves[0], head_of(leaves, rest), scorer, length=length)
    whole = dense(leaves, rest, CrossEntropy(POSITIONS, closed=False))
    torch.testing.assert_close(sliced, whole)
    ours, theirs = (torch.autograd.grad(3 * loss, leaves) for loss in (sliced, whole))
    torch.testing.assert_close(ours, theirs)
    assert bool(scorer.written) == closed


@pytest.mark.parametrize("form", HEADS)
def test_gradients_are_finite_differences_of_the_value(form: str) -> None:
    leaves, rest = parts(form, count=5)

    def loss(tensors: list[Tensor]) -> Tensor:
        scorer = CrossEntropy(5, closed=True)
        return projected(tensors[0], head_of(tensors, rest), scorer, length=2)

    grads, step = torch.autograd.grad(loss(leaves), leaves), 1e-6
    for place, (leaf, grad) in enumerate(zip(leaves, grads, strict=True)):
        for seed in range(3):
            way = normal(*leaf.shape, seed=seed)
            ends = [
                [*leaves[:place], leaf.detach() + side * way, *leaves[place + 1 :]]
                for side in (step, -step)
            ]
            found = (loss(ends[0]) - loss(ends[1])) / (2 * step)
            torch.testing.assert_close((grad * way).sum(), found, rtol=1e-7, atol=1e-8)


def test_blocks_fill_slices_and_slices_fill_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preceptor.ops.projection._BLOCK", 2 * CLASSES)
    leaves, rest = parts("capped")
    scorer = CrossEntropy(POSITIONS, closed=False)
    sliced = projected(leaves[0], head_of(leaves, rest), scorer, length=5)
    assert [(s.start, s.stop) for s in scorer.slices] == [(0, 5), (5, 10), (10, 13)]
    ends = [(b.start, b.stop) for b in scorer.blocks]
    assert ends == [(0, 2), (2, 4), (4, 5), (5, 7), (7, 9), (9, 10), (10, 12), (12, 13)]
    whole = dense(leaves, rest, CrossEntropy(POSITIONS, closed=False))
    torch.testing.assert_close(
        torch.autograd.grad(sliced, leaves), torch.autograd.grad(whole, leaves)
    )


@pytest.mark.parametrize("closed", [True, False])
def test_no_positions_are_one_slice_and_zero_gradients(closed: bool) -> None:
    leaves, rest = parts("bias", count=0)
    scorer = CrossEntropy(0, closed=closed)
    total = projected(leaves[0], head_of(leaves, rest), scorer)
    assert total.item() == 0.0
    assert len(scorer.slices) == len(scorer.blocks) == 1
    for leaf, grad in zip(leaves, torch.autograd.grad(total, leaves), strict=True):
        torch.testing.assert_close(grad, torch.zeros_like(leaf))


def test_a_tied_head_gets_both_gradients() -> None:
    weight = normal(CLASSES, WIDTH).requires_grad_()
    tokens = torch.arange(POSITIONS) % CLASSES
    found = []
    for sliced in (True, False):
        hidden, scorer = torch.tanh(weight[tokens]), CrossEntropy(POSITIONS, closed=sliced)
        loss = (
            projected(hidden, Head(weight), scorer, length=4)
            if sliced
            else scorer.value(hidden @ weight.T, slice(0, POSITIONS))
        )
        found.append(torch.autograd.grad(loss, weight))
    torch.testing.assert_close(*found)


def test_an_adapter_around_the_head_learns_and_its_base_does_not() -> None:
    base, down, up = normal(CLASSES, WIDTH), normal(2, WIDTH, seed=1), normal(CLASSES, 2, seed=2)
    hidden, leaves = normal(POSITIONS, WIDTH, seed=3), [down.requires_grad_(), up.requires_grad_()]
    found = []
    for sliced in (True, False):
        weight, scorer = base + 0.5 * up @ down, CrossEntropy(POSITIONS, closed=sliced)
        loss = (
            projected(hidden, Head(weight), scorer, length=4)
            if sliced
            else scorer.value(hidden @ weight.T, slice(0, POSITIONS))
        )
        found.append(torch.autograd.grad(loss, leaves))
    torch.testing.assert_close(*found)
    assert base.grad is None


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "mm" in func.__name__
        return func(*args, **(kwargs or {}))


def products(hidden: bool, weight: bool, *, grad: bool = True) -> int:
    """How many are taken for one slice where only some of the leaves learn."""
    leaves, _ = parts("plain")
    for leaf, wanted in zip(leaves, (hidden, weight), strict=True):
        leaf.requires_grad_(wanted)
    with Products() as counted, torch.set_grad_enabled(grad):
        loss = projected(leaves[0], Head(leaves[1]), CrossEntropy(POSITIONS, closed=True))
    if grad and (hidden or weight):
        loss.backward()
        assert [leaf.grad is not None for leaf in leaves] == [hidden, weight]
    return counted.count


def test_only_gradients_that_are_asked_for_cost_a_product() -> None:
    assert products(hidden=True, weight=True) == 3
    assert products(hidden=True, weight=False) == 2
    assert products(hidden=False, weight=True) == 2
    assert products(hidden=False, weight=False) == 1


def test_without_gradients_none_is_taken() -> None:
    assert products(hidden=True, weight=True, grad=False) == 1


def test_a_second_backward_pass_is_refused_and_not_wrong() -> None:
    leaves, rest = parts("plain")
    loss = projected(leaves[0], head_of(leaves, rest), CrossEntropy(POSITIONS, closed=True))
    (2 * loss).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        (2 * loss).backward()


@pytest.mark.parametrize("form", HEADS)
def test_bfloat16_products_have_a_float32_softmax(form: str) -> None:
    leaves, rest = parts(form)
    low = [leaf.detach().bfloat16().requires_grad_() for leaf in leaves]
    scorer = CrossEntropy(POSITIONS, closed=True)
    sliced = projected(low[0], head_of(low, rest), scorer, length=4)
    whole = dense(low, rest, CrossEntropy(POSITIONS, closed=False))
    assert sliced.dtype == torch.float32
    torch.testing.assert_close(sliced, whole)
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in low]
    exact = torch.autograd.grad(
        dense(exact_leaves, rest, CrossEntropy(POSITIONS, closed=False)), exact_leaves
    )
    ours, theirs = (torch.autograd.grad(loss, low) for loss in (sliced, whole))
    for own, other, truth in zip(ours, theirs, exact, strict=True):
        assert own.dtype == torch.bfloat16
        far, autograds = ((found.double() - truth).norm() for found in (own, other))
        assert far <= max(1.05 * float(autograds), 2**-8 * float(truth.norm()))


def test_bfloat16_autocast_is_followed_and_float16s_is_not() -> None:
    leaves = [leaf.detach().float().requires_grad_() for leaf in parts("bias")[0]]
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        scorer = CrossEntropy(POSITIONS, closed=True)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss = projected(leaves[0], head_of(leaves, {}), scorer, length=4)
        found[dtype] = loss.detach(), torch.autograd.grad(loss, leaves)
        assert loss.dtype == torch.float32
    torch.testing.assert_close(found[torch.float16], found[torch.float32], rtol=0, atol=0)
    assert not torch.equal(found[torch.bfloat16][0], found[torch.float32][0])
    torch.testing.assert_close(found[torch.bfloat16], found[torch.float32], rtol=0.1, atol=0.05)
    assert all(grad.dtype == torch.float32 for grad in found[torch.bfloat16][1])


class Largest(TorchDispatchMode):
    """The most entries that any result has."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.entries = max(self.entries, each.numel())
        return out


@pytest.mark.parametrize("closed", [True, False])
def test_no_tensor_is_as_large_as_the_logits(closed: bool) -> None:
    leaves, rest = parts("capped", count=400)
    with Largest() as seen:
        projected(leaves[0], head_of(leaves, rest), CrossEntropy(400, closed=closed), length=8)
    assert seen.entries == 400 * WIDTH
    with Largest() as seen:
        dense(leaves, rest, CrossEntropy(400, closed=False))
    assert seen.entries == 400 * CLASSES


def test_slices_and_blocks_are_shorter_where_there_are_more_classes() -> None:
    lengths = [slice_length(classes) for classes in (10, 32_768, 151_936, 10**7)]
    assert lengths == [4096, 512, 110, 16]
    assert [block_length(classes) for classes in (32_768, 10**7)] == [8, 1]
    gpu = torch.device("cuda")
    assert slice_length(32_768, gpu) == 4096


def test_what_scores_has_three_methods() -> None:
    assert isinstance(CrossEntropy(1, closed=True), Scorer)
    assert not isinstance(nn.Identity(), Scorer)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in the same order each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
