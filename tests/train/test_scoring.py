"""A micro-batch scored by slices against dense autograd: every divergence, teacher, mask, split."""

from typing import Any

import pytest
import torch

from preceptor import (
    CE,
    GKD,
    KD,
    AdaptiveKL,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    TotalVariation,
)
from preceptor.distributions import Dense, Head, Mixture, Projected, Sampled, TopK
from preceptor.objectives.base import Objective, Sum
from preceptor.objectives.schedules import Auto
from preceptor.train.scoring import Share, Worth, by_position
from preceptor.types import Batch, Outputs, Term
from tests.train.scored import (
    CLASSES,
    CLOSED,
    LENGTH,
    OTHERS,
    ROWS,
    assert_equal,
    batch_of,
    dense,
    dense_teacher,
    loss_of,
    normal,
    projected_teacher,
    share_of,
    student,
)


@pytest.fixture(autouse=True)
def _short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of five positions or sixteen, blocks of two."""
    monkeypatch.setattr("preceptor.ops.projection.slice_length", lambda *_: 5)
    monkeypatch.setattr("preceptor.ops.projection._BLOCK", 2 * CLASSES)


@pytest.mark.parametrize("name", [*CLOSED, *OTHERS])
def test_slices_are_the_whole(name: str) -> None:
    assert_equal((CLOSED | OTHERS)[name], projected_teacher(), batch_of())


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_form_replaces_the_terms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    share = share_of(CLOSED[name], projected_teacher(), batch_of())

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("terms were asked")

    monkeypatch.setattr(Sum, "terms_seen", never)
    assert loss_of(share, student()[1]).isfinite()


@pytest.mark.parametrize("form", [{"bias": True}, {"scale": 0.3}, {"bias": True, "cap": 2.0}])
def test_every_kind_of_head(form: dict[str, Any]) -> None:
    for name in ("labels and teacher", "jsd", "taid"):
        assert_equal((CLOSED | OTHERS)[name], projected_teacher(), batch_of(), **form)


def test_a_teachers_head_has_its_own_bias_scale_and_cap() -> None:
    shown = projected_teacher()
    head = Head(shown.head.weight, normal(CLASSES, seed=8), scale=1.5, cap=3.0)
    for name in ("kd", "reverse", "jsd", "taid"):
        assert_equal((CLOSED | OTHERS)[name], Projected(shown.hidden, head), batch_of())


@pytest.mark.parametrize("name", CLOSED)
def test_a_dense_teacher_is_left_as_it_was(name: str) -> None:
    teacher = dense_teacher()
    before = teacher.logits.clone()
    assert_equal(CLOSED[name], teacher, batch_of())
    assert torch.equal(teacher.logits, before)


def test_a_mixture_of_teachers() -> None:
    weights = torch.rand(2, ROWS, LENGTH, generator=torch.Generator().manual_seed(0)).double()
    members = projected_teacher(), Dense(normal(ROWS, LENGTH, CLASSES, seed=9))
    mixture = Mixture(members, weights / weights.sum(dim=0))
    for name in ("kd", "jsd", "labels and teacher"):
        share = share_of(CLOSED[name], mixture, batch_of())
        leaves, shown = student()
        ours = loss_of(share, shown)
        seen = Mixture((dense_teacher(), members[1]), mixture.weights)
        theirs = dense(CLOSED[name], seen, batch_of(), shown.head.logits(shown.hidden))
        torch.testing.assert_close(
            torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)
        )


@pytest.mark.parametrize("name", ["kd", "beta 0", "reverse", "jsd", "adaptive", "variation"])
def test_the_largest_classes_of_a_cache(name: str) -> None:
    (temperature,) = CLOSED[name].needs().temperatures
    kept, ids = dense_teacher().log_probs(temperature).topk(4, dim=-1)
    tail = dense_teacher().log_probs(temperature).scatter(-1, ids, -torch.inf).logsumexp(dim=-1)
    assert_equal(CLOSED[name], TopK(ids, kept, tail, temperature, CLASSES), batch_of())


def test_draws_of_a_cache() -> None:
    ids = dense_teacher().logits.topk(3, dim=-1).indices
    counts = torch.tensor([5, 2, 1]).expand_as(ids).clone()
    entropy = torch.ones(ROWS, LENGTH, dtype=torch.float64)
    drawn = Sampled(ids, counts, entropy, 2.0, CLASSES)
    assert_equal(0.5 * CE() + KD(temperature=2.0), drawn, batch_of())


@pytest.mark.parametrize("name", [*CLOSED, "taid"])
def test_masked_positions_change_nothing_be_they_nan(name: str) -> None:
    objective, batch, teacher = (CLOSED | OTHERS)[name], batch_of(), projected_teacher()
    hidden = ~batch.mask("all")
    found = []
    for filling in (0.0, torch.nan):
        leaves, shown = student()
        with torch.no_grad():
            leaves[0][hidden] = filling
        states = teacher.hidden.clone()
        states[hidden] = filling
        loss = loss_of(share_of(objective, Projected(states, teacher.head), batch), shown)
        found.append((loss, *torch.autograd.grad(loss, leaves)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert not found[0][1][hidden].any()


@pytest.mark.parametrize("name", CLOSED)
def test_a_batch_of_masked_positions_is_zero_and_connected(name: str) -> None:
    batch = batch_of(mask=torch.zeros(ROWS, LENGTH, dtype=torch.bool))
    share = share_of(CLOSED[name], projected_teacher(), batch)
    leaves, shown = student()
    loss = loss_of(share, shown)
    assert loss.item() == 0.0
    assert list(share.terms) == list(Sum(CLOSED[name].parts()).labels())
    for grad in torch.autograd.grad(loss, leaves):
        assert not grad.any()


@pytest.mark.parametrize(
    "method", [CE, KD, ReverseKL, GKD, SkewKL, SkewReverseKL, TotalVariation, AdaptiveKL]
)
def test_positions_outside_a_named_mask_get_nothing_though_the_teacher_is_nan(
    method: type[Objective[Any]],
) -> None:
    objective, batch = method(over="student_written"), batch_of()  # pyright: ignore[reportCallIssue]
    outside = ~batch.mask("student_written")
    teacher = dense_teacher().logits.clone()
    teacher[outside] = torch.nan
    leaves, shown = student()
    loss = loss_of(share_of(objective, Dense(teacher), batch), shown)
    grads = torch.autograd.grad(loss, leaves)
    assert loss.isfinite()
    assert grads[1].isfinite().all()
    assert not grads[0][outside].any()
    assert grads[0].any()


@pytest.mark.parametrize("name", [*CLOSED, "taid"])
def test_micro_batches_add_up(name: str) -> None:
    objective, batch, teacher = (CLOSED | OTHERS)[name], batch_of(), projected_teacher()
    leaves, shown = student()
    whole = loss_of(share_of(objective, teacher, batch), shown)
    parts = []
    for start, stop in ((0, 1), (1, 3)):
        some = Projected(teacher.hidden[start:stop], teacher.head)
        own = Projected(shown.hidden[start:stop], shown.head)
        parts.append(loss_of(share_of(objective, some, batch.rows(start, stop)), own))
    added = torch.stack(parts).sum()
    torch.testing.assert_close(added, whole)
    torch.testing.assert_close(
        torch.autograd.grad(added, leaves), torch.autograd.grad(whole, leaves)
    )


def test_packing_changes_no_number() -> None:
    objective, batch, teacher = CLOSED["labels and teacher"], batch_of(), projected_teacher()
    leaves, shown = student()
    apart = loss_of(share_of(objective, teacher, batch), shown)
    fields = batch.fields()
    packed_batch = Batch(
        batch.mask("all").reshape(1, -1).long(),
        **{n: fields[n].reshape(1, -1) for n in ("labels", "mask")},
        masks={name: mask.reshape(1, -1) for name, mask in batch.masks.items()},
    )
    packed = loss_of(
        share_of(
            objective, Projected(teacher.hidden.flatten(0, 1)[None], teacher.head), packed_batch
        ),
        Projected(shown.hidden.flatten(0, 1)[None], shown.head),
    )
    torch.testing.assert_close(packed, apart)
    torch.testing.assert_close(
        torch.autograd.grad(packed, leaves), torch.autograd.grad(apart, leaves)
    )


@pytest.mark.parametrize("name", ["labels and teacher", "jsd", "reverse", "taid"])
def test_padded_rows_of_a_vocabulary_get_no_probability_and_no_gradient(name: str) -> None:
    """The student's head has 17 rows, the teacher's 20, and the vocabulary 14 ids."""
    objective, batch, shared = (CLOSED | OTHERS)[name], batch_of(), 14
    batch = Batch(**{**batch.fields(), "labels": batch.labels.clamp_max(shared - 1)})
    leaves, shown = student(bias=True)
    teacher = projected_teacher(classes=20)
    own = Projected(shown.hidden, shown.head.first(shared))
    other = Projected(teacher.hidden, teacher.head.first(shared))
    ours = loss_of(share_of(objective, other, batch), own)
    logits = shown.head.logits(shown.hidden)[..., :shared]
    theirs = dense(objective, other, batch, logits)
    torch.testing.assert_close(ours, theirs)
    found = torch.autograd.grad(ours, leaves)
    torch.testing.assert_close(found, torch.autograd.grad(theirs, leaves))
    assert not found[1][shared:].any()
    assert not found[2][shared:].any()


def test_a_frozen_head_and_a_frozen_backbone() -> None:
    for frozen in (0, 1):
        leaves, shown = student()
        leaves[frozen].requires_grad_(False)
        loss_of(share_of(CLOSED["jsd"], projected_teacher(), batch_of()), shown).backward()
        reference, whole = student()
        loss = dense(
            CLOSED["jsd"], projected_teacher(), batch_of(), whole.head.logits(whole.hidden)
        )
        expected = torch.autograd.grad(loss, reference)[1 - frozen]
        torch.testing.assert_close(leaves[1 - frozen].grad, expected)
        assert leaves[frozen].grad is None


def test_without_gradients_values_are_the_same() -> None:
    share = share_of(CLOSED["labels and teacher"], projected_teacher(), batch_of())
    with torch.no_grad():
        alone = loss_of(share, student()[1])
    assert not alone.requires_grad
    other = share_of(CLOSED["labels and teacher"], projected_teacher(), batch_of())
    torch.testing.assert_close(alone, loss_of(other, student()[1]).detach())
    assert share.sums.keys() == other.sums.keys()


@pytest.mark.parametrize("name", ["labels and teacher", "jsd", "taid"])
def test_autocast_keeps_the_softmax_in_float32(name: str) -> None:
    leaves, shown = student()
    low = Projected(shown.hidden.float(), Head(shown.head.weight.float()))
    exact = dense(
        (CLOSED | OTHERS)[name], projected_teacher(), batch_of(), shown.head.logits(shown.hidden)
    )
    teacher = projected_teacher()
    single = Projected(teacher.hidden.float(), Head(teacher.head.weight.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(share_of((CLOSED | OTHERS)[name], single, batch_of()), low)
    assert loss.dtype == torch.float32
    grads = torch.autograd.grad(loss, leaves)
    for own, other in zip(grads, torch.autograd.grad(exact, leaves), strict=True):
        assert float((own - other).norm() / other.norm()) < 2e-2


def test_reported_values_have_no_weight() -> None:
    objective = 0.3 * CE() + 0.7 * KD(temperature=2.0)
    share = share_of(objective, projected_teacher(), batch_of())
    _, shown = student()
    loss = loss_of(share, shown)
    plain = dense(
        KD(temperature=2.0), projected_teacher(), batch_of(), shown.head.logits(shown.hidden)
    )
    torch.testing.assert_close(share.sums["kd"], plain.detach())
    torch.testing.assert_close(0.3 * share.sums["ce"] + 0.7 * share.sums["kd"], loss.detach())
    assert {name: term.weight for name, term in share.terms.items()} == {"ce": 0.3, "kd": 0.7}


def test_a_weight_that_the_loop_finds_reaches_the_term() -> None:
    objective = CE() + KD(temperature=2.0) * Auto(0.5)
    seen: dict[str, Term] = {}

    def worth(name: str, term: Term) -> Worth:
        seen[name] = term
        return Worth(1.0, 1.0)

    share = share_of(objective, projected_teacher(), batch_of())
    share.worth = worth
    loss_of(share, student()[1])
    assert seen["kd"].auto == 0.5
    assert seen["ce"].auto is None


def test_methods_scored_one_by_one_add_up_to_all_at_once() -> None:
    """As in the steps that take each method's gradient apart."""
    objective, teacher, batch = CLOSED["three"], projected_teacher(), batch_of()
    leaves, shown = student()
    together = torch.autograd.grad(loss_of(share_of(objective, teacher, batch), shown), leaves)
    apart = [torch.zeros_like(leaf) for leaf in leaves]
    whole = Sum(objective.parts())
    for label in by_position(whole):
        share = share_of(objective, teacher, batch)
        one = Share(whole, (label,), share.signal, batch, share.aux, share.worth)
        scored = one.scored(Outputs(shown))
        assert list(scored.losses) == list(scored.terms) == [label]
        for held, grad in zip(
            apart, torch.autograd.grad(scored.losses[label], leaves), strict=True
        ):
            held += grad
    torch.testing.assert_close(tuple(apart), together)
