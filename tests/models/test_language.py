import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError, StorageError
from preceptor.models.load import load_model, save_model
from preceptor.models.lora import fixed_names, movable
from preceptor.models.tapped import TappedModel
from tests.models.architectures import ARCHITECTURES, configuration

LLAMA = configuration("llama")
LORA = {"rank": 2, "targets": ["q_proj", "down_proj", "lm_head"]}


def logits(model: TappedModel) -> Tensor:
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        shown = model.eval()({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).projection
        return shown.head.logits(shown.hidden)


def adapted(folder: Path, **said: Any) -> TappedModel:
    save_model(load_model({"causal": LLAMA}), folder / "base")
    model = load_model({"causal": str(folder / "base"), "lora": LORA, **said})
    for name, parameter in model.module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_saved_language_model_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = load_model({"causal": configuration(name)})
    assert model.training
    save_model(model, tmp_path)
    again = load_model({"folder": str(tmp_path)})
    assert not again.training
    assert torch.equal(logits(model), logits(again))
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    for (name, tensor), other in zip(
        model.module.named_parameters(), theirs.parameters(), strict=True
    ):
        assert torch.equal(tensor, other), name
    tied = model.module.get_input_embeddings().weight is model.module.get_output_embeddings().weight  # pyright: ignore
    assert tied == (theirs.get_input_embeddings().weight is theirs.get_output_embeddings().weight)


def test_a_dtype_and_a_vocabulary_come_back(tmp_path: Path) -> None:
    model = load_model({"causal": LLAMA, "dtype": "bfloat16", "vocabulary": 50})
    save_model(model, tmp_path)
    again = load_model({"folder": str(tmp_path)})
    assert next(again.parameters()).dtype == torch.bfloat16
    assert again.vocabulary == 50
    assert torch.equal(logits(model), logits(again))
    assert logits(again).dtype == torch.float32
    wide = load_model({"folder": str(tmp_path), "dtype": "float32"})
    assert next(wide.parameters()).dtype == torch.float32


def test_a_folder_that_transformers_wrote_is_read_as_a_language_model(tmp_path: Path) -> None:
    model = load_model({"causal": LLAMA})
    model.module.save_pretrained(tmp_path)  # pyright: ignore
    assert torch.equal(logits(model), logits(load_model({"folder": str(tmp_path)})))
    assert torch.equal(logits(model), logits(load_model({"causal": str(tmp_path)})))
    bare = load_model({"causal": str(tmp_path), "pretrained": False})
    assert bare.training
    assert not torch.equal(logits(model), logits(bare))


def test_the_tokenizer_lies_beside_the_weights(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<end>": 7}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    save_model(load_model({"causal": LLAMA}), tmp_path, tokenizer)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == 7
    # A configuration's default ids are not this tokenizer's.
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text())["eos_token_id"] == 7


def test_a_student_with_adapters_is_saved_merged_and_its_adapters_beside(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = adapted(tmp_path)
    expected = logits(model)
    save_model(model, tmp_path / "student")
    assert {"config.json", "model.safetensors", "adapter/adapter_model.safetensors"} <= files(
        tmp_path / "student"
    )
    again = load_model({"folder": str(tmp_path / "student")})
    torch.testing.assert_close(logits(again), expected, rtol=1e-5, atol=1e-5)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "student").num_parameters() == sum(
        p.numel() for p in again.parameters()
    )
    apart = load_model(
        {"causal": str(tmp_path / "base"), "adapters": str(tmp_path / "student" / "adapter")}
    )
    assert torch.equal(logits(apart), expected)
    # Saving changes nothing in the student.
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("qwen2", {"rank": 2, "targets": ["lm_head", "q_proj"]}),
        ("qwen2", {"rank": 2, "targets": ["embed_tokens", "q_proj"]}),
        ("qwen2", {"rank": 2, "targets": ["q_proj"], "whole": ["lm_head"]}),
        ("gpt2", {"rank": 2}),
        ("phi", {"rank": 2, "targets": ["lm_head", "dense"]}),
    ],
)
def test_merged_weights_answer_as_the_adapters_did(
    name: str, lora: dict[str, Any], tmp_path: Path
) -> None:
    model = load_model({"causal": configuration(name), "lora": lora})
    for parameter in movable(model.module).values():
        nn.init.normal_(parameter, std=0.3)
    expected = logits(model)
    save_model(model, tmp_path)
    again = load_model({"folder": str(tmp_path)})
    torch.testing.assert_close(logits(again), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model), expected)


