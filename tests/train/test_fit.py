import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from preceptor.errors import MemoryFailure, ModelError, NeedsError, NonFiniteError, RecipeError
from preceptor.objectives.ce import CE
from preceptor.objectives.crd import CRD
from preceptor.objectives.dml import DML
from preceptor.objectives.kd import KD
from preceptor.objectives.rkd import RKD
from preceptor.objectives.schedules import Auto, Ramp
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.teachers.peers import Peers
from preceptor.train.fit import fit, run
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan
from preceptor.train.training import Training
from tests.train.tiny import IMAGES, SGD, mlp, source, training, weights


def test_fit_equals_the_same_loop_written_by_hand():
    ours, by_hand, teacher = mlp(1), mlp(1), mlp(2, width=32).eval()
    plan = Plan(steps=10, batch=12, optimizer=SGD, probe_every=0)
    losses = list(fit(ours, Live(teacher), 0.1 * CE() + 0.9 * KD(), source(unlabelled=8), plan))

    stream = source(unlabelled=8)
    sgd = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    for step in range(10):
        batch = stream.take()
        logits = by_hand(batch.inputs).logits
        with torch.no_grad():
            target = teacher(batch.inputs).logits
        hard = F.cross_entropy(logits[:12], batch.labels[:12])
        soft = 16 * F.kl_div(
            torch.log_softmax(logits / 4, -1),
            torch.log_softmax(target / 4, -1),
            log_target=True,
            reduction="batchmean",
        )
        loss = 0.1 * hard + 0.9 * soft
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        assert losses[step].total == pytest.approx(loss.item(), rel=1e-5)
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3, 5, 20])
def test_micro_batches_change_no_number(accumulate: int):
    whole = training(plan=Plan(steps=6, batch=12, optimizer=SGD))
    parts = training(plan=Plan(steps=6, batch=12, optimizer=SGD, accumulate=accumulate))
    for a, b in zip(run(whole), run(parts), strict=True):
        assert a.terms == pytest.approx(b.terms, abs=1e-6)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=1e-4, atol=1e-6)


def test_an_automatic_weight_gives_a_method_its_share_of_the_gradient():
    objective = CE() + Auto(0.25) * KD()
    losses = list(run(training(objective, plan=Plan(steps=8, batch=12, optimizer=SGD))))
    assert losses[0].shares["kd"] == pytest.approx(0.25, abs=1e-6)
    assert losses[0].shares["ce"] == pytest.approx(0.75, abs=1e-6)
    found = [step.weights["kd"] for step in losses]
    assert found[4:] == [found[4]] * len(found[4:])
    assert losses[-1].shares == {}


def test_an_automatic_weight_needs_somebody_to_be_balanced_against():
    with pytest.raises(RecipeError, match="nothing is left"):
        list(run(training(Auto(0.5) * CE() + Auto(0.5) * KD())))


def test_gradients_taken_apart_are_the_joint_gradient():
    apart = training(plan=Plan(steps=5, batch=12, optimizer=SGD))
    joint = training(plan=Plan(steps=5, batch=12, optimizer=SGD))
    for trainee in joint.trainees:
        trainee.balance.measured = 99  # settled: from now on one backward pass
    joint.plan = replace(joint.plan, probe_every=0)
    assert all(step.shares for step in run(apart))
    assert not any(step.shares for step in run(joint))
    for name, value in weights(joint).items():
        torch.testing.assert_close(weights(apart)[name], value, rtol=1e-4, atol=1e-6)


def test_a_broken_image_stops_the_run_by_name_before_any_weight_moves():
    going = training()
    stream = going.source
    take = stream.take

    def spoiled(rank: int = 0, world: int = 1):
        batch = take(rank, world)
        assert isinstance(batch.inputs, torch.Tensor)
        batch.inputs[3] = math.nan
        spoiled_ids.append(int(batch.ids[3]))
        return batch

    spoiled_ids: list[int] = []
    stream.take = spoiled
    before = weights(going)
    with pytest.raises(NonFiniteError, match="NaN") as caught:
        next(run(going))
    assert f"examples {spoiled_ids[0]}:" in str(caught.value)
    for name, value in weights(going).items():
        assert torch.equal(value, before[name])


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(monkeypatch: pytest.MonkeyPatch):
    plain = training(plan=Plan(steps=4, batch=12, optimizer=SGD), unlabelled=0)
    short = training(plan=Plan(steps=4, batch=12, optimizer=SGD), unlabelled=0)
    forward = short.trainees[0].member.student.forward

    def limited(inputs: torch.Tensor):
        if len(inputs) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(inputs)

    monkeypatch.setattr(short.trainees[0].member.student, "forward", limited)
    for a, b in zip(run(plain), run(short), strict=True):
        assert a.terms == pytest.approx(b.terms, abs=1e-6)
    assert short.accumulate == 4
    assert any("halved" in notice for notice in short.notices)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(short)[name], value, rtol=1e-4, atol=1e-6)


