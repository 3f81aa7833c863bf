"""Each promise of the contract catches a method that breaks it: one honest offender each."""
# ruff: noqa: ARG002 (an offender's signature is the objective's)

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pytest
import torch
from torch import Tensor, nn

from preceptor.objectives.base import LayerKind, Layers, Objective, pair_needs
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.objectives.schedules import Ramp
from preceptor.ops.divergences import kl_between_logs
from preceptor.ops.pairing import forward_kl_to, paired
from preceptor.testing import (
    OBJECTIVE_CHECKS,
    Check,
    check_objective,
    example_world,
    objective_cases,
)
from preceptor.types import Batch, Context, Needs, Outputs, Progress, Signal, Term, Terms

CHECKS: dict[str, Check] = {check.__name__[6:]: check for check in OBJECTIVE_CHECKS}


@dataclass(frozen=True)
class _Offender(Objective[nn.Module]):
    """A squared difference of logits that breaks a promise."""

    def needs(self) -> Needs:
        return Needs(kinds=frozenset({"logits"}))

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        return {self.name: Term(self.values(student.logits.float(), teacher, batch))}

    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        del batch
        return (s - teacher.logits.float().detach()).square().mean(dim=-1)


class _Infinite(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return super().values(s, teacher, batch) / 0


class _Misnamed(_Offender):
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        return {"other": Term(self.values(student.logits.float(), teacher, batch))}


class _PerBatchInSecret(_Offender):
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        values = self.values(student.logits.float(), teacher, batch)
        return {self.name: Term(values[batch.mask("all")].mean(), per="batch")}


class _CutOff(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return super().values(s.detach() + 0 * s, teacher, batch)


class _Leaking(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return (s - teacher.logits.float()).square().mean(dim=-1)


class _ReadingMasked(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        values = super().values(s, teacher, batch)
        return values - values.mean()


class _ReadingLabels(_Offender):
    def needs(self) -> Needs:
        return Needs(kinds=frozenset({"logits"}), labels=True)

    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return super().values(s, teacher, batch) * (1 + batch.labels)


class _ReadingUndeclaredLabels(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return super().values(s, teacher, batch) * batch.labels


class _DividingByTheBatch(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return super().values(s, teacher, batch) / len(batch)


class _Drawing(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        values = super().values(s, teacher, batch)
        return values * torch.rand_like(values)


class _SecondAxisIsClasses(_Offender):
    """torchdistill's: axis 1 is the class axis of images and the token axis of text."""

    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        p = torch.softmax(teacher.logits.float().detach(), dim=1)
        return (p * torch.log_softmax(s, dim=1)).sum(dim=-1)


class _CountingFromTheFirst(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        values = super().values(s, teacher, batch)
        place = torch.arange(len(values)).view(-1, *[1] * (values.ndim - 1))
        return values * place


class _LowPrecision(_Offender):
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        difference = student.logits - teacher.logits.detach()
        return {self.name: Term(difference.square().mean(dim=-1))}


class _RawLogitsInSecret(_Offender):
    def needs(self) -> Needs:
        return Needs(kinds=frozenset({"probabilities"}), temperatures=frozenset({4.0}))


class _Bins(_Offender):
    """What reads a teacher's bins at T = 1."""

    def needs(self) -> Needs:
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({1.0}), linear=False)


class _WholeInSecret(_Bins):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        p = teacher.whole.log_probs(1.0).detach()
        return kl_between_logs(p, torch.log_softmax(s, dim=-1))


class _Renormalising(_Bins):
    """DistillKit's and axolotl's default: the k largest are made to add up to 1, and q is not."""

    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        both = paired(teacher.distribution, s, 1.0)
        if not both.rest:
            return kl_between_logs(both.teacher, both.student)
        p = torch.log_softmax(both.teacher[..., :-1], dim=-1)
        return kl_between_logs(p, both.student[..., :-1])


class _SayingLinear(_Bins):
    """The square of an unbiased estimate is biased."""

    def needs(self) -> Needs:
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({1.0}))

    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        return forward_kl_to(teacher.distribution, s, 1.0).square()


class _MeetingInTheGradient(_Offender):
    def values(self, s: Tensor, teacher: Signal, batch: Batch) -> Tensor:
        everywhere = s.flatten(0, -2)[batch.mask("all").flatten()].sum()
        return super().values(s, teacher, batch) + (everywhere - everywhere.detach())


class _Remembering(_Offender):
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        values = self.values(student.logits.float(), teacher, batch)
        return {self.name: Term(values, remember={"logits": student.logits})}


class _WithModules(_Offender):
    def auxiliary(self, context: Context) -> nn.Module:
        return nn.Linear(context.num_classes, context.num_classes)


class _MaskingAfterItsModules(_WithModules):
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        values = aux(student.logits.float()) - teacher.logits.float().detach()
        return {self.name: Term(values.square().mean(dim=-1))}


class _MovingItsModules(_WithModules):
    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        with torch.no_grad():
            next(aux.parameters()).add_(1.0)
        values = aux(student.logits.float()) - teacher.logits.float().detach()
        return {self.name: Term(values.square().mean(dim=-1))}


class _KeepingAList(_Offender):
    """mdistiller's VID: what it learns lies in a list, and is neither trained nor saved."""

    def auxiliary(self, context: Context) -> nn.Module:
        module = nn.Module()
        module.kept = [torch.rand(context.num_classes)]  # pyright: ignore
        return module

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        kept: list[Tensor] = aux.kept  # pyright: ignore
        return {self.name: Term(self.values(student.logits.float() * kept[0], teacher, batch))}


OFFENDERS: tuple[tuple[type[_Offender], str, str], ...] = (
    (_Infinite, "values_are_finite_float32", "not finite"),
    (_Misnamed, "terms_are_well_formed", "not named"),
    (_PerBatchInSecret, "terms_are_well_formed", "per batch"),
    (_CutOff, "gradient_reaches_the_student", "no gradient reaches the student"),
    (_WithModules, "gradient_reaches_the_student", "weight"),
    (_Leaking, "gradient_never_reaches_the_teacher", "detach"),
    (_ReadingMasked, "masked_positions_change_nothing", "masked"),
    (_MaskingAfterItsModules, "masked_positions_change_nothing", "before a module"),
    (_ReadingLabels, "unlabelled_labels_are_never_read", "labelled"),
    (_ReadingUndeclaredLabels, "values_are_finite_float32", "does not name"),
    (_DividingByTheBatch, "two_halves_add_up", "half"),
    (_Drawing, "calling_twice_gives_the_same", "generator"),
    (_MovingItsModules, "calling_twice_gives_the_same", "then"),
    (_SecondAxisIsClasses, "sequences_are_positions", "one row"),
    (_DividingByTheBatch, "slices_equal_the_whole", "slice"),
    (_CountingFromTheFirst, "order_changes_nothing", "order"),
    (_KeepingAList, "aux_survives_saving", "saved and loaded"),
    (_LowPrecision, "half_precision_gives_float32", "bfloat16"),
    (_RawLogitsInSecret, "probabilities_suffice", "does not name"),
    (_WholeInSecret, "top_k_is_the_whole", "does not name"),
    (_Renormalising, "top_k_is_the_whole", "top-2"),
    (_SayingLinear, "draws_are_unbiased", "draws"),
    (_MeetingInTheGradient, "positions_do_not_meet", "reaches the student logits"),
    (_Remembering, "remembered_rows_are_detached", "detach"),
    (_Offender, "the_paper_is_named", "docstring"),
)


@pytest.mark.parametrize(("kind", "promise", "word"), OFFENDERS)
def test_a_broken_promise_is_caught_in_words(kind: type, promise: str, word: str) -> None:
    with pytest.raises(AssertionError, match=word):
        CHECKS[promise](kind())


def test_every_promise_has_an_offender() -> None:
    assert {promise for _, promise, _ in OFFENDERS} == set(CHECKS)


def test_the_offenders_model_keeps_all_other_promises() -> None:
    for name, check in CHECKS.items():
        if name != "the_paper_is_named":
            check(_Offender())


@final
@dataclass(frozen=True)
class _Hints(Objective[nn.ModuleList]):
    """Reads named layers, learns a map, remembers and advances."""

    reads: ClassVar[LayerKind | None] = "embedding"

    layers: Layers = "auto"

    def needs(self) -> Needs:
        return pair_needs(self.layers, Needs(scope="example"))

    def auxiliary(self, context: Context) -> nn.ModuleList:
        pairs = [] if self.layers == "auto" else self.layers
        widths = [
            (context.student.tap(s).shape[1], context.teacher.tap(t).shape[1]) for s, t in pairs
        ]
        return nn.ModuleList(nn.Linear(*width) for width in widths)

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.ModuleList) -> Terms:
        (ours, theirs) = self.layers[0]
        # Masked rows leave before the module: 0 * NaN in its gradient would be NaN.
        counts = batch.mask("all").unsqueeze(-1)
        s = torch.where(counts, student.tap(ours).float(), 0.0)
        t = torch.where(counts, teacher.tap(theirs).float().detach(), 0.0)
        values = (aux[0](s) - t).square().mean(dim=-1)
        return {self.name: Term(values, per="example", remember={"hint": t})}

    def advance(
        self,
        aux: nn.ModuleList,
        remembered: Mapping[str, Tensor],
        losses: Mapping[str, float],
        at: Progress,
    ) -> None:
        del aux, losses, at
        assert set(remembered) == {"hint"}


def test_a_method_from_elsewhere_is_tried_with_shapes_of_its_own() -> None:
    named = _Hints(layers=(("neck", "body.3"),))
    shapes = {"student": {"neck": (9,)}, "teacher": {"body.3": (12,)}}
    world = example_world(named, taps=shapes)
    assert world.student.tap("neck").shape == (8, 9)
    for name, check in CHECKS.items():
        if name != "the_paper_is_named":
            check(named, taps=shapes)


def test_a_tap_of_unknown_shape_is_asked_for() -> None:
    with pytest.raises(AssertionError, match="give check_objective the shape"):
        check_objective(_Hints(layers=(("neck", "body.3"),)))


def test_sums_weights_and_ramps_keep_the_contract() -> None:
    check_objective(0.1 * CE() + 0.9 * KD(temperature=4.0))
    check_objective(CE() + KD() * Ramp(start=0.0, end=2.0) + KD(temperature=2.0))


def test_all_methods_together_keep_the_contract() -> None:
    check_objective(functools.reduce(operator.add, objective_cases().values()))
