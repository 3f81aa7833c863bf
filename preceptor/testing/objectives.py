"""What every objective promises: one function a promise, an AssertionError with a sentence.

Dimension key: none; the worlds bring their own shapes.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from preceptor.objectives.base import Objective, Sum
from preceptor.objectives.reduction import count, total
from preceptor.testing.givers import (
    check_draws_are_unbiased,
    check_probabilities_suffice,
    check_top_k_is_the_whole,
)
from preceptor.testing.probing import (
    counted,
    gradients,
    loss_of,
    masked_filled,
    same,
    visible,
    with_leaves,
)
from preceptor.testing.world import (
    build_auxiliary,
    each,
    example_world,
    worlds,
)
from preceptor.types import Batch, Progress


def check_values_are_finite_float32(objective: Objective[Any], **options: Any) -> None:
    """Float32 in, finite float32 out."""
    for world in worlds(objective, **options):
        for name, term in world.terms().items():
            who = f"{objective.name}: the values of {name!r}"
            assert term.values.dtype == torch.float32, f"{who} are {term.values.dtype}, not float32"
            assert total(term, world.batch).isfinite(), f"{who} are not finite"


def check_terms_are_well_formed(objective: Objective[Any], **options: Any) -> None:
    """Terms are named after the method, shaped as `per` says, and no wider than `needs().scope`."""
    order = ("position", "example", "batch")
    for world in worlds(objective, **options):
        known = objective.labels() if isinstance(objective, Sum) else (objective.name,)
        scope = world.objective.needs().scope
        for name, term in world.terms().items():
            who = f"{objective.name}: the term {name!r}"
            assert name.partition(".")[0] in known, (
                f"{who} is not named {' or '.join(known)}[.part]"
            )
            assert order.index(term.per) <= order.index(scope), (
                f"{who} is per {term.per}, but needs().scope is {scope}: the loop would split it"
            )
            shapes = {"position": world.student.logits.shape[:-1], "batch": torch.Size()}
            right = shapes.get(term.per, torch.Size([len(world.batch)]))
            assert term.values.shape == right, (
                f"{who} is per {term.per} and has the shape {list(term.values.shape)}, "
                f"not {list(right)}"
            )


def check_gradient_reaches_the_student(objective: Objective[Any], **options: Any) -> None:
    """Some of the student's tensors, and every trained auxiliary parameter, get a gradient."""
    for world in worlds(objective, **options):
        found = gradients(world)
        bad = sorted(n for n, g in found.items() if g is not None and not g.isfinite().all())
        assert not bad, f"{objective.name}: the gradient of {', '.join(bad)} is not finite"
        moved = [
            n for n, g in found.items() if not n.startswith("aux ") and g is not None and g.any()
        ]
        assert moved, f"{objective.name}: no gradient reaches the student (of {', '.join(found)})"
        idle = [n for n, g in found.items() if n.startswith("aux ") and g is None]
        assert not idle, (
            f"{objective.name}: no gradient reaches {', '.join(idle)}: a parameter that nothing "
            "trains; make it a buffer, or use it"
        )


def check_gradient_never_reaches_the_teacher(objective: Objective[Any], **options: Any) -> None:
    """Even where the teacher's tensors ask for a gradient, they get none."""
    for world in worlds(objective, **options):
        leaves: dict[str, Tensor] = {}
        teacher = with_leaves(world.teacher, "teacher", leaves)
        student = with_leaves(world.student, "student", {})
        loss = loss_of(replace(world, student=student, teacher=teacher))
        if not leaves or not loss.requires_grad:
            continue
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        reached = [name for name, grad in zip(leaves, grads, strict=True) if grad is not None]
        assert not reached, (
            f"{objective.name}: a gradient reaches {', '.join(reached)}: detach what is read of "
            "the teacher"
        )


def check_masked_positions_change_nothing(objective: Objective[Any], **options: Any) -> None:
    """A masked position's numbers change no total and no gradient elsewhere, be they NaN."""
    for world in worlds(objective, **options):
        hidden = ~world.batch.mask("all")
        assert hidden.any()
        before, grads = world.totals(), gradients(world)
        own = grads["student logits"]
        assert own is None or not own[hidden].any(), (
            f"{objective.name}: a gradient reaches the logits of a masked position"
        )
        for filling in (7.0, torch.nan):
            after = masked_filled(world, hidden, filling)
            what = f"{filling:g} at the masked positions"
            same(objective, what, before, after.totals())
            others = {name: visible(g, name, hidden) for name, g in grads.items()}
            found = {name: visible(g, name, hidden) for name, g in gradients(after).items()}
            words = "gradients"
            if filling != filling:
                words += "; 0 * NaN is NaN: zero both sides' masked rows before a module reads them"
            same(objective, f"{what} ({words})", others, found)


