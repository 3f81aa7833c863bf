import pytest
import torch

from preceptor.errors import NeedsError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.live import Live
from preceptor.teachers.weights import fingerprint
from preceptor.types import Batch, Projected
from tests.teachers.small import batch_of, cnn, images
from tests.train.sentences import Sentences, language_model


def test_the_answer_is_the_model_s_own_in_eval_mode() -> None:
    model = cnn(dropout=0.5)
    expected = model.eval()(images([1, 2])).logits
    assert torch.equal(Live(model.train()).signal(batch_of([1, 2])).logits, expected)


def test_somebody_calling_train_on_it_changes_nothing() -> None:
    teacher = Live(cnn(dropout=0.5))
    expected = teacher.signal(batch_of([1, 2])).logits
    teacher.model.train()
    assert torch.equal(teacher.signal(batch_of([1, 2])).logits, expected)
    teacher.model.module.get_submodule("drop").train()
    assert torch.equal(teacher.signal(batch_of([1, 2])).logits, expected)


def test_its_weights_and_buffers_are_untouched() -> None:
    teacher = Live(cnn())
    before = fingerprint(teacher.model)
    for _ in range(3):
        teacher.model.train()
        teacher.signal(batch_of([1, 2, 3]))
    assert fingerprint(teacher.model) == before


def test_nothing_that_it_shows_carries_a_gradient() -> None:
    teacher = Live(cnn()).reading(frozenset({"norm"}))
    signal = teacher.signal(batch_of([1, 2]))
    shown = [signal.logits, signal.tap("norm"), signal.head.weight, signal.head.bias]
    assert all(tensor is not None and not tensor.requires_grad for tensor in shown)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_only_taps_that_were_named_are_shown() -> None:
    teacher = Live(cnn())
    assert not teacher.signal(batch_of([1])).taps
    assert teacher.reading(frozenset({"norm"})).signal(batch_of([1])).taps.keys() == {"norm"}
    with pytest.raises(NeedsError, match="no taps"):
        teacher.signal(batch_of([1])).tap("norm")


def test_a_model_without_a_known_classifier_offers_none() -> None:
    teacher = Live(TappedModel(cnn().module))
    assert not teacher.offers().teacher_head
    with pytest.raises(NeedsError, match="classifier"):
        _ = teacher.signal(batch_of([1])).head


def test_it_sees_the_teacher_s_inputs() -> None:
    teacher = Live(cnn())
    mirrored = Batch(images([1, 2]), teacher_inputs=images([1, 2], view=1))
    expected = teacher.signal(batch_of([1, 2], view=1)).logits
    assert torch.equal(teacher.signal(mirrored).logits, expected)


def test_a_bfloat16_teacher_stays_one_and_is_read_in_float32() -> None:
    wide = Live(cnn()).signal(batch_of([1, 2])).whole.log_probs(4.0)
    signal = Live(cnn().to(torch.bfloat16)).signal(batch_of([1, 2]))
    assert signal.logits.dtype == torch.bfloat16
    narrow = signal.whole.log_probs(4.0)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow, wide, atol=0.02)


def test_the_student_s_mixed_precision_is_not_the_teacher_s() -> None:
    teacher = Live(cnn())
    expected = teacher.signal(batch_of([1, 2])).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = teacher.signal(batch_of([1, 2])).logits
    assert inside.dtype == torch.float32
    assert torch.equal(inside, expected)


def test_a_language_model_in_bfloat16_is_scored_in_float32() -> None:
    batch = Sentences().sample(4)
    wide = Live(language_model(1)).signal(batch).whole.log_probs(2.0)
    signal = Live(language_model(1, dtype="bfloat16")).signal(batch)
    assert isinstance(signal.distribution, Projected)
    assert signal.distribution.head.weight.dtype == torch.bfloat16
    narrow = signal.whole.log_probs(2.0)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow, wide, atol=0.05)


def test_it_computes_on_a_device_of_its_own_and_answers_on_the_batch_s() -> None:
    # A device without memory shows where things are sent; it computes shapes alone.
    teacher = Live(language_model(1), device="meta").to("cpu")
    assert next(teacher.model.parameters()).device.type == "meta"
    here = Live(language_model(1), device="cpu").to("meta")
    assert next(here.model.parameters()).device.type == "cpu"
    assert here.signal(Sentences().sample(2)).whole.log_probs(1.0).device.type == "cpu"
    assert here.reading(frozenset()).device == "cpu"
