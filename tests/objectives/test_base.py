"""What every objective shares: sums, weights, names, reduction; and the schedules of weights."""

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import NeedsError, RecipeError
from preceptor.objectives.base import Choice, Sum, Weighted, group
from preceptor.objectives.ce import CE
from preceptor.objectives.dkd import DKD
from preceptor.objectives.kd import KD
from preceptor.objectives.reduction import by_example, count, mean_loss, total
from preceptor.objectives.schedules import Auto, Ramp
from preceptor.objectives.sp import SP
from preceptor.types import Batch, Dense, Outputs, Progress, Signal, Term
from tests.objectives.random_logits import pair, terms_of

LABELS = torch.tensor([0, 3, -1, 2, -1, 5])
MIX = 0.1 * CE() + 0.9 * KD(temperature=4.0)


def _mean(objective, t: Tensor, s: Tensor, labels: Tensor | None = None) -> Tensor:
    parts = objective.parts()
    batch = Batch(s.detach(), labels=labels)
    modules = nn.ModuleList(nn.Module() for _ in parts)
    return mean_loss(Sum(parts).terms(Outputs(s), Signal(Dense(t)), batch, modules), batch)


def test_a_sum_is_the_weighted_sum_of_means_over_what_each_part_counts() -> None:
    t, s = pair(6, 7)
    labelled = LABELS >= 0
    hard = torch.nn.functional.cross_entropy(s[labelled], LABELS[labelled])
    soft = 16 * torch.nn.functional.kl_div(
        torch.log_softmax(s / 4, -1), torch.softmax(t / 4, -1), reduction="batchmean"
    )
    torch.testing.assert_close(_mean(MIX, t, s, LABELS), 0.1 * hard + 0.9 * soft)


def test_weights_multiply_through_sums() -> None:
    t, s = pair(6, 7)
    once = _mean(MIX, t, s, LABELS)
    torch.testing.assert_close(_mean(2.0 * MIX, t, s, LABELS), 2 * once)
    twice = [part.weight for part in (0.5 * (2.0 * MIX)).parts()]
    assert twice == [part.weight for part in MIX.parts()]


def test_a_sum_is_flat_and_its_members_keep_their_order() -> None:
    objective = CE() + KD() + DKD()
    assert [part.part for part in objective.parts()] == [CE(), KD(), DKD()]
    assert all(isinstance(part, Weighted) for part in objective.members)


def test_a_method_that_stands_twice_has_its_terms_numbered() -> None:
    t, s = pair(6, 7)
    objective = KD(temperature=1.0) + KD(temperature=4.0) + DKD() + DKD()
    assert objective.labels() == ("kd", "kd#2", "dkd", "dkd#2")
    batch = Batch(s, labels=LABELS)
    modules = nn.ModuleList(nn.Module() for _ in objective.members)
    terms = objective.terms(Outputs(s), Signal(Dense(t)), batch, modules)
    assert list(terms) == ["kd", "kd#2", "dkd.target", "dkd.others", "dkd#2.target", "dkd#2.others"]
    assert [group(name) for name in terms] == ["kd", "kd#2", "dkd", "dkd", "dkd#2", "dkd#2"]


def test_a_sum_needs_what_its_parts_need() -> None:
    needs = (MIX + SP(layers=(("a", "b"),))).needs()
    assert needs.labels
    assert needs.kinds == {"bins"}
    assert needs.temperatures == {4.0}
    assert (needs.student_taps, needs.teacher_taps) == ({"a"}, {"b"})
    assert needs.scope == "batch"


def test_a_moving_weight_is_settled_by_the_time_and_refused_without_it() -> None:
    t, s = pair(6, 7)
    moving = KD() * Ramp(start=0.0, end=2.0, over=0.5)
    with pytest.raises(RecipeError, match="does not know the time"):
        _mean(moving, t, s)
    halfway = moving.at(Progress(step=25, steps=100))
    torch.testing.assert_close(_mean(halfway, t, s), _mean(KD(), t, s))


def test_a_weight_found_by_the_loop_marks_its_terms_and_is_refused_elsewhere() -> None:
    t, s = pair(6, 7)
    terms = terms_of(KD() * Auto(share=0.3), t, s)
    assert terms["kd"].auto == 0.3
    with pytest.raises(RecipeError, match="found by the loop"):
        _mean(CE() + KD() * Auto(), t, s, LABELS)


