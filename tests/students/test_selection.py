"""Channels stay channels: selecting and permuting them is exact in every architecture."""

from pathlib import Path
from typing import Any

import pytest
import torch

from preceptor.errors import ModelError
from preceptor.models.load import load, load_model, save_model
from preceptor.students.bases import Basis
from preceptor.students.choosing import Choice
from preceptor.students.mapping import Mapping
from preceptor.students.start import Plan, begin
from preceptor.students.weights import ModuleWeights
from tests.students.models import every_block, logits, model, parameters, seen, spec

NAMES = (
    *("llama", "mistral", "qwen2", "qwen3", "olmo2", "gemma", "gemma2", "gemma3_text"),
    *("gpt2", "bert", "vit", "zoo vit"),
)
HALF: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 8, "n_inner": 32, "n_head": 1, "n_layer": 1},
    "zoo vit": {"width": 8, "heads": 1, "depth": 1},
}


def half(name: str) -> dict[str, Any]:
    """Every axis of a model halved."""
    usual = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    usual |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    if name in ("bert", "vit"):
        usual.pop("num_key_value_heads")
    return HALF.get(name, usual)


@pytest.mark.parametrize("name", NAMES)
def test_a_student_of_its_teachers_size_is_its_teacher_bit_for_bit(name: str) -> None:
    teacher, student = model(name, 1), model(name, 2)
    report = begin(student, teacher, Plan("select"))
    own, theirs = parameters(student), parameters(teacher)
    assert all(torch.equal(own[key], theirs[key]) for key in theirs)
    assert set(report.count()) <= {"copied", "tied"}
    assert report.gain == 1.0
    assert report.warnings == ()


@pytest.mark.parametrize("name", NAMES)
def test_permuting_channels_heads_and_neurons_changes_nothing(name: str) -> None:
    teacher, student = model(name, 1), model(name, 2)
    sizes = seen(teacher).sizes
    generator = torch.Generator().manual_seed(4)
    channels = torch.randperm(sizes.stream, generator=generator)
    neurons = torch.randperm(sizes.neurons, generator=generator)
    groups = torch.randperm(sizes.groups, generator=generator)
    choices = [
        Choice(
            choice.of, {**choice.kept, **permuted(teacher, groups), "neurons": neurons}, choice.of
        )
        for choice in every_block(teacher, student)
    ]
    basis = Basis("permuted", sizes.stream, channels=channels)
    Mapping(student.module, ModuleWeights(teacher), basis, choices).run()
    assert not torch.equal(*(next(iter(parameters(m).values())) for m in (student, teacher)))
    torch.testing.assert_close(logits(student), logits(teacher), rtol=0, atol=1e-4)


