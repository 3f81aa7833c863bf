"""Onnxruntime's answers beside torch's."""

import json

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.export import OnnxModel, write_onnx
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from tests.models.encoders import encoder
from tests.models.language import language_model

WHY = "onnx, onnxscript or onnxruntime is not installed: pip install 'preceptor[onnx]'"


@pytest.fixture(autouse=True, scope="module")
def onnx():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=WHY)
    return pytest.importorskip("onnx", reason=WHY)


def pictures(*counts, size=16):
    torch.manual_seed(0)
    return [torch.rand(count, 3, size, size) for count in counts]


def sentences(*shapes, ids=300):
    """Padded rows, the last of them half as long."""
    torch.manual_seed(0)
    found = []
    for rows, tokens in shapes:
        mask = torch.ones(rows, tokens, dtype=torch.int64)
        mask[-1, (tokens + 1) // 2 :] = 0
        found.append({"input_ids": torch.randint(ids, (rows, tokens)), "attention_mask": mask})
    return found


@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_a_classifier_answers_the_same_for_any_number_of_pixels_in_0_to_1(name, tmp_path):
    torch.manual_seed(0)
    spec = {"zoo": name, "classes": 7, "size": 16, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    model = load_model(spec)
    with torch.no_grad():  # Batch statistics that matter.
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.get_buffer("running_mean").normal_()
                part.get_buffer("running_var").uniform_(0.5, 2)
    model.train()
    file = tmp_path / "model.onnx"
    found = write_onnx(model, pictures(3, 1, 8), file, {"classes": ["a", "b"]})
    assert found.shapes == ((3, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16))
    assert (found.examples, found.same) == (12, 12)
    assert found.difference < 1e-5 * max(1, found.largest)
    assert all(part.training for part in model.modules())
    (new,) = pictures(21)
    assert torch.allclose(OnnxModel(file)(new), model.eval()(new).logits, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_file_says_what_its_classes_are_and_is_valid(onnx, tmp_path):
    model = load_model({"zoo": "mlp", "classes": 3, "size": 4})
    file = tmp_path / "model.onnx"
    write_onnx(model, pictures(2, size=4), file, {"classes": ["cat", "<b>"]})
    held = onnx.load(file)
    onnx.checker.check_model(held, full_check=True)
    notes = {each.key: each.value for each in held.metadata_props}
    assert json.loads(notes["preceptor.classes"]) == ["cat", "<b>"]


def test_an_encoder_answers_the_same_for_any_number_and_length_of_sentences(tmp_path):
    model = encoder(dimension=5).eval()
    file = tmp_path / "model.onnx"
    found = write_onnx(model, sentences((4, 6), (1, 3), (3, 17)), file, {})
    assert found.difference < 1e-5
    assert OnnxModel(file).inputs == ("input_ids", "attention_mask")
    (longer,) = sentences((9, 40))
    own = model(longer).logits
    assert own.shape == (9, 5)
    assert torch.allclose(OnnxModel(file)(longer), own, atol=1e-5)


def test_a_classifier_of_sentences_answers_the_same(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
    )
    config.num_labels = 4
    model = TappedModel(BertForSequenceClassification(config).eval())
    batches = sentences((3, 5), (1, 2), ids=50)
    found = write_onnx(model, batches, tmp_path / "model.onnx", {})
    assert found.difference < 1e-5
    (longer,) = sentences((6, 31), ids=50)
    answer = OnnxModel(tmp_path / "model.onnx")(longer)
    assert torch.allclose(answer, model(longer).logits, atol=1e-5)


class _Dated(nn.Module):
    """Answers a call as it was long ago: what is traced is not what is run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + (0.0 if torch.compiler.is_exporting() else 0.01)


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path):
    model = TappedModel(_Dated())
    with pytest.raises(ModelError, match=r"up to 0\.01 of difference"):
        write_onnx(model, [torch.rand(3, 4)], tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())


class _Counted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(len(x), 1)


def test_a_number_of_examples_that_became_a_constant_is_refused(tmp_path):
    with pytest.raises(ModelError, match="turns the number of examples into a constant"):
        write_onnx(TappedModel(_Counted()), [torch.rand(3, 4)], tmp_path / "model.onnx", {})


class _Moody(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_said_in_words(tmp_path):
    with pytest.raises(ModelError, match="torch cannot trace it"):
        write_onnx(TappedModel(_Moody()), [torch.rand(3, 4)], tmp_path / "model.onnx", {})


def test_a_language_model_is_served_from_its_folder(tmp_path):
    with pytest.raises(ModelError, match="Serve the student's folder"):
        write_onnx(language_model(), [], tmp_path / "model.onnx", {})