def test_adapters_can_be_saved_alone(tmp_path: Path) -> None:
    model = adapted(tmp_path)
    save_model(model, tmp_path / "student", merged=False)
    assert "model.safetensors" not in files(tmp_path / "student")
    again = load_model({"folder": str(tmp_path / "student")})
    assert torch.equal(logits(again), logits(model))
    assert movable(again.module).keys() == movable(model.module).keys()
    fresh = load_model({"causal": LLAMA, "lora": LORA})
    with pytest.raises(ModelError, match="Save the merged weights"):
        save_model(fresh, tmp_path / "fresh", merged=False)


def test_of_a_student_with_adapters_they_alone_may_move(tmp_path: Path) -> None:
    model = adapted(tmp_path)
    assert all("lora_" in name for name in movable(model.module))
    everything = {name for name, _ in model.module.named_parameters()}
    assert movable(model.module).keys() | fixed_names(model.module) == everything
    plain = load_model({"causal": LLAMA})
    assert movable(plain.module).keys() == dict(plain.module.named_parameters()).keys()
    assert not fixed_names(plain.module)


def test_a_configuration_takes_the_data_s_vocabulary_unless_it_says_its_own() -> None:
    bare = {key: value for key, value in LLAMA.items() if key != "vocab_size"}
    assert load_model({"causal": bare, "classes": 33}).spec["classes"] == 33
    with pytest.raises(ModelError, match=r"61 classes apart.*say `vocabulary`"):
        load_model({"causal": LLAMA, "classes": 33})
    assert load_model({"causal": LLAMA, "classes": 33, "vocabulary": 33}).vocabulary == 33


def test_a_padding_id_that_is_usual_elsewhere_does_not_stop_a_small_vocabulary() -> None:
    # Phi-3's configuration names the id 32000 where nothing is said.
    small = {key: value for key, value in LLAMA.items() if not key.endswith("token_id")}
    model = load_model({"causal": {**small, "model_type": "phi3"}})
    assert model.spec["classes"] == 61
    inside: Any = model.module
    assert inside.config.pad_token_id is None


def test_gradient_checkpointing_and_attention_change_no_number() -> None:
    models = []
    for said in ({}, {"gradient_checkpointing": True}, {"attention": "eager"}):
        torch.manual_seed(1)
        models.append(load_model({"causal": LLAMA, **said}))
    for model in models[1:]:
        torch.testing.assert_close(logits(model), logits(models[0]), rtol=1e-5, atol=1e-6)


def test_arguments_change_the_configuration() -> None:
    model = load_model({"causal": LLAMA, "arguments": {"num_hidden_layers": 1}})
    assert len(model.module.model.layers) == 1  # pyright: ignore
    with pytest.raises(ModelError, match="Nearest: num_hidden_layers"):
        load_model({"causal": LLAMA, "arguments": {"num_hiden_layers": 1}})


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such key": ({"causal": LLAMA, "lorra": {}}, "Nearest: lora"),
    "pixels' keys": ({"causal": LLAMA, "mean": [0.5]}, "no such key"),
    "no such dtype": ({"causal": LLAMA, "dtype": "int8"}, "float32, bfloat16"),
    "no such type": ({"causal": {"model_type": "lama"}}, "Nearest: llama"),
    "no language model": ({"causal": {"model_type": "vit"}}, "has a causal language model"),
    "no such folder": ({"causal": "./no/such/folder"}, "Give a folder"),
    "too large a vocabulary": ({"causal": LLAMA, "vocabulary": 99}, "has 61 rows"),
}


@pytest.mark.parametrize(("spec", "words"), WRONG.values(), ids=WRONG.keys())
def test_one_thing_wrong_is_a_sentence(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(spec)


def test_weights_that_are_damaged_or_another_model_s_are_a_sentence(tmp_path: Path) -> None:
    save_model(load_model({"causal": LLAMA}), tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(StorageError, match="truncated"):
        load_model({"folder": str(tmp_path)})
    save_model(load_model({"causal": {**LLAMA, "hidden_size": 32}}), tmp_path / "wide")
    weights.write_bytes((tmp_path / "wide" / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="weights of"):
        load_model({"folder": str(tmp_path)})
    save_model(load_model({"causal": {**LLAMA, "num_hidden_layers": 1}}), tmp_path / "short")
    weights.write_bytes((tmp_path / "short" / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="tensors are missing"):
        load_model({"folder": str(tmp_path)})


def test_no_pickle_is_read(tmp_path: Path) -> None:
    save_model(load_model({"causal": LLAMA}), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model({"causal": str(tmp_path), "pretrained": True})
    model = adapted(tmp_path / "one")
    save_model(model, tmp_path / "two")
    adapter = tmp_path / "two" / "adapter"
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(StorageError, match=r"adapter_model.safetensors is missing"):
        load_model({"causal": str(tmp_path / "one" / "base"), "adapters": str(adapter)})