def test_out_of_memory_is_refused_where_examples_are_compared(monkeypatch: pytest.MonkeyPatch):
    going = training(CE() + RKD(layers=(("1", "1"),)))

    def full(inputs: torch.Tensor):
        del inputs
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(going.trainees[0].member.student, "forward", full)
    with pytest.raises(MemoryFailure, match="rkd compares the examples"):
        next(run(going))


def test_accumulation_is_refused_where_examples_are_compared():
    with pytest.raises(RecipeError, match="rkd"):
        training(CE() + RKD(layers=(("1", "1"),)), plan=Plan(steps=2, batch=12, accumulate=2))


def test_what_the_teacher_cannot_give_is_refused_before_training():
    with pytest.raises(NeedsError, match="probabilities"):
        training(KD(), teacher=Nobody())


def test_a_student_of_other_classes_is_refused():
    other = mlp(1)
    setattr(other.module, "4", torch.nn.Linear(16, IMAGES.num_classes + 2))
    with pytest.raises(ModelError, match=f"{IMAGES.num_classes + 2} classes"):
        training(student=other)


def test_a_plan_moves_only_what_its_globs_name():
    plan = Plan(steps=4, batch=12, optimizer=SGD, trainable=("4.*",))
    going = training(plan=plan)
    before = weights(going)
    list(run(going))
    moved = {n for n, v in weights(going).items() if not torch.equal(v, before[n])}
    assert moved == {"module.4.weight", "module.4.bias"}


def test_an_unknown_glob_names_the_nearest_parameter():
    with pytest.raises(RecipeError, match=r"4\.weight"):
        training(plan=Plan(steps=1, trainable=("4.wieght",)))


def test_adapters_train_and_stay_out_of_the_student():
    going = training(CE() + CRD(layers=(("1", "1"),), negatives=16))
    adapter = next(iter(going.trainees[0].member.aux.parameters()))
    before = adapter.detach().clone()
    list(run(going))
    assert not torch.equal(adapter, before)
    assert set(weights(going)) == set(mlp(1).state_dict())


def test_the_average_of_weights_is_what_is_kept():
    going = training(plan=Plan(steps=1, batch=12, optimizer=SGD, ema=0.75))
    before = weights(going)["module.1.weight"]
    going.trainees[0].average = {k: v.clone() for k, v in going.trainees[0].average.items()}
    list(run(going))
    now = going.trainees[0].member.student.module.state_dict()["1.weight"].clone()
    torch.testing.assert_close(weights(going)["module.1.weight"], 0.75 * before + 0.25 * now)


def test_clipping_bounds_the_step():
    plan = Plan(steps=1, batch=12, clip=1e-3, optimizer=OptimizerPlan(lr=1.0, momentum=0.0))
    going = training(plan=plan)
    before = weights(going)
    list(run(going))
    moved = sum((v - before[n]).square().sum() for n, v in weights(going).items())
    assert float(moved) ** 0.5 == pytest.approx(1e-3, rel=1e-3)


def test_a_cohort_learns_from_its_peers_and_each_has_its_losses():
    cohort = [mlp(1), mlp(5, width=24)]
    going = training(CE() + DML(), student=cohort, teacher=Peers())
    losses = list(run(going))
    assert set(losses[0].terms) == {"ce", "dml", "1/ce", "1/dml"}
    assert losses[-1].terms["1/ce"] < losses[0].terms["1/ce"]
    assert len(going.students()) == 2


def test_a_ramp_moves_the_weight_and_not_the_logged_term():
    ramped = 1.0 * CE() + Ramp(start=0.0, end=1.0, over=1.0) * KD()
    plan = Plan(steps=4, batch=12, optimizer=SGD, probe_every=0)
    first = next(run(training(ramped, plan=plan)))
    assert first.total == pytest.approx(first.terms["ce"])
    assert first.terms["kd"] > 0


def test_the_rate_follows_the_schedule():
    schedule = SchedulePlan(name="drops", drops=(0.5, 0.75))
    plan = Plan(steps=8, batch=12, optimizer=SGD, schedule=schedule)
    rates = [step.lr for step in run(training(plan=plan))]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_epochs_are_counted_over_the_labelled_examples():
    going = Training(
        mlp(1), Live(mlp(2)), CE(), source(batch=12), Plan(epochs=2, batch=12, optimizer=SGD)
    )
    assert going.steps == 2 * math.ceil(30 / 12)


def test_a_student_evaluated_between_two_steps_goes_on_in_train_mode():
    going = training()
    student = going.trainees[0].member.student
    modes: list[bool] = []
    student.module.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for _ in run(going):
        student.eval()
    assert modes == [True] * 12


def test_a_student_is_not_its_own_teacher():
    student = mlp(1)
    with pytest.raises(ModelError, match=r"module.1.weight is the student's own"):
        training(student=student, teacher=Live(student))