def check_unlabelled_labels_are_never_read(objective: Objective[Any], **options: Any) -> None:
    """A label that must not be read changes nothing, whether it is -1 or looks like a label."""
    for world in worlds(objective, **options):
        if not world.objective.needs().labels:
            continue
        before = world.totals()
        labelled = world.batch.labels >= 0
        invented = torch.where(labelled, world.batch.labels, 1)
        after = world.relabelled(labels=invented, labelled=labelled).totals()
        same(objective, "a label where `labelled` is False", before, after)


def check_two_halves_add_up(objective: Objective[Any], **options: Any) -> None:
    """Totals and counts of two half batches are those of the whole, unless a term is per batch."""
    for world in worlds(objective, **options):
        if world.objective.needs().scope == "batch":
            continue
        half = len(world.batch) // 2
        parts = [world.rows(range(half)), world.rows(range(half, len(world.batch)))]
        sums = [part.totals() for part in parts]
        added = {name: sums[0][name] + sums[1][name] for name in sums[0]}
        same(objective, "two half batches in place of one", world.totals(), added)
        for name, term in world.terms().items():
            counts = [count(term.over, term.per, part.batch) for part in (world, *parts)]
            assert counts[0] == counts[1] + counts[2], f"{objective.name}: {name} counts {counts}"


def check_calling_twice_gives_the_same(objective: Objective[Any], **options: Any) -> None:
    """`terms` is pure: equal bits, global generators untouched, `aux` unmoved."""
    for world in worlds(objective, **options):
        state = {name: value.clone() for name, value in world.aux.state_dict().items()}
        generator = torch.get_rng_state()
        first, second = world.totals(), world.totals()
        drew = not torch.equal(generator, torch.get_rng_state())
        assert not drew, f"{objective.name}: terms() draws from the global generator"
        for name in first:
            assert torch.equal(first[name], second[name]), (
                f"{objective.name}: {name} is {first[name].item()}, then {second[name].item()}"
            )
        moved = [n for n, v in world.aux.state_dict().items() if not torch.equal(v, state[n])]
        assert not moved, f"{objective.name}: terms() moves aux ({', '.join(moved)}); use advance()"


def check_sequences_are_positions(objective: Objective[Any], **options: Any) -> None:
    """[B, T, V] gives what its B T positions give as [B T, V]."""
    for world in worlds(objective, **options)[1:]:
        given = world.batch.fields()
        flat: dict[str, Any] = {
            name: None if given[name] is None else given[name].flatten()
            for name in ("labels", "mask", "labelled")
        }
        for name in ("masks", "extra"):
            flat[name] = {key: tensor.flatten() for key, tensor in given[name].items()}
        inputs = world.batch.inputs
        assert isinstance(inputs, Tensor)
        one_by_one = replace(
            world,
            student=each(world.student, lambda tensor: tensor.flatten(0, 1)),
            teacher=each(world.teacher, lambda tensor: tensor.flatten(0, 1)),
            batch=Batch(inputs.repeat_interleave(3, dim=0), **flat),
        )
        same(objective, "positions in one row", world.totals(), one_by_one.totals())


def check_slices_equal_the_whole(objective: Objective[Any], **options: Any) -> None:
    """A position's or example's value depends on no other one."""
    for world in worlds(objective, **options):
        if world.objective.needs().scope == "batch":
            continue
        rows = range(2, 6)
        part = world.rows(rows)
        whole = {n: counted(t, world.batch)[list(rows)] for n, t in world.terms().items()}
        found = {n: counted(t, part.batch) for n, t in part.terms().items()}
        same(objective, "a slice of the batch (its values)", whole, found)


def check_order_changes_nothing(objective: Objective[Any], **options: Any) -> None:
    """The examples in another order give the same totals."""
    for world in worlds(objective, **options):
        other = world.rows([5, 2, 7, 0, 3, 6, 1, 4])
        same(objective, "another order of the examples", world.totals(), other.totals())


def check_aux_survives_saving(objective: Objective[Any], **options: Any) -> None:
    """`aux` through safetensors into a new one gives the same terms."""
    world = example_world(objective, **options)
    state = world.aux.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    assert not odd, f"{objective.name}: aux keeps {', '.join(odd)}, which are no tensors"
    written = save({name: value.contiguous().clone() for name, value in state.items()})
    fresh = build_auxiliary(world.objective, world.context, seed=options.get("seed", 0) + 1)
    fresh.load_state_dict(load(written), strict=True)
    again = replace(world, aux=fresh)
    same(objective, "aux saved and loaded", world.totals(), again.totals())


