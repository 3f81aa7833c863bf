import pytest
import torch
from torch import nn

from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.weights import fingerprint, frozen_copy, take_over
from tests.teachers.small import cnn


def test_a_fingerprint_sees_one_bit_of_one_weight_or_buffer() -> None:
    model, twin = cnn(), cnn()
    before = fingerprint(model)
    assert fingerprint(twin) == before
    twin.module.get_submodule("norm").get_buffer("running_mean")[0] += 1e-30
    assert fingerprint(twin) != before
    with torch.no_grad():
        bias = model.module.get_submodule("fc").get_parameter("bias")
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert fingerprint(model) != before


def test_a_fingerprint_tells_names_and_dtypes_apart() -> None:
    zero = torch.zeros(4)
    prints = {
        fingerprint({"a": zero}),
        fingerprint({"b": zero}),
        fingerprint({"a": zero.double()}),
        fingerprint({"a": zero.to(torch.bfloat16)}),
        fingerprint({"a": torch.tensor(0.0)}),
        fingerprint({"a": zero, "b": zero}),
    }
    assert len(prints) == 6


def test_input_normalisation_is_part_of_a_fingerprint() -> None:
    module = cnn().module
    plain, other = (0.5, 0.5, 0.5), (0.4, 0.5, 0.5)
    first = TappedModel(module, mean=plain, std=plain)
    assert fingerprint(first) != fingerprint(TappedModel(module, mean=other, std=plain))


def test_a_frozen_copy_shares_nothing_and_shows_nothing() -> None:
    student = cnn().reading(frozenset({"norm"}))
    student(torch.rand(2, 3, 6, 6)).logits.sum().backward()
    twin = frozen_copy(student)
    assert fingerprint(twin) == fingerprint(student)
    assert not twin.training
    assert not twin(torch.rand(2, 3, 6, 6)).taps
    own = {tensor.data_ptr() for tensor in student.parameters()}
    for parameter in twin.parameters():
        assert parameter.data_ptr() not in own
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_half_precision_is_widened_in_a_frozen_copy() -> None:
    twin = frozen_copy(cnn().to(torch.bfloat16))
    assert {parameter.dtype for parameter in twin.parameters()} == {torch.float32}
    assert twin.module.get_submodule("norm").get_buffer("num_batches_tracked").dtype == torch.int64


def test_another_student_is_refused_by_the_name_of_the_weight() -> None:
    with pytest.raises(ModelError, match=r"module\.conv\.weight.*follows that one student"):
        take_over(cnn(), dict(nn.Linear(2, 2).named_parameters()))