def test_weights_that_have_no_product_are_refused() -> None:
    with pytest.raises(RecipeError, match="have no product"):
        ((KD() * Ramp()) * Ramp()).parts()
    moving = (0.5 * (KD() * Ramp(start=0.0, end=2.0))).parts()[0].weight
    assert moving == Ramp(start=0.0, end=1.0)


def test_masked_values_never_enter_a_total_be_they_nan() -> None:
    values = torch.tensor([1.0, torch.nan, 3.0])
    batch = Batch(torch.zeros(3, 1), mask=torch.tensor([True, False, True]))
    assert float(total(Term(values), batch)) == 4
    assert count("all", "position", batch) == 2


def test_an_example_counts_where_any_of_its_positions_does() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    assert by_example(mask).tolist() == [True, False]
    batch = Batch(torch.zeros(2, 1), mask=mask)
    assert count("all", "example", batch) == 1
    assert float(total(Term(torch.tensor([5.0, torch.nan]), per="example"), batch)) == 5
    assert count("all", "batch", batch) == 1


def test_nothing_that_counts_is_a_loss_of_zero_and_not_nan() -> None:
    t, s = pair(6, 7)
    assert float(_mean(CE(), t, s, torch.full((6,), -1))) == 0


def test_a_method_is_named_after_its_file() -> None:
    assert [CE().name, KD().name, (0.5 * DKD()).name, MIX.name] == ["ce", "kd", "dkd", "ce+kd"]


def test_a_number_out_of_range_is_refused_in_words() -> None:
    with pytest.raises(RecipeError, match=r"KD\(temperature=0.0\): temperature must be > 0"):
        KD(temperature=0.0)


def test_layers_are_settled_once_and_named_ones_stay() -> None:
    named = SP(layers=(("x", "y"),))
    asked: list[str] = []

    def pairs(choice: Choice) -> tuple[tuple[str, str], ...]:
        asked.append(choice.kind)
        return (("a", "b"),)

    settled = (KD() + SP() + 2.0 * named).settled(pairs)
    layers = [getattr(part.part, "layers", None) for part in settled.parts()]
    assert layers == [None, (("a", "b"),), (("x", "y"),)]
    assert asked == ["last_map"]


def test_on_works_without_aux_where_there_is_none() -> None:
    t, s = pair(6, 7)
    loss = MIX.on(student_logits=s, teacher_logits=t, labels=LABELS)
    torch.testing.assert_close(loss, _mean(MIX, t, s, LABELS))


def test_on_counts_every_position_of_a_sequence() -> None:
    t, s = pair(2, 3, 7)
    loss = KD().on(student_logits=s, teacher_logits=t, aux=nn.Module())
    flat = KD().on(student_logits=s.flatten(0, 1), teacher_logits=t.flatten(0, 1), aux=nn.Module())
    torch.testing.assert_close(loss, flat)


def test_reading_what_nobody_gave_is_a_sentence() -> None:
    _, s = pair(6, 7)
    with pytest.raises(NeedsError, match="a distribution was read"):
        terms_of(KD(), None, s)
    with pytest.raises(NeedsError, match="a label was read"):
        terms_of(CE(), None, s)


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.25), ("cosine", 0.5 - 0.5 * 2**-0.5)])
def test_a_ramp_moves_by_the_stage(shape, middle: float) -> None:
    ramp = Ramp(start=0.0, end=1.0, over=0.8, shape=shape)
    steps = {0: 0.0, 20: middle, 80: 1.0, 100: 1.0}
    for step, value in steps.items():
        assert ramp.at(Progress(step=step, steps=100)) == pytest.approx(value)


def test_a_ramp_moves_by_epochs_down_or_up_and_at_once_where_it_has_no_length() -> None:
    ramp = Ramp(start=4.0, end=1.0, over=20.0, unit="epochs")
    assert ramp.at(Progress(step=1, steps=2, epoch=5.0)) == pytest.approx(3.25)
    assert ramp.at(Progress(step=1, steps=2, epoch=50.0)) == 1.0
    assert Ramp(start=4.0, end=1.0, over=0.0).at(Progress(step=0, steps=2)) == 1.0


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_of_the_gradient_is_less_than_all_and_more_than_nothing(share: float) -> None:
    with pytest.raises(RecipeError, match="between 0 and 1"):
        Auto(share=share)
