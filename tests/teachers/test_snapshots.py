from typing import Any

import pytest
import torch

from preceptor.errors import NeedsError, RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.snapshots import Snapshots
from preceptor.teachers.weights import fingerprint
from tests.teachers.small import batch_of, cnn


def jump(student: TappedModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def run(student: TappedModel, teacher: Snapshots, steps: int) -> list[str]:
    """Fingerprints of the student at the start and after each step."""
    past = [fingerprint(student)]
    for step in range(steps):
        jump(student, step)
        teacher.learn(student, [])
        past.append(fingerprint(student))
    return past


def test_the_last_snapshot_answers() -> None:
    student = cnn()
    teacher = Snapshots(student, at=(2, 5))
    past = run(student, teacher, 4)
    assert [fingerprint(model) for model in teacher.models] == [past[2]]
    past = run(student, teacher, 3)
    assert [fingerprint(model) for model in teacher.models] == [past[1]]


def test_one_number_means_every_so_many_steps() -> None:
    student = cnn()
    teacher = Snapshots(student, at=2, last=2)
    past = run(student, teacher, 7)
    assert [fingerprint(model) for model in teacher.models] == [past[4], past[6]]
    assert fingerprint(teacher.model) == past[6]


def test_before_the_first_snapshot_the_start_answers_and_is_then_let_go() -> None:
    student = cnn()
    teacher = Snapshots(student, at=(2, 3), last=3)
    past = run(student, teacher, 1)
    assert [fingerprint(model) for model in teacher.models] == [past[0]]
    past = run(student, teacher, 1)
    assert [fingerprint(model) for model in teacher.models] == [past[1]]


def test_several_answer_with_the_mean_of_their_probabilities() -> None:
    student, batch = cnn(), batch_of([1, 2])
    teacher = Snapshots(student, at=1, last=2)
    run(student, teacher, 3)
    each = [(model(batch.inputs).logits / 3).softmax(-1) for model in teacher.models]
    found = teacher.signal(batch).whole.log_probs(3.0).exp()
    assert torch.allclose(found, (each[0] + each[1]) / 2, atol=1e-6)


def test_one_shows_features_and_several_do_not() -> None:
    one, two = Snapshots(cnn(), at=1), Snapshots(cnn(), at=1, last=2)
    assert one.offers().teacher_taps == {"*"}
    assert two.offers().teacher_taps == frozenset()
    assert one.reading(frozenset({"norm"})).signal(batch_of([1])).taps.keys() == {"norm"}
    with pytest.raises(NeedsError, match="raw logits"):
        _ = two.signal(batch_of([1])).logits


def test_taps_outlive_a_new_snapshot() -> None:
    student = cnn()
    teacher = Snapshots(student, at=1).reading(frozenset({"norm"}))
    run(student, teacher, 2)
    assert teacher.signal(batch_of([1])).taps.keys() == {"norm"}
    assert fingerprint(teacher.models[0]) == fingerprint(student)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_a_resumed_run_keeps_every_snapshot(steps: int) -> None:
    student = cnn()
    teacher = Snapshots(student, at=2, last=2)
    run(student, teacher, steps)
    again = Snapshots(cnn(), at=2, last=2)
    again.load_state(teacher.state())
    for each in (teacher, again):
        run(student, each, 1)
    assert [fingerprint(m) for m in again.models] == [fingerprint(m) for m in teacher.models]


@pytest.mark.parametrize("arguments", [{"at": ()}, {"at": 0}, {"at": (0, 3)}, {"at": 1, "last": 0}])
def test_steps_that_are_none_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="steps from 1 on"):
        Snapshots(cnn(), **arguments)
