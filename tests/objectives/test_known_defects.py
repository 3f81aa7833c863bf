"""Mistakes of other libraries that no other file of tests names: ours does not make them."""

from typing import Any

import pytest
import torch

from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.fitnets_onestage import FitNetsOneStage
from preceptor.objectives.fsp import FSP
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.objectives.kd import KD
from preceptor.objectives.nkd import NKD
from preceptor.teachers.live import Live
from preceptor.train.fit import run
from preceptor.train.plan import Plan
from preceptor.types import Batch
from tests.objectives.random_logits import loss_on, pair
from tests.train.tiny import IMAGES, SGD, mlp, training

PAIR = (("1", "1"),)


def test_a_student_whose_layers_are_read_runs_once_a_step() -> None:
    # Keras 3.15.1 runs it a second time, in training mode, to extract features.
    student, teacher = mlp(1), mlp(2, width=32)
    passes = {"student": 0, "teacher": 0}
    for who, model in (("student", student), ("teacher", teacher)):

        def count(*_, who: str = who) -> None:
            passes[who] += 1

        model.module.register_forward_hook(count)
    going = training(
        CE() + 0.1 * FitNetsOneStage(layers=PAIR),
        student=student,
        teacher=Live(teacher),
        plan=Plan(steps=3, batch=12, optimizer=SGD),
    )
    passes.update(student=0, teacher=0)
    list(run(going))
    assert passes == {"student": 3, "teacher": 3}


def test_a_teachers_answer_keeps_no_graph() -> None:
    # fasterai's teacher runs with autograd on; KD_Lib's does too.
    teacher = mlp(2)
    live = Live(teacher).reading(frozenset({"1"}))
    teacher.requires_grad_(True)
    signal = live.signal(Batch(torch.rand(3, *IMAGES.shape)))
    assert not signal.logits.requires_grad
    assert not signal.tap("1").requires_grad


def test_the_students_own_logits_are_read() -> None:
    # labml's example used the large model's logits on both sides after a refactoring.
    t, s = pair(6, 7)
    assert float(loss_on(KD(), student_logits=s, teacher_logits=t)) > 0.1
    assert abs(float(loss_on(KD(), student_logits=t, teacher_logits=t))) < 1e-12


def test_the_label_is_not_among_nkds_other_classes() -> None:
    # Copies of one version of the authors' code mask nothing: ones scattered into ones.
    t, s = pair(6, 7)
    labels = torch.arange(6)
    moved = s + 5.0 * torch.nn.functional.one_hot(labels, 7)
    others = NKD(gamma=1.0)
    target = NKD(gamma=0.0)
    given = {"teacher_logits": t, "labels": labels}
    parts = [
        loss_on(others, student_logits=x, **given) - loss_on(target, student_logits=x, **given)
        for x in (s, moved)
    ]
    torch.testing.assert_close(parts[0], parts[1])


@pytest.mark.parametrize(
    ("objective", "student", "teacher"),
    [
        (FitNetsOneStage(layers=PAIR), (3, 8, 8), (5, 4, 4)),
        (HiddenStates(layers=PAIR), (6, 3), (6, 5)),
    ],
)
def test_widths_and_sizes_may_differ_between_teacher_and_student(
    objective: Objective[Any], student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    # fasterai compares maps and embeddings of equal shapes only.
    ours, theirs = {"1": torch.rand(4, *student)}, {"1": torch.rand(4, *teacher)}
    logits = torch.zeros(4, 2)
    aux = objective.auxiliary(
        objective.context_on(student_logits=logits, student_taps=ours, teacher_taps=theirs)
    )
    loss = objective.on(student_logits=logits, student_taps=ours, teacher_taps=theirs, aux=aux)
    assert loss.isfinite()


def test_flows_are_compared_by_the_squared_frobenius_norm() -> None:
    # torchdistill's FSPLoss adds lengths of columns, unsquared.
    taps = [{name: torch.rand(3, 4, 5, 5) for name in "ab"} for _ in range(2)]
    flows = [torch.einsum("bchw,bdhw->bcd", tap["a"], tap["b"]) / 25 for tap in taps]
    ours = FSP(layers=(("a", "a"), ("b", "b"))).on(
        student_logits=torch.zeros(3, 2), student_taps=taps[0], teacher_taps=taps[1]
    )
    torch.testing.assert_close(ours, (flows[0] - flows[1]).square().sum(dim=(1, 2)).mean())
