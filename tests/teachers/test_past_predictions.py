import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import DataError, NeedsError, RecipeError
from preceptor.teachers.past_predictions import PastPredictions
from preceptor.types import Batch, Outputs
from tests.teachers.small import CLASSES, batch_of

STUDENT = nn.Identity()


def answers(seed: int, count: int) -> Tensor:
    return 3 * torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(seed))


def learn(teacher: PastPredictions, ids: list[int], logits: Tensor) -> None:
    teacher.learn(STUDENT, [(batch_of(ids), Outputs(logits))])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_without_momentum_the_last_answer_is_given_at_any_temperature(temperature: float) -> None:
    teacher = PastPredictions(10, CLASSES)
    learn(teacher, [3, 7], answers(0, 2))
    learn(teacher, [7, 3], answers(1, 2))
    found = teacher.signal(batch_of([3, 7])).whole.log_probs(temperature)
    expected = (answers(1, 2).flip(0) / temperature).log_softmax(-1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_with_momentum_it_is_temporal_ensembling_with_its_bias_removed() -> None:
    teacher = PastPredictions(10, CLASSES, momentum=0.6)
    z = torch.zeros(2, CLASSES)
    for t in range(1, 5):
        learn(teacher, [3, 7], answers(t, 2))
        z = 0.6 * z + 0.4 * answers(t, 2).softmax(-1)
        found = teacher.signal(batch_of([3, 7])).whole.log_probs(1.0).exp()
        assert torch.allclose(found, z / (1 - 0.6**t), atol=1e-6)


def test_an_average_of_probabilities_exists_at_temperature_one_alone() -> None:
    teacher = PastPredictions(10, CLASSES, momentum=0.6)
    assert teacher.offers().temperatures == {1.0}
    with pytest.raises(NeedsError, match="1 alone"):
        teacher.signal(batch_of([1])).whole.log_probs(4.0)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_an_example_not_seen_yet_answers_with_its_label(momentum: float) -> None:
    teacher = PastPredictions(10, CLASSES, momentum)
    learn(teacher, [3], answers(0, 1))
    log_probs = teacher.signal(batch_of([1, 3, 2])).whole.log_probs(1.0)
    assert torch.equal(log_probs.exp()[0], torch.eye(CLASSES)[1])
    assert torch.allclose(log_probs.exp()[1], answers(0, 1)[0].softmax(-1), atol=1e-6)
    assert torch.equal(log_probs.exp()[2], torch.eye(CLASSES)[2])
    assert log_probs.isfinite().all()


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_an_unseen_example_without_a_label_answers_uniformly(momentum: float) -> None:
    teacher = PastPredictions(10, CLASSES, momentum)
    plain = batch_of([1, 2])
    hidden = Batch(
        plain.inputs,
        ids=plain.ids,
        labels=plain.labels,
        labelled=torch.tensor([False, True]),
    )
    for batch in (hidden, Batch(plain.inputs, ids=plain.ids)):
        probs = teacher.signal(batch).whole.log_probs(1.0).exp()
        assert torch.allclose(probs[0], torch.full((CLASSES,), 1 / CLASSES))


def test_an_id_that_stands_twice_counts_twice_in_order() -> None:
    once = PastPredictions(10, CLASSES, momentum=0.6)
    z = answers(0, 5)
    learn(once, [3, 7, 3, 3, 7], z)
    apart = PastPredictions(10, CLASSES, momentum=0.6)
    for number, row in zip([3, 7, 3, 3, 7], z, strict=True):
        learn(apart, [number], row.unsqueeze(0))
    batch = batch_of([3, 7])
    assert torch.equal(
        once.signal(batch).whole.log_probs(1.0),
        apart.signal(batch).whole.log_probs(1.0),
    )


def test_micro_batches_change_nothing() -> None:
    whole, halves = (PastPredictions(10, CLASSES, momentum=0.6) for _ in range(2))
    z = answers(0, 4)
    learn(whole, [1, 2, 3, 4], z)
    halves.learn(
        STUDENT,
        [(batch_of([1, 2]), Outputs(z[:2])), (batch_of([3, 4]), Outputs(z[2:]))],
    )
    assert torch.equal(whole.state()["log_z"], halves.state()["log_z"])


def test_a_masked_example_is_not_remembered() -> None:
    teacher = PastPredictions(10, CLASSES)
    plain = batch_of([1, 2])
    masked = Batch(
        plain.inputs, ids=plain.ids, labels=plain.labels, mask=torch.tensor([True, False])
    )
    teacher.learn(STUDENT, [(masked, Outputs(answers(0, 2)))])
    assert teacher.state()["times"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_a_bfloat16_student_is_remembered_in_float32() -> None:
    teacher = PastPredictions(10, CLASSES, momentum=0.6)
    z = answers(0, 1).to(torch.bfloat16)
    learn(teacher, [1], z)
    found = teacher.signal(batch_of([1])).whole.log_probs(1.0)
    assert torch.allclose(found, z.float().log_softmax(-1), atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_a_resumed_memory_is_the_same_memory(momentum: float) -> None:
    teacher, again = (PastPredictions(10, CLASSES, momentum) for _ in range(2))
    learn(teacher, [1, 2, 1], answers(0, 3))
    again.load_state(teacher.state())
    for each in (teacher, again):
        learn(each, [2, 3], answers(1, 2))
    assert torch.equal(again.state()["log_z"], teacher.state()["log_z"])
    assert torch.equal(again.state()["times"], teacher.state()["times"])


def test_no_raw_logits_are_offered_since_labels_stand_in() -> None:
    teacher = PastPredictions(10, CLASSES)
    assert teacher.offers().kinds == {"probabilities"}
    with pytest.raises(NeedsError, match="raw logits"):
        _ = teacher.signal(batch_of([1])).logits


@pytest.mark.parametrize("ids", [[10], [-1]])
def test_an_id_outside_the_memory_is_refused(ids: list[int]) -> None:
    teacher = PastPredictions(10, CLASSES)
    batch = Batch(torch.zeros(1, 3, 6, 6), ids=torch.tensor(ids))
    with pytest.raises(DataError, match="ids 0 to 9"):
        teacher.learn(STUDENT, [(batch, Outputs(answers(0, 1)))])


def test_text_is_refused() -> None:
    teacher = PastPredictions(10, CLASSES)
    batch = Batch(torch.zeros(1, 3), ids=torch.tensor([1]))
    with pytest.raises(NeedsError, match="another teacher for text"):
        teacher.learn(STUDENT, [(batch, Outputs(torch.zeros(1, 3, CLASSES)))])


@pytest.mark.parametrize("momentum", [1.0, -0.1])
def test_a_momentum_that_is_none_is_refused(momentum: float) -> None:
    with pytest.raises(RecipeError, match="momentum must be"):
        PastPredictions(10, CLASSES, momentum)
