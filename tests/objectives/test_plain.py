"""`on`, `context_on` and `advance` in a loop of one's own: values, and sentences."""

from typing import Any

import pytest
import torch
from torch import Tensor

from preceptor.errors import DataError, ModelError, NeedsError
from preceptor.objectives.attention_transfer import AttentionTransfer
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.crd import CRD
from preceptor.objectives.dist import DIST
from preceptor.objectives.fitnets import FitNets
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.objectives.kd import KD
from preceptor.types import Progress
from tests.objectives.random_logits import pair

PAIR = (("s", "t"),)
LABELS = torch.tensor([0, 3, -1, 2])


def _maps(student: tuple[int, ...], teacher: tuple[int, ...]) -> dict[str, Any]:
    return {
        "student_logits": torch.zeros(len(LABELS), 5),
        "student_taps": {"s": torch.rand(len(LABELS), *student)},
        "teacher_taps": {"t": torch.rand(len(LABELS), *teacher)},
    }


@pytest.mark.parametrize("shape", [(4, 1), (4, 6), (1, 6)])
def test_a_teacher_of_other_classes_is_refused_and_never_stretched(shape) -> None:
    _, s = pair(4, 5)
    with pytest.raises(ModelError, match=f"5 classes, the teacher's for {shape[-1]}"):
        KD().on(student_logits=s, teacher_logits=torch.zeros(shape))


def test_a_teacher_of_other_classes_is_fine_where_its_logits_are_not_read() -> None:
    tensors = _maps((3, 4, 4), (2, 4, 4))
    plain = AttentionTransfer(layers=PAIR).on(**tensors)
    other = AttentionTransfer(layers=PAIR).on(**tensors, teacher_logits=torch.zeros(4, 9))
    assert torch.equal(plain, other)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_teacher_of_other_examples_is_refused(rows: int) -> None:
    _, s = pair(4, 5)
    with pytest.raises(DataError, match="same examples"):
        KD().on(student_logits=s, teacher_logits=torch.zeros(rows, 5))


def test_a_tap_of_other_examples_is_refused() -> None:
    tensors = _maps((3, 4, 4), (2, 4, 4))
    tensors["teacher_taps"] = {"t": torch.rand(1, 2, 4, 4)}
    with pytest.raises(DataError, match="tap 't' holds 1 examples, the student's logits 4"):
        AttentionTransfer(layers=PAIR).on(**tensors)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (torch.tensor([0, 1]), r"`labels` is \(2,\)"),
        (torch.tensor([0, 1, 2, 5]), "a label is 5"),
        (torch.rand(4), "float32"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels: Tensor, word: str) -> None:
    _, s = pair(4, 5)
    with pytest.raises(DataError, match=word):
        CE().on(student_logits=s, labels=labels)


def test_labels_of_32_bits_are_labels() -> None:
    _, s = pair(4, 5)
    assert torch.equal(
        CE().on(student_logits=s, labels=LABELS.int()), CE().on(student_logits=s, labels=LABELS)
    )


def test_masks_and_ids_of_other_examples_are_refused() -> None:
    t, s = pair(4, 5)
    with pytest.raises(DataError, match="`mask`"):
        KD().on(student_logits=s, teacher_logits=t, mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(DataError, match="`ids`"):
        KD().on(student_logits=s, teacher_logits=t, ids=torch.arange(3))


def test_a_mask_of_tokens_may_stand_beside_one_answer_an_example() -> None:
    tensors = _maps((6, 3), (6, 3))
    objective = HiddenStates(layers=PAIR)
    aux = objective.auxiliary(objective.context_on(**tensors))
    mask = torch.arange(6).expand(4, 6) < 4
    cut = {
        side: {n: t[:, :4] for n, t in tensors[side].items()} for side in tensors if "taps" in side
    }
    expected = objective.on(**{**tensors, **cut}, aux=aux)
    torch.testing.assert_close(objective.on(**tensors, aux=aux, mask=mask), expected)


def test_sequences_without_mask_or_labels_count_whole_in_a_term_per_batch() -> None:
    t, s = pair(2, 3, 7)
    flat = DIST().on(student_logits=s.flatten(0, 1), teacher_logits=t.flatten(0, 1))
    torch.testing.assert_close(DIST().on(student_logits=s, teacher_logits=t), flat)


def test_modules_come_from_the_tensors_of_one_batch() -> None:
    tensors = _maps((3, 8, 8), (5, 4, 4))
    objective = CE() + 2.0 * FitNets(layers=PAIR)
    with pytest.raises(NeedsError, match="context_on"):
        objective.on(**tensors, labels=LABELS)
    aux = objective.auxiliary(objective.context_on(**tensors))
    objective.on(**tensors, labels=LABELS, aux=aux).backward()
    gradients = [parameter.grad for parameter in aux.parameters()]
    assert gradients
    assert all(gradient is not None and gradient.any() for gradient in gradients)


def test_a_map_of_another_size_than_the_dry_one_is_refused_and_never_stretched() -> None:
    objective = FitNets(layers=PAIR)
    aux = objective.auxiliary(objective.context_on(**_maps((3, 8, 8), (5, 4, 4))))
    with pytest.raises(ModelError, match="nothing is stretched"):
        objective.on(**_maps((3, 8, 8), (5, 1, 1)), aux=aux)


def _contrast() -> tuple[dict[str, Any], dict[str, Any]]:
    tensors = _maps((3,), (4,))
    return tensors, {**tensors, "num_examples": 9}


@pytest.mark.parametrize(
    "objective", [CRD(layers=PAIR, negatives=4), CE() + 0.8 * CRD(layers=PAIR, negatives=4)]
)
def test_a_memory_advances_in_a_loop_of_ones_own(objective: Objective[Any]) -> None:
    tensors, dry = _contrast()
    aux = objective.auxiliary(objective.context_on(**dry))
    before = {name: value.clone() for name, value in aux.state_dict().items()}
    remembered: dict[str, Tensor] = {}
    ids = torch.tensor([7, 2, 5, 0])
    objective.on(**tensors, labels=LABELS, ids=ids, aux=aux, remembered=remembered).backward()
    objective.advance(aux, remembered, {}, Progress(step=1, steps=10))
    bank = next(name for name in before if name.endswith("teacher_bank"))
    moved = (aux.state_dict()[bank] != before[bank]).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [0, 2, 5, 7]


def test_a_memory_of_no_examples_and_an_id_outside_it_are_refused() -> None:
    tensors, dry = _contrast()
    objective = CRD(layers=PAIR, negatives=4)
    with pytest.raises(NeedsError, match="num_examples"):
        objective.auxiliary(objective.context_on(**tensors))
    aux = objective.auxiliary(objective.context_on(**dry))
    with pytest.raises(DataError, match="rows for 0 to 8"):
        objective.on(**tensors, ids=torch.tensor([0, 1, 2, 9]), aux=aux)
