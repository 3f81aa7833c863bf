from pathlib import Path

import pytest
import torch
from torch import nn

from preceptor.errors import ModelError
from preceptor.models.load import load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.teachers.adapter_base import AdapterBase
from preceptor.teachers.live import Live
from preceptor.train.training import require_two_models
from tests.train.sentences import LLAMA, Sentences, language_model

LORA = {"rank": 2, "targets": ["q_proj", "lm_head"]}
BATCH = Sentences().sample(4)


def pair(folder: Path) -> tuple[TappedModel, TappedModel]:
    """A student with adapters that do something, and its base loaded on its own."""
    save_model(language_model(3), folder)
    student = load_model({"causal": str(folder), "lora": LORA})
    for name, parameter in student.module.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    return student, load_model({"causal": str(folder)})


def test_it_answers_as_the_base_would_alone(tmp_path: Path) -> None:
    student, base = pair(tmp_path)
    found = AdapterBase(student).signal(BATCH).whole.log_probs(2.0)
    assert torch.equal(found, Live(base).signal(BATCH).whole.log_probs(2.0))
    own = student(BATCH.inputs).projection.log_probs(2.0)
    assert not torch.allclose(found, own, atol=1e-3)


def test_the_student_is_as_it_was(tmp_path: Path) -> None:
    student, _ = pair(tmp_path)
    student.train()
    student.module.get_submodule("base_model.model.model.layers.0").eval()
    modes = [part.training for part in student.modules()]
    trains = [parameter.requires_grad for parameter in student.parameters()]
    state = torch.get_rng_state()
    before = student(BATCH.inputs).projection.log_probs(1.0)
    AdapterBase(student).signal(BATCH)
    assert modes == [part.training for part in student.modules()]
    assert trains == [parameter.requires_grad for parameter in student.parameters()]
    assert torch.equal(state, torch.get_rng_state())
    after = student(BATCH.inputs).projection.log_probs(1.0)
    assert after.requires_grad
    assert torch.equal(before, after)


def test_it_answers_without_dropout_and_without_gradients() -> None:
    config = {**LLAMA, "attention_dropout": 0.5}
    student = load_model({"causal": config, "lora": {"rank": 2}}).train()
    teacher = AdapterBase(student)
    one, other = (teacher.signal(BATCH).whole for _ in range(2))
    assert torch.equal(one.log_probs(1.0), other.log_probs(1.0))
    assert not one.log_probs(1.0).requires_grad


def test_layers_of_the_base_are_shown(tmp_path: Path) -> None:
    student, base = pair(tmp_path)
    tap = "base_model.model.model.layers.0"
    found = AdapterBase(student).reading(frozenset({tap})).signal(BATCH).tap(tap)
    name = "model.layers.0"
    expected = Live(base).reading(frozenset({name})).signal(BATCH).tap(name)
    assert torch.equal(found, expected)


def test_it_may_share_its_weights_with_the_student_and_no_other_teacher_may(tmp_path: Path) -> None:
    student, _ = pair(tmp_path)
    require_two_models([student], AdapterBase(student))
    with pytest.raises(ModelError, match="the student's own"):
        require_two_models([student], Live(student))


def test_a_student_without_adapters_has_no_base_to_teach() -> None:
    with pytest.raises(ModelError, match="has no adapters"):
        AdapterBase(language_model())
