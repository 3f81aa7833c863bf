"""A teacher whose norms are folded and whose stream is turned is the same function."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.students.bases import Basis, turned
from preceptor.students.folding import Folded
from preceptor.students.mapping import Mapping
from preceptor.students.weights import ModuleWeights
from tests.students.models import every_block, logits, model, seen

EXACT = 1e-4
PRE_NORM = ("llama", "mistral", "qwen2", "qwen3", "gemma")
LAYER_NORM = ("gpt2", "vit", "zoo vit")


def orthogonal(width: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn)[0]


def turned_copy(name: str, basis: Basis | None = None, **said: Any) -> tuple[Tensor, Tensor]:
    """The logits of a teacher, and of what it becomes in a turned basis."""
    teacher = model(name, 1)
    student = model(name, 2, **said)
    found = seen(teacher)
    centred = found.family.norm == "layer"
    width = found.sizes.stream - centred
    basis = basis or turned("turned", orthogonal(width), centred=centred)
    Mapping(student.module, ModuleWeights(teacher), basis, every_block(teacher, student)).run()
    return logits(teacher), logits(student)


@pytest.mark.parametrize("name", PRE_NORM)
def test_any_orthogonal_basis_leaves_a_pre_norm_decoder_as_it_was(name: str) -> None:
    own, other = turned_copy(name, tie_word_embeddings=False)
    assert own.abs().max() > 1
    torch.testing.assert_close(other, own, rtol=0, atol=EXACT)


def test_gpt2_with_its_head_untied_is_as_it_was_with_the_biases_of_its_norms() -> None:
    own, other = turned_copy("gpt2", tie_word_embeddings=False)
    torch.testing.assert_close(other, own, rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["vit", "zoo vit"])
def test_a_basis_of_centred_numbers_leaves_a_vision_transformer_as_it_was(name: str) -> None:
    own, other = turned_copy(name)
    torch.testing.assert_close(other, own, rtol=0, atol=EXACT)


class RootMeanSquare(nn.Module):
    """What a LayerNorm is on a stream without a mean."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return normed * self.weight + self.bias


@pytest.mark.parametrize("name", LAYER_NORM)
def test_in_its_rmsnorm_form_any_orthogonal_basis_does(name: str) -> None:
    said = {"tie_word_embeddings": False} if name == "gpt2" else {}
    teacher, student = model(name, 1), model(name, 2, **said)
    found = seen(teacher)
    if name == "gpt2":
        # Its head has no bias to take up the last norm's, and without a centred basis none can.
        final = teacher.module.get_submodule("transformer.ln_f")
        nn.init.zeros_(final.bias)  # pyright: ignore[reportArgumentType]
    basis = Basis("turned", found.sizes.stream, matrix=orthogonal(found.sizes.stream))
    choices = every_block(teacher, student)
    Mapping(student.module, ModuleWeights(teacher), basis, choices).run()
    assert (logits(student) - logits(teacher)).abs().max() > 0.01
    if name == "gpt2":
        final = student.module.get_submodule("transformer.ln_f")
        nn.init.zeros_(final.bias)  # pyright: ignore[reportArgumentType]
    for module in list(student.module.modules()):
        for child, norm in list(module.named_children()):
            if isinstance(norm, nn.LayerNorm):
                setattr(module, child, RootMeanSquare(norm))
    torch.testing.assert_close(logits(student), logits(teacher), rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_a_tied_head_keeps_its_tie_and_says_what_that_costs(name: str) -> None:
    teacher, student = model(name, 1, tie_word_embeddings=True), model(name, 2)
    found = seen(teacher)
    centred = found.family.norm == "layer"
    basis = turned("t", orthogonal(found.sizes.stream - centred), centred=centred)
    mapping = Mapping(student.module, ModuleWeights(teacher), basis, every_block(teacher, student))
    mapping.run()
    (warning,) = mapping.warnings
    assert "tied" in warning
    assert "Untie" in warning
    inside: Any = student.module
    assert inside.get_output_embeddings().weight is inside.get_input_embeddings().weight
    difference = (logits(student) - logits(teacher)).abs().max()
    assert 0.01 < difference < logits(teacher).abs().max()


def test_a_tied_head_whose_last_norm_is_constant_stays_exact() -> None:
    teacher, student = model("qwen2", 1), model("qwen2", 2)
    inside: Any = teacher.module
    nn.init.constant_(inside.model.norm.weight, 1.7)
    basis = turned("t", orthogonal(16), centred=False)
    Mapping(student.module, ModuleWeights(teacher), basis, every_block(teacher, student)).run()
    torch.testing.assert_close(logits(student), logits(teacher), rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("bert", "LayerNorm' stands on the stream"),
        ("olmo2", "post_attention_layernorm' stands after a writer"),
        ("gemma2", "post_attention_layernorm' stands after a writer"),
        ("gemma3_text", "post_attention_layernorm' stands after a writer"),
    ],
)
def test_a_dense_basis_is_refused_where_a_norm_lies_on_the_stream(name: str, norm: str) -> None:
    teacher = model(name)
    with pytest.raises(ModelError, match=norm) as error:
        Folded(ModuleWeights(teacher), seen(teacher))
    assert "select" in error.value.do


def test_folding_leaves_the_reader_with_what_it_made_of_the_norm() -> None:
    teacher = model("zoo vit", 4)
    found, weights = seen(teacher), ModuleWeights(teacher)
    folded = Folded(weights, found)
    weight, bias = found.piece("up", 0), found.piece("up", 0, "bias")
    assert weight is not None
    assert bias is not None
    block: Any = teacher.module.get_submodule("blocks.0")
    x = torch.randn(5, 16)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    own = block.mlp[0](block.norm2(x))
    torch.testing.assert_close(
        normed @ folded.read(weight).T + folded.read(bias), own, rtol=1e-4, atol=1e-5
    )
    assert not folded.carried("mlp norm")
