"""The tokens' embeddings are held to where they began."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.pairing import pair_layers
from preceptor.models.tapped import TappedModel
from preceptor.objectives.embedding_pull import EmbeddingPull
from preceptor.types import Batch, Signal
from tests.objectives.feature_taps import context, example_means, outputs, random_tensor

LAYERS = (("words", "words"),)
IDS = torch.tensor([[0, 2, 2], [1, 4, 0]])


def pulled(table: Tensor, began: Tensor, mask: Tensor | None = None) -> Tensor:
    objective = EmbeddingPull(LAYERS)
    shown = outputs({"words": table[IDS]})
    known = replace(context({"words": table[IDS]}, {}), parameters={"words.weight": began})
    batch = Batch({"input_ids": IDS}, mask=mask)
    aux = objective.auxiliary(known)
    term = objective.terms(shown, Signal(), batch, aux)["embedding_pull"]
    return example_means(term, batch)


def test_nothing_is_pulled_where_nothing_has_moved() -> None:
    table = random_tensor(5, 4)
    assert torch.equal(pulled(table, table), torch.zeros(2))


def test_a_row_that_moved_counts_as_often_as_it_is_read() -> None:
    began = random_tensor(5, 4)
    table = began.clone()
    table[2] += 3.0
    # Two of the first example's three tokens, each |(3, 3, 3, 3)|^2 away.
    torch.testing.assert_close(pulled(table, began), torch.tensor([2 / 3 * 36.0, 0.0]))


def test_tokens_that_do_not_count_are_not_pulled() -> None:
    began = random_tensor(5, 4)
    table = began.clone()
    table[2] += 3.0
    mask = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(pulled(table, began, mask), torch.tensor([1 / 2 * 36.0, 0.0]))


def test_the_gradient_leads_back_and_touches_the_rows_of_the_batch_alone() -> None:
    began = random_tensor(5, 4)
    table = random_tensor(5, 4, seed=1).requires_grad_()
    pulled(table, began).sum().backward()
    assert table.grad is not None
    # Row 3 is not read; row 4 is, once among three.
    assert not table.grad[3].any()
    torch.testing.assert_close(table.grad[4], (2 / 3 * (table - began))[4].detach())


def test_where_it_began_stays_though_the_table_moves() -> None:
    table = nn.Parameter(random_tensor(5, 4))
    objective = EmbeddingPull(LAYERS)
    known = replace(context({"words": table[IDS]}, {}), parameters={"words.weight": table})
    aux = objective.auxiliary(known)
    before = aux.state_dict()["0.table"].clone()
    with torch.no_grad():
        table += 1.0
    assert torch.equal(aux.state_dict()["0.table"], before)
    assert not list(aux.parameters())


def test_the_embedding_is_found_by_itself() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = TappedModel(AutoModelForCausalLM.from_config(config), causal=True, vocabulary=16)
    found = pair_layers(model, model, {"input_ids": IDS}, "table")
    assert found == (("model.embed_tokens",) * 2,)


def test_a_student_without_such_a_table_is_refused() -> None:
    with pytest.raises(ModelError, match="no table there"):
        EmbeddingPull(LAYERS).auxiliary(context({"words": random_tensor(1, 1)}, {}))
    with pytest.raises(ModelError, match="none of its parts says"):
        pair_layers(TappedModel(nn.Linear(2, 2)), TappedModel(nn.Linear(2, 2)), IDS, "table")
