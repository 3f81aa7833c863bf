"""What two vocabularies share, id by id."""

import copy
import json
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from preceptor.data.vocabulary import Vocabulary, counterparts, require_shared, shared_vocabulary
from preceptor.errors import ModelError, NeedsError
from preceptor.models.tapped import TappedModel
from preceptor.objectives.byte_chunks import ByteChunks
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.objectives.uld import ULD
from preceptor.teachers.live import Live
from preceptor.train.fit import fit
from preceptor.train.plan import Plan
from preceptor.types import Batch
from tests.data.fixed_source import Fixed
from tests.data.trained_tokenizers import bpe, characters

NEEDS = {method.name: method.needs() for method in (CE(), KD(), ULD(), ByteChunks())}


def changed(tokenizer: Any, **names: str) -> Any:
    """A tokenizer of the same size where some tokens' ids are exchanged in pairs."""
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = told["model"]["vocab"]
    for one, other in names.items():
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(told)), eos_token=tokenizer.eos_token
    )


def test_padded_heads_over_one_vocabulary_share_its_ids_and_say_what_was_set_aside() -> None:
    count = len(bpe())
    found = shared_vocabulary(bpe(), copy.deepcopy(bpe()), count + 267, count + 395)
    assert found == Vocabulary(count, count + 267, count + 395)
    assert found.set_aside == (267, 395)
    assert "267 of" in found.sentence()
    assert "395 of" in found.sentence()


def test_the_same_size_with_other_ids_is_another_vocabulary() -> None:
    other = changed(bpe(), a="b")
    assert len(other) == len(bpe())
    with pytest.raises(ModelError, match=r"2 ids differ: .* is 'a' and 'b'") as caught:
        shared_vocabulary(bpe(), other, 400, 400)
    assert caught.value.seen.count(str(len(other))) == 2
    assert "byte_chunks" in caught.value.do


def test_the_same_ids_cut_differently_are_found_by_trying() -> None:
    told = json.loads(bpe().backend_tokenizer.to_str())
    told["model"]["merges"] = told["model"]["merges"][::-1]
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(told)))
    assert other.get_vocab() == bpe().get_vocab()
    with pytest.raises(ModelError, match=r"is \[.*\] and \["):
        shared_vocabulary(bpe(), other, 400, 400)


def test_a_special_token_of_another_name_is_the_same_token() -> None:
    found = shared_vocabulary(bpe(), bpe(end="<|end|>"), 400, 400)
    assert found.renamed == {0: ("<eos>", "<|end|>")}
    assert found.classes == len(bpe())
    assert "<eos> = <|end|>" in found.sentence()


def test_tokens_that_one_side_has_beyond_the_shared_ones_are_set_aside() -> None:
    more = copy.deepcopy(bpe())
    more.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    assert shared_vocabulary(bpe(), more, 400, 400).classes == len(bpe())


def test_the_end_of_a_turn_may_be_another_token_on_each_side() -> None:
    student, teacher = copy.deepcopy(bpe()), copy.deepcopy(bpe())
    for side in (student, teacher):
        side.add_special_tokens({"additional_special_tokens": [AddedToken("<turn>", special=True)]})
    teacher.eos_token = "<turn>"
    found = shared_vocabulary(student, teacher, 400, 400)
    assert found.roles == {student.eos_token_id: teacher.eos_token_id}


def test_special_tokens_of_two_tokenisers_meet_by_name_role_and_word() -> None:
    assert counterparts(characters(), bpe()) == {
        characters().eos_token_id: bpe().eos_token_id,
    }
    bos = bpe(bos=True)
    named = counterparts(characters(), bos, [("<unk>", "<bos>")])
    assert named[characters().unk_token_id] == bos.bos_token_id
    with pytest.raises(ModelError, match=r"<none>.*named as the teacher's"):
        counterparts(characters(), bos, [("<unk>", "<none>")])


def test_a_head_too_small_for_its_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="heads of 400 and 12 rows"):
        shared_vocabulary(bpe(), bpe(), 400, 12)


def test_a_method_for_one_vocabulary_is_refused_with_two_by_both_sizes() -> None:
    with pytest.raises(NeedsError) as caught:
        require_shared(bpe(), characters(), 400, 400, NEEDS)
    assert caught.value.seen.startswith("kd with a student's vocabulary of")
    assert str(len(bpe())) in caught.value.seen
    assert str(len(characters())) in caught.value.seen
    assert "uld, byte_chunks" in caught.value.do


def test_methods_for_two_tokenisers_take_them() -> None:
    del_kd = {name: needs for name, needs in NEEDS.items() if name != "kd"}
    assert require_shared(bpe(), characters(), 400, 400, del_kd) is None
    shared = require_shared(bpe(), bpe(), 400, 400, NEEDS)
    assert shared is not None
    assert shared.classes == len(bpe())


def test_a_sum_is_for_two_tokenisers_where_all_that_read_the_teacher_are() -> None:
    assert (CE() + ULD()).needs().foreign
    assert not (KD() + ULD()).needs().foreign


def llama(rows: int, seed: int, source: Any = None) -> Any:
    torch.manual_seed(seed)
    size: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(
        vocab_size=rows, num_attention_heads=2, num_key_value_heads=2, eos_token_id=0, **size
    )
    model = AutoModelForCausalLM.from_config(config)
    if source is not None:
        rows_shared = source.config.vocab_size
        state = source.state_dict()
        for name, tensor in model.state_dict().items():
            tensor[: len(state[name])] = state[name]
        with torch.no_grad():  # padded rows as wild as can be
            model.lm_head.weight[rows_shared:] = 50.0
    return model


def gradients(student: Any, teacher: Any, vocabulary: int) -> tuple[float, dict[str, Tensor]]:
    student.zero_grad()
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 60, (4, 9), generator=draw)
    labels = torch.full_like(tokens, -1)
    labels[:, :-1] = tokens[:, 1:]
    batch = Batch(
        {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)},
        labels=labels,
        mask=labels >= 0,
        ids=torch.arange(4),
    )
    (losses,) = fit(
        TappedModel(student, causal=True, vocabulary=vocabulary),
        Live(TappedModel(teacher, causal=True, vocabulary=vocabulary)),
        0.5 * CE() + 0.5 * KD(temperature=2.0),
        Fixed(60, batch),
        Plan(steps=1, batch=4, clip=0.0),
    )
    return losses.total, {n: p.grad for n, p in student.named_parameters() if p.grad is not None}


def test_padded_rows_change_no_loss_and_no_gradient_and_get_none() -> None:
    student, teacher = llama(60, 0), llama(60, 1)
    wide, wider = llama(64, 2, student), llama(72, 3, teacher)
    loss, grads = gradients(student, teacher, 60)
    padded_loss, padded = gradients(wide, wider, 60)
    assert padded_loss == pytest.approx(loss, rel=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(padded[name][: len(grad)], grad, rtol=1e-4, atol=1e-7)
        assert not padded[name][len(grad) :].any()
