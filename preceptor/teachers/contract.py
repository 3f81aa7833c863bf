"""What every teacher keeps to: one check for those in the package and those outside it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from preceptor.errors import NeedsError
from preceptor.teachers.base import Teacher
from preceptor.types import Batch, Distribution, Needs, Sampled, Signal, TopK, map_tensors

_NO_TAP = "a module of this name does not exist"


def check_teacher(teacher: Teacher, batches: Sequence[Batch]) -> None:
    """Raises `AssertionError` with a sentence where a teacher breaks the contract.

    Its signals hold what it offers and refuse the rest with `NeedsError`; they carry no gradient;
    the same batch gets the same answer; an example's answer does not depend on its place in the
    batch; `load_state` takes back what `state` gave. The teacher is left as it was found.

    Args:
        teacher: one that answers `signal`, its taps (if any) named with `reading`.
        batches: a few batches of at least two examples that it can answer.
    """
    offers = teacher.offers()
    for batch in batches:
        signal = teacher.signal(batch)
        _check_distribution(offers, signal, batch)
        _check_shown(offers, signal)
        first = _tensors(offers, signal)
        for name, tensor in first.items():
            _must(not tensor.requires_grad, f"{name} carries a gradient")
        _check_same(first, _tensors(offers, teacher.signal(batch)), "asked twice")
        _check_order(teacher, offers, batch, first)
    _check_state(teacher, batches)


def _check_distribution(offers: Needs, signal: Signal, batch: Batch) -> None:
    shape = batch.mask("all").shape
    if "logits" in offers.kinds:
        _must(signal.logits.shape[:-1] == shape, "logits are not [*n, v]")
        _must(bool(signal.logits.isfinite().all()), "raw logits are not finite")
    else:
        _must(_refuses(lambda: signal.logits), "it holds raw logits that it does not offer")
    if not offers.kinds:
        _must(_refuses(lambda: signal.distribution), "it holds a distribution it does not offer")
        return
    if "probabilities" not in offers.kinds:
        _check_part(offers, signal.distribution, shape)
        return
    for temperature in _temperatures(offers):
        log_probs = signal.whole.log_probs(temperature)
        _must(log_probs.shape[:-1] == shape, "log-probabilities are not [*n, v]")
        _must(log_probs.dtype in (torch.float32, torch.float64), "they are below float32")
        sums = log_probs.exp().sum(dim=-1)
        _must(
            torch.allclose(sums, torch.ones_like(sums), atol=1e-4),
            f"probabilities at temperature {temperature:g} do not add up to 1",
        )
    if offers.temperatures:
        other = max(offers.temperatures) + 1.5
        _must(
            _refuses(lambda: signal.whole.log_probs(other)),
            f"it answers at temperature {other:g}, which it does not offer",
        )


def _check_part(offers: Needs, given: Distribution, shape: torch.Size) -> None:
    """Bins, or draws: what is offered where not every class is known."""
    if "bins" in offers.kinds:
        _must(isinstance(given, TopK), "it offers bins and holds something else")
    if "draws" in offers.kinds:
        _must(isinstance(given, Sampled), "it offers draws and holds something else")
    assert isinstance(given, TopK | Sampled)
    _must(given.ids.shape[:-1] == shape, "its ids are not [*n, k]")
    _must({given.temperature} == offers.temperatures, "it answers at another temperature")
    if isinstance(given, Sampled):
        _must(bool((given.counts.sum(dim=-1) > 0).all()), "a position has no draws")
        return
    sums = given.log_p.exp().sum(dim=-1) + given.log_tail.exp()
    _must(torch.allclose(sums, torch.ones_like(sums), atol=1e-4), "its bins do not add up to 1")


def _check_shown(offers: Needs, signal: Signal) -> None:
    _must(_refuses(lambda: signal.tap(_NO_TAP)), "it shows a tap that nobody named")
    if not offers.teacher_taps:
        _must(not signal.taps, f"it shows taps that it does not offer: {sorted(signal.taps)}")
    if offers.teacher_head:
        _must(signal.head.weight.ndim == 2, "its classifier's weight is not [v, d]")
    else:
        _must(_refuses(lambda: signal.head), "it shows a classifier that it does not offer")


def _check_order(teacher: Teacher, offers: Needs, batch: Batch, first: dict[str, Tensor]) -> None:
    order = torch.arange(len(batch) - 1, -1, -1)
    turned = Batch(
        **{
            name: map_tensors(value, lambda tensor: tensor[order.to(tensor.device)])
            for name, value in batch.fields().items()
        }
    )
    again = {
        name: tensor if name.startswith("head") else tensor[order.to(tensor.device)]
        for name, tensor in _tensors(offers, teacher.signal(turned)).items()
    }
    _check_same(first, again, "the batch's order is turned round", tolerance=1e-5)


def _check_state(teacher: Teacher, batches: Sequence[Batch]) -> None:
    offers = teacher.offers()
    before = [_tensors(offers, teacher.signal(batch)) for batch in batches]
    state = {name: tensor.clone() for name, tensor in teacher.state().items()}
    moved = {n: t + 1 if t.is_floating_point() else t.clone() for n, t in state.items()}
    teacher.load_state(moved)
    _check_same(moved, teacher.state(), "a state is loaded and asked for again")
    teacher.load_state(state)
    for batch, tensors in zip(batches, before, strict=True):
        again = _tensors(offers, teacher.signal(batch))
        _check_same(tensors, again, "its own state is loaded")


def _tensors(offers: Needs, signal: Signal) -> dict[str, Tensor]:
    """Everything that a signal holds, by name; of per-example tensors the first axis is b."""
    found = {f"the tap {name!r}": tap for name, tap in signal.taps.items()}
    if isinstance(given := signal.distribution if offers.kinds else None, TopK | Sampled):
        found |= {f"the {n}": t for n, t in vars(given).items() if isinstance(t, Tensor)}
    elif offers.kinds:
        for temperature in _temperatures(offers):
            name = f"log p at temperature {temperature:g}"
            found[name] = signal.whole.log_probs(temperature)
    if "logits" in offers.kinds:
        found["logits"] = signal.logits
    if offers.teacher_head:
        found["head.weight"] = signal.head.weight
        if signal.head.bias is not None:
            found["head.bias"] = signal.head.bias
    return found


def _temperatures(offers: Needs) -> tuple[float, ...]:
    return tuple(sorted(offers.temperatures)) or (1.0, 4.0)


def _check_same(
    first: dict[str, Tensor], second: dict[str, Tensor], when: str, tolerance: float = 0.0
) -> None:
    _must(first.keys() == second.keys(), f"it holds something else when {when}")
    for name, tensor in first.items():
        same = torch.allclose(tensor, second[name], rtol=tolerance, atol=tolerance, equal_nan=True)
        _must(same, f"{name} differs when {when}")


def _refuses(read: Callable[[], object]) -> bool:
    try:
        read()
    except NeedsError:
        return True
    return False


def _must(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(f"the teacher breaks the contract: {sentence}")
