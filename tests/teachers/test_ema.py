import pytest
import torch

from preceptor.errors import ModelError, RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.ema import EMA
from preceptor.teachers.weights import fingerprint, named_tensors
from tests.teachers.small import batch_of, cnn


def jump(student: TappedModel, seed: int) -> None:
    """New weights, and new BatchNorm statistics by a pass in train mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        student.train()(torch.rand(4, 3, 6, 6, generator=generator))


def history(student: TappedModel, teacher: EMA, steps: int) -> list[dict[str, torch.Tensor]]:
    """The student's weights at the start and after each step that the teacher saw."""
    past = [{n: t.detach().clone() for n, t in named_tensors(student).items()}]
    for step in range(steps):
        jump(student, step)
        teacher.learn(student, [])
        past.append({n: t.detach().clone() for n, t in named_tensors(student).items()})
    return past


def test_at_first_it_is_the_plain_mean_of_the_start_and_all_steps() -> None:
    student = cnn()
    teacher = EMA(student, decay=0.999)
    past = history(student, teacher, 7)
    for name, parameter in teacher.model.named_parameters():
        expected = torch.stack([weights[name].double() for weights in past]).mean(dim=0)
        assert torch.allclose(parameter.double(), expected, atol=1e-6)


def test_once_the_decay_binds_it_is_the_geometric_sum() -> None:
    # min(1 - 1/(n+1), 0.5) is 0.5 from the first step on.
    student = cnn()
    teacher = EMA(student, decay=0.5)
    past = history(student, teacher, 5)
    powers = torch.tensor([0.5**5, 0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5], dtype=torch.float64)
    for name, parameter in teacher.model.named_parameters():
        stacked = torch.stack([weights[name].double() for weights in past])
        expected = torch.tensordot(powers, stacked, dims=1)
        assert torch.allclose(parameter.double(), expected, atol=1e-6)


def test_batch_norm_s_statistics_are_the_student_s_latest() -> None:
    student = cnn()
    teacher = EMA(student)
    past = history(student, teacher, 3)
    for name, buffer in teacher.model.named_buffers():
        assert torch.equal(buffer, past[-1][name])
    assert int(teacher.model.module.get_submodule("norm").get_buffer("num_batches_tracked")) == 3


def test_before_the_first_step_the_start_answers() -> None:
    student, batch = cnn(), batch_of([1, 2])
    teacher, expected = EMA(student), student.eval()(batch.inputs).logits
    jump(student, 0)
    assert torch.equal(teacher.signal(batch).logits, expected.detach())


def test_the_student_is_not_moved_or_frozen() -> None:
    student = cnn()
    teacher = EMA(student)
    before = fingerprint(student)
    teacher.learn(student, [])
    teacher.signal(batch_of([1]))
    assert fingerprint(student) == before
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_resumed_average_is_the_same_average() -> None:
    student = cnn()
    teacher = EMA(student, decay=0.8)
    history(student, teacher, 3)
    again = EMA(cnn(), decay=0.8)
    again.load_state(teacher.state())
    jump(student, 9)
    for each in (teacher, again):
        each.learn(student, [])
    assert fingerprint(again.model) == fingerprint(teacher.model)
    assert again.step == teacher.step == 4


def test_a_saved_state_does_not_move_with_the_teacher() -> None:
    student = cnn()
    teacher = EMA(student)
    state = teacher.state()
    kept = fingerprint(state)
    history(student, teacher, 2)
    assert fingerprint(state) == kept


def test_it_shows_taps_of_the_average() -> None:
    student = cnn()
    teacher = EMA(student).reading(frozenset({"norm"}))
    jump(student, 0)
    teacher.learn(student, [])
    batch = batch_of([1, 2])
    expected = teacher.model.module[:2](batch.inputs)  # pyright: ignore[reportIndexIssue]
    assert torch.allclose(teacher.signal(batch).tap("norm"), expected)


def test_a_half_precision_student_is_averaged_in_float32() -> None:
    student = cnn().to(torch.bfloat16)
    teacher = EMA(student, decay=0.999)
    weight = student.module.get_submodule("fc").get_parameter("weight")
    with torch.no_grad():
        weight.fill_(1.0)
    own = teacher.model.module.get_submodule("fc").get_parameter("weight")
    own.data.fill_(0.0)
    teacher.step = 10_000
    teacher.learn(student, [])
    assert torch.allclose(own, torch.full_like(own, 1e-3))


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(RecipeError, match="decay must be"):
        EMA(cnn(), decay=decay)


def test_a_wrapped_student_is_refused_in_words() -> None:
    teacher = EMA(cnn())
    with pytest.raises(ModelError, match="unwrapped student"):
        teacher.learn(torch.nn.Sequential(cnn()), [])
