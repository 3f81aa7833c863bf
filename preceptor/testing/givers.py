"""Promises about how the teacher's probabilities are given: whole, mixed, cut to k, or drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from preceptor.objectives.base import Objective
from preceptor.objectives.reduction import total
from preceptor.testing.probing import gradients, same, with_leaves
from preceptor.testing.world import World, head_of, worlds
from preceptor.types import Dense, Distribution, Mixture, Outputs, Sampled, Signal, TopK


def check_probabilities_suffice(objective: Objective[Any], **options: Any) -> None:
    """Who says that probabilities suffice takes those of a mixture, and those at one temperature.

    Raw logits and probabilities answer alike; a mixture of one member is that member.
    """
    for world in worlds(objective, **options):
        needs = world.objective.needs()
        if not needs.kinds or "logits" in needs.kinds:
            continue
        assert needs.temperatures, f"{objective.name}: needs() names no temperature"
        dense = world.teacher.distribution
        assert isinstance(dense, Dense)
        givers: list[Dense | Mixture] = [Mixture((dense,), torch.ones(1, *dense.logits.shape[:-1]))]
        if len(needs.temperatures) == 1:
            (only,) = needs.temperatures
            givers.append(Dense(only * dense.log_probs(only), temperature=only))
        for giver in givers:
            other = _with_teacher(world, giver)
            same(objective, "the same probabilities otherwise", world.totals(), other.totals())


def check_top_k_is_the_whole(objective: Objective[Any], **options: Any) -> None:
    """Who takes bins takes a top-k of all classes for the whole, in values and gradients.

    And where a student that is its teacher has no loss, it has none for a top-2 and the mass of
    the rest either: no renormalising, on either side.
    """
    for world, dense, temperature in _with_bins(objective, **options):
        every = _with_teacher(world, top_k(dense, dense.logits.shape[-1], temperature))
        what = "a top-k of all classes in place of the whole"
        same(objective, what, world.totals(), every.totals())
        before, after = gradients(world), gradients(every)
        same(objective, f"{what} (gradients)", _known(before), _known(after))
        equal = replace(world, student=Outputs(dense.logits))
        cut = _with_teacher(equal, top_k(dense, 2, temperature))
        if all(bool(value.abs() < 1e-5) for value in equal.totals().values()):
            what = "a top-2, for a student that is its teacher"
            same(objective, what, equal.totals(), cut.totals())


def check_draws_are_unbiased(objective: Objective[Any], **options: Any) -> None:
    """Who takes bins and is linear in the teacher has on draws what the whole gives, on average.

    The average over one draw is exact: each class in turn, weighted by its probability.
    """
    for world, dense, temperature in _with_bins(objective, **options):
        if not world.objective.needs().linear:
            continue
        leaves: dict[str, Tensor] = {}
        seen = replace(world, student=with_leaves(world.student, "student", leaves))
        p = dense.log_probs(temperature).exp()
        whole = _weighed(seen, torch.ones_like(p[..., 0]))
        each = [
            _weighed(_with_teacher(seen, _drawn(dense, index, temperature)), p[..., index])
            for index in range(p.shape[-1])
        ]
        average = {name: torch.stack([one[name] for one in each]).sum() for name in whole}
        what = "the average over draws in place of the whole"
        same(objective, what, whole, average)
        expected, found = (
            torch.autograd.grad(torch.stack(list(totals.values())).sum(), list(leaves.values()))
            for totals in (whole, average)
        )
        before, after = (dict(zip(leaves, grads, strict=True)) for grads in (expected, found))
        same(objective, f"{what} (gradients)", before, after)


def top_k(dense: Dense, k: int, temperature: float) -> TopK:
    """The k largest probabilities of each position, the largest last, and the mass of the rest."""
    log_p = dense.log_probs(temperature)
    ids = log_p.argsort(dim=-1)
    kept, rest = ids[..., -k:], ids[..., :-k]
    tail = log_p.gather(-1, rest).logsumexp(dim=-1)
    return TopK(kept, log_p.gather(-1, kept), tail, temperature, log_p.shape[-1])


def _drawn(dense: Dense, index: int, temperature: float) -> Sampled:
    """One draw at each position: everywhere the same class."""
    log_p = dense.log_probs(temperature)
    ids = torch.full((*log_p.shape[:-1], 1), index)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return Sampled(ids, torch.ones_like(ids), entropy, temperature, log_p.shape[-1])


def _with_bins(objective: Objective[Any], **options: Any) -> Iterator[tuple[World, Dense, float]]:
    """The worlds of a method that reads bins at one temperature, with the teacher's logits."""
    for world in worlds(objective, **options):
        needs = world.objective.needs()
        if needs.kinds == {"bins"} and len(needs.temperatures) == 1:
            dense = world.teacher.distribution
            assert isinstance(dense, Dense)
            (temperature,) = needs.temperatures
            yield world, dense, temperature


def _with_teacher(world: World, distribution: Distribution) -> World:
    return replace(world, teacher=Signal(distribution, world.teacher.taps, head_of(world.teacher)))


def _weighed(world: World, weights: Tensor) -> dict[str, Tensor]:
    """Each term's sum over what counts, with a weight for each position."""
    return {
        name: total(replace(term, values=weights * term.values), world.batch)
        for name, term in world.terms().items()
    }


def _known(grads: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: torch.zeros(()) if grad is None else grad for name, grad in grads.items()}