def permuted(teacher: Any, groups: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same order for keys and for the heads that share them."""
    sizes = seen(teacher).sizes
    shared = sizes.heads // sizes.groups
    heads = (groups[:, None] * shared + torch.arange(shared)).flatten()
    size = torch.arange(sizes.size)
    in_heads = (heads[:, None] * sizes.size + size).flatten()
    in_groups = (groups[:, None] * sizes.size + size).flatten()
    query, key = sizes.heads * sizes.size, sizes.groups * sizes.size
    fused = torch.cat([in_heads, query + in_groups, query + key + in_groups])
    return {"heads": in_heads, "groups": in_groups, "heads+groups+groups": fused}


@pytest.mark.parametrize("name", NAMES)
def test_half_of_every_axis_is_taken_and_saved_and_read_again(name: str, tmp_path: Path) -> None:
    teacher, student = model(name, 1), model(name, 2, **half(name))
    before = parameters(student)
    report = begin(student, teacher, Plan("select"))
    after = parameters(student)
    for key, tensor in after.items():
        assert tensor.shape == before[key].shape
        assert tensor.isfinite().all()
        assert not torch.equal(tensor, before[key]), key
    assert "random" not in report.count()
    assert report.depth == (0,)
    save_model(student, tmp_path)
    again = load(tmp_path)
    assert torch.equal(logits(again), logits(student))
    assert seen(again).tied == seen(student).tied == seen(teacher).tied


def test_a_selected_weight_is_index_arithmetic() -> None:
    teacher, student = model("llama", 1), model("llama", 2, **half("llama"))
    begin(student, teacher, Plan("select"))
    own, theirs = parameters(student), parameters(teacher)
    channels, neurons = slice(0, None, 2), slice(0, None, 2)
    block = "model.layers.0."
    # Two groups of two heads of four: the first group stays, with both of its heads.
    heads, groups = torch.arange(8), torch.arange(4)
    expected = {
        "model.embed_tokens.weight": theirs["model.embed_tokens.weight"][:, channels],
        "lm_head.weight": theirs["lm_head.weight"][:, channels],
        f"{block}self_attn.q_proj.weight": theirs[f"{block}self_attn.q_proj.weight"][heads, ::2],
        f"{block}self_attn.k_proj.weight": theirs[f"{block}self_attn.k_proj.weight"][groups, ::2],
        f"{block}self_attn.o_proj.weight": theirs[f"{block}self_attn.o_proj.weight"][::2, heads],
        f"{block}mlp.gate_proj.weight": theirs[f"{block}mlp.gate_proj.weight"][neurons, channels],
        f"{block}mlp.down_proj.weight": theirs[f"{block}mlp.down_proj.weight"][channels, neurons],
        # The constant of a norm that means over half as many numbers.
        "model.norm.weight": theirs["model.norm.weight"][channels] * 2**0.5,
        f"{block}input_layernorm.weight": theirs[f"{block}input_layernorm.weight"][::2] * 2**0.5,
    }
    for key, tensor in expected.items():
        torch.testing.assert_close(own[key], tensor, msg=key)


def test_a_gain_that_is_stored_less_one_is_scaled_as_what_it_stands_for() -> None:
    teacher, student = model("gemma", 1), model("gemma", 2, **half("gemma"))
    begin(student, teacher, Plan("select"))
    own, theirs = parameters(student), parameters(teacher)
    name = "model.layers.0.input_layernorm.weight"
    torch.testing.assert_close(own[name] + 1, (theirs[name][::2] + 1) * 2**0.5)
    # The model multiplies by the root of its own width; its tied head makes up for that.
    table = "model.embed_tokens.weight"
    torch.testing.assert_close(own[table], theirs[table][:, ::2] * 2**0.5)
    torch.testing.assert_close(own["model.norm.weight"] + 1, theirs["model.norm.weight"][::2] + 1)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma", "qwen3", "gemma3_text"])
def test_a_smaller_head_turns_with_positions_as_the_larger_did(name: str) -> None:
    """Where every second number of the teacher's heads is zero, nothing is lost in the student's:
    the logits are the teacher's, but for the constant that makes up for such a loss."""
    scalar = [{"query_pre_attn_scalar": n} if name == "gemma3_text" else {} for n in (8, 4)]
    teacher = model(name, 1, head_dim=8, **scalar[0])
    student = model(name, 2, head_dim=4, **scalar[1])
    with torch.no_grad():
        for key, tensor in teacher.module.named_parameters():
            if any(part in key for part in ("q_proj", "k_proj", "v_proj")):
                tensor.view(-1, 8, tensor.shape[1])[:, 1::2] = 0.0
    begin(student, teacher, Plan("select"))
    if name in ("llama", "mistral", "gemma"):
        # Queries grew by the square root of two and so did their scaling. With norms on queries
        # and keys, each of which halves the zeros' share in its mean, both are just right.
        with torch.no_grad():
            for key, tensor in student.module.named_parameters():
                if "q_proj" in key:
                    tensor /= 2.0
    torch.testing.assert_close(logits(student), logits(teacher), rtol=0, atol=1e-4)


def test_biases_that_the_student_lacks_are_told() -> None:
    teacher = model("qwen2", 1)
    student = model("llama", 2, tie_word_embeddings=True)
    report = begin(student, teacher, Plan("select"))
    assert any("bias" in warning for warning in report.warnings)
    with pytest.raises(ModelError, match="no bias of that kind"):
        begin(teacher, student, Plan("select"))


def test_a_student_of_another_family_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"qwen3.*llama"):
        begin(model("qwen3"), model("llama", head_dim=8), Plan("select"))


def test_what_the_configurations_say_otherwise_is_told() -> None:
    student = model("llama", 2, hidden_act="gelu", rope_theta=500.0, rms_norm_eps=0.1)
    report = begin(student, model("llama", 1), Plan("select"))
    said = " ".join(report.warnings)
    assert "hidden_act is 'gelu', the teacher's 'silu'" in said
    assert "rope_parameters" in said
    assert "rms_norm_eps is 0.1" in said


def test_rows_are_taken_in_order_and_other_classes_are_not() -> None:
    teacher, student = model("llama", 1), model("llama", 2, vocab_size=70)
    before = parameters(student)["lm_head.weight"]
    report = begin(student, teacher, Plan("select"))
    after = parameters(student)["lm_head.weight"]
    assert torch.equal(after[:61], parameters(teacher)["lm_head.weight"])
    assert torch.equal(after[61:], before[61:])
    assert sum("first 61 of 61 rows; the rest of 70" in words for words in report.warnings) == 2
    other = model("vit", 2)
    inside: Any = other.module
    inside.classifier = torch.nn.Linear(16, 5)
    report = begin(other, model("vit", 1), Plan("select"))
    assert any("5 classes, the teacher has 3" in words for words in report.warnings)
    assert report.count()["random"] == 2


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match="taken whole"):
        begin(model("vit", 2, image_size=16), model("vit", 1), Plan("select"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_come_in_the_students_own_precision(dtype: str, tmp_path: Path) -> None:
    teacher = model("llama", 1)
    student = load_model({**spec("llama", **half("llama")), "dtype": dtype})
    begin(student, teacher, Plan("random"))
    wanted = getattr(torch, dtype)
    assert all(tensor.dtype == wanted for tensor in parameters(student).values())
    save_model(student, tmp_path)
    for key, tensor in parameters(load(tmp_path)).items():
        assert tensor.dtype == wanted
        assert torch.equal(tensor, parameters(student)[key])
