"""Tokenizers made on the spot, loaded again, named and compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer

from preceptor.data.tokenizers import (
    bpe_tokenizer,
    character_tokenizer,
    fingerprint,
    id_count,
    load_tokenizer,
    template_fingerprint,
)
from preceptor.errors import DataError
from tests.data.tokens import characters, pieces


def test_characters_go_there_and_back() -> None:
    tokenizer = character_tokenizer(["7+15*3=\n#"])
    ids = tokenizer("15*3=\n").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "15*3=\n"
    assert tokenizer.unk_token_id in tokenizer("8").input_ids


def test_byte_pairs_have_an_encoding_for_every_text() -> None:
    tokenizer = bpe_tokenizer(["the theatre of the three "] * 20, 300)
    text = "the 🙂 你好\tthree\n"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert len(tokenizer("the", add_special_tokens=False).input_ids) == 1
    with pytest.raises(DataError, match="vocabulary of 200"):
        bpe_tokenizer(["a"], 200)


@pytest.mark.parametrize("make", [characters, pieces])
def test_a_saved_tokenizer_is_loaded_by_transformers_as_it_was(tmp_path: Path, make: Any) -> None:
    made = make()
    made.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("the sum <|end|>").input_ids == made("the sum <|end|>").input_ids
    assert (loaded.pad_token, loaded.eos_token) == (made.pad_token, made.eos_token)
    assert loaded.chat_template == made.chat_template
    assert fingerprint(load_tokenizer(tmp_path)) == fingerprint(made)


def test_a_fingerprint_sees_merges_and_template_and_not_how_it_was_called() -> None:
    made = pieces()
    before = fingerprint(made)
    made(["a", "long text"], padding=True, truncation=True, max_length=3)
    assert fingerprint(made) == before
    assert fingerprint(pieces(size=290)) != before
    made.chat_template += " "
    assert fingerprint(made) != before
    assert template_fingerprint(made) != template_fingerprint(pieces())


def test_a_plain_template_marks_every_turn() -> None:
    tokenizer = character_tokenizer(["hi"])
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ih"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<|begin|><|user|>hi<|assistant|>ih<|end|>"


def test_ids_that_a_tokenizer_leaves_out_are_rows_all_the_same() -> None:
    made = pieces()
    told = json.loads(made.backend_tokenizer.to_str())
    last = max(told["model"]["vocab"], key=told["model"]["vocab"].get)
    told["model"]["vocab"][last] += 10
    other = type(made)(tokenizer_object=Tokenizer.from_str(json.dumps(told)))
    assert len(other) == len(made) == id_count(made)
    assert id_count(other) == len(made) + 10


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds none of tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        load_tokenizer(tmp_path / "none")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="could not be loaded"):
        load_tokenizer(tmp_path)
