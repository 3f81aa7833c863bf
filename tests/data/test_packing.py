"""Examples that share a sequence change nothing of one another."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from preceptor.data.collate import Example, collated
from preceptor.data.packing import check_packing, grouped, packed
from preceptor.data.teacher_view import Seen
from preceptor.errors import DataError, ModelError
from preceptor.types import Batch

_COMMON = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _COMMON,
    "qwen2": _COMMON,
    "qwen3": _COMMON,
    "olmo2": _COMMON,
    "gemma": _COMMON,
    "gemma2": _COMMON | {"sliding_window": 4},
    "gpt2": {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
}


def batch(lengths: tuple[int, ...] = (5, 9, 3, 7), teacher: bool = False) -> Batch:
    examples: list[Example] = []
    for row, length in enumerate(lengths):
        ids = torch.randint(2, 61, (length,)).numpy().astype(np.int32)
        scored = np.arange(length) >= 2
        before = row % 3 + 1
        theirs = np.concatenate([np.full(before, 7, np.int32), ids])
        seen = Seen(theirs, np.arange(len(theirs)) >= before + 2, before)
        extra = {"sampled_log_p": np.arange(length - 2) + row / 10}
        examples.append(Example(ids, scored, row, teacher=seen if teacher else None, extra=extra))
    return collated(examples, pad=0)


def answers(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits


def by_row(batch: Batch, values: Tensor) -> dict[tuple[int, int], Tensor]:
    row, offset, mask = batch.extra["row"], batch.extra["offset"], batch.mask("all")
    return {(int(row[i, t]), int(offset[i, t])): values[i, t] for i, t in mask.nonzero().tolist()}


@pytest.mark.parametrize(
    ("name", "attention"),
    [(n, a) for n in ARCHITECTURES for a in ("eager", "sdpa") if (n, a) != ("gemma2", "sdpa")],
)
def test_packed_logits_are_the_unpacked_ones(name: str, attention: str) -> None:
    config = transformers.AutoConfig.for_model(name, **ARCHITECTURES[name])
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=attention
    ).eval()
    apart = batch()
    together = packed(apart, [[1, 0], [3, 2], []], length=16)
    expected = by_row(apart, answers(model, apart.inputs))
    found = by_row(together, answers(model, together.inputs))
    assert found.keys() == expected.keys()
    for key, logits in expected.items():
        torch.testing.assert_close(found[key], logits, atol=2e-5, rtol=1e-4)
    check_packing(lambda inputs: answers(model, inputs), 61)


def test_all_that_is_said_of_a_position_moves_with_it() -> None:
    apart = batch()
    together = packed(apart, grouped(np.array([5, 9, 3, 7]), 16))
    assert together.labels.shape == (2, 16)
    for here, there in (
        (apart.labels, together.labels),
        (apart.extra["sampled_log_p"], together.extra["sampled_log_p"]),
    ):
        expected, found = by_row(apart, here), by_row(together, there)
        assert {k: v.item() for k, v in expected.items()} == {k: v.item() for k, v in found.items()}
    assert set(together.masks) == set(apart.masks)


def test_the_teachers_places_move_with_its_sequences() -> None:
    apart = batch(teacher=True)
    together = packed(apart, [[2, 0, 1], [3]])

    def told(batch: Batch) -> dict[tuple[int, int], int]:
        assert not isinstance(batch.teacher_inputs, Tensor)
        theirs = batch.teacher_inputs["input_ids"]
        assert batch.teacher_positions is not None
        places = batch.teacher_positions
        next_token = theirs.gather(1, (places + 1).clamp_min(0))
        return {k: int(v) for k, v in by_row(batch, next_token).items()}

    labels = {k: int(v) for k, v in by_row(together, together.labels).items()}
    assert told(together) == told(apart) == labels
    assert "position_ids" in together.teacher_inputs


def test_best_fit_fills_sequences_and_refuses_what_is_longer() -> None:
    assert grouped(np.array([3, 5, 2, 4]), 7) == [[1, 2], [3, 0]]
    with pytest.raises(DataError, match=r"9 tokens.*sequences of 8"):
        grouped(np.array([9]), 8)


def test_a_model_that_mixes_examples_is_found_out() -> None:
    table = torch.randn(61, 4)

    def sums(inputs: Any) -> Tensor:
        return table[inputs["input_ids"]].cumsum(1)

    with pytest.raises(ModelError, match="change each other's answers"):
        check_packing(sums, 61)