def check_half_precision_gives_float32(objective: Objective[Any], **options: Any) -> None:
    """bfloat16 and float16 logits and taps give float32 values, as their float32 copies do."""
    for world in worlds(objective, **options):
        for dtype in (torch.bfloat16, torch.float16):
            low = replace(
                world,
                student=each(world.student, lambda t, d=dtype: t.to(d)),
                teacher=each(world.teacher, lambda t, d=dtype: t.to(d)),
            )
            high = replace(
                world,
                student=each(low.student, lambda t: t.float()),
                teacher=each(low.teacher, lambda t: t.float()),
            )
            try:
                terms = low.terms()
            except RuntimeError as error:
                message = f"{objective.name} fails on {dtype} (use at_least_float32): {error}"
                raise AssertionError(message) from error
            for name, term in terms.items():
                assert term.values.dtype == torch.float32, (
                    f"{objective.name}: {name!r} is {term.values.dtype} for {dtype} input"
                )
            sums = {name: total(term, world.batch) for name, term in terms.items()}
            same(objective, f"{dtype}", high.totals(), sums, tolerance=1e-2)


def check_positions_do_not_meet(objective: Objective[Any], **options: Any) -> None:
    """One position's value has no gradient in what the student shows at another.

    Shapes do not tell, and neither do values: what is compared may be cut off from its value.
    """
    for world in worlds(objective, **options):
        if world.objective.needs().scope != "position":
            continue
        leaves: dict[str, Tensor] = {}
        seen = replace(world, student=with_leaves(world.student, "student", leaves))
        for name, term in seen.terms().items():
            place = int(world.batch.mask(term.over).flatten().nonzero()[0])
            value = term.values.flatten()[place]
            if not value.requires_grad:
                continue
            shown = {n: leaf for n, leaf in leaves.items() if "head" not in n}
            grads = torch.autograd.grad(
                value, list(shown.values()), allow_unused=True, retain_graph=True
            )
            for leaf, grad in zip(shown, grads, strict=True):
                rows = None if grad is None else grad.reshape(term.values.numel(), -1)
                reached = [] if rows is None else rows.any(dim=-1).nonzero().flatten().tolist()
                assert set(reached) <= {place}, (
                    f"{objective.name}: the gradient of {name!r} at one position reaches the "
                    f"{leaf} of another; say so by scope, or compare positions one by one"
                )


def check_remembered_rows_are_detached(objective: Objective[Any], **options: Any) -> None:
    """What terms hand to `advance` has no graph and one row an example, and `advance` takes it."""
    world = example_world(objective, **options)
    remembered: dict[str, Tensor] = {}
    student = with_leaves(world.student, "student", {})
    terms = replace(world, student=student).terms()
    for name, term in terms.items():
        for key, rows in term.remember.items():
            who = f"{objective.name}: the remembered {key!r}"
            assert not rows.requires_grad, f"{who} keeps its graph: detach it"
            assert len(rows) == len(world.batch), f"{who} has {len(rows)} rows, not one an example"
            remembered[f"{name}/{key}"] = rows
    whole = Sum(world.objective.parts())
    losses = {name: float(total(term, world.batch).detach()) for name, term in terms.items()}
    aux = world.aux if isinstance(world.objective, Sum) else nn.ModuleList([world.aux])
    assert isinstance(aux, nn.ModuleList)
    whole.advance(aux, remembered, losses, Progress(step=1, steps=2))


def check_the_paper_is_named(objective: Objective[Any], **options: Any) -> None:
    """The module's docstring names a title in quotes and a year, or says "No paper" and why."""
    del options
    for part in objective.parts():
        text = sys.modules[type(part.part).__module__].__doc__ or ""
        named = re.search(r'"[^"]{8,}"', text) and re.search(r"\b(19|20)\d\d\b", text)
        assert named or "No paper" in text, (
            f'{part.name}: its module docstring names no paper: authors, "Title", venue, year'
        )


Check = Callable[..., None]

OBJECTIVE_CHECKS: tuple[Check, ...] = (
    check_values_are_finite_float32,
    check_terms_are_well_formed,
    check_gradient_reaches_the_student,
    check_gradient_never_reaches_the_teacher,
    check_masked_positions_change_nothing,
    check_unlabelled_labels_are_never_read,
    check_two_halves_add_up,
    check_calling_twice_gives_the_same,
    check_sequences_are_positions,
    check_slices_equal_the_whole,
    check_order_changes_nothing,
    check_aux_survives_saving,
    check_half_precision_gives_float32,
    check_positions_do_not_meet,
    check_probabilities_suffice,
    check_top_k_is_the_whole,
    check_draws_are_unbiased,
    check_remembered_rows_are_detached,
    check_the_paper_is_named,
)
