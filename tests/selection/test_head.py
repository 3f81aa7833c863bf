"""Features of the head alone: forward passes against the head's gradient by autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.causal import language_head
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.head import HeadSketcher
from preceptor.selection.ledger import Sketching
from preceptor.types import Head
from tests.models.architectures import configuration
from tests.selection.batches import token_batch
from tests.selection.explicit import expected, far

SMALL = Sketching(dimension=64, side=4, vocabulary=16)


def language(name: str, **more: Any) -> TappedModel:
    torch.manual_seed(0)
    model = load_model({"causal": configuration(name), **more}).eval().double()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return model


def head_gradients(model: TappedModel, batch: Batch) -> Tensor:
    """Of the head as a parameter of its own, though the embedding may be the same one."""
    head = language_head(model.module)
    leaves = [head.weight.detach().clone().requires_grad_()]
    if head.bias is not None:
        leaves.append(head.bias.detach().clone().requires_grad_())
    alone = Head(leaves[0], leaves[1] if len(leaves) > 1 else None, head.scale, head.cap)
    hidden = model(batch.inputs).projection.hidden.detach()
    found: list[Tensor] = []
    for i in range(len(batch)):
        where = batch.mask("all")[i]
        logits = alone.first(model.vocabulary or len(head.weight)).logits(hidden[i][where])
        loss = nn.functional.cross_entropy(logits, batch.labels[i][where])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)]))
    return torch.stack(found)


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere", "granite", "phi", "gpt2"])
def test_the_heads_sketch_is_that_of_its_gradient_by_autograd(name: str) -> None:
    model, batch = language(name), token_batch()
    sketcher = HeadSketcher(model, SMALL)
    rows = sketcher(batch)
    assert far(rows.sketches, expected(sketcher.ledger, head_gradients(model, batch))) < 1e-7


def test_losses_and_ranks_are_those_of_the_exact_pass() -> None:
    model, batch = language("llama"), token_batch()
    rows, truth = HeadSketcher(model, SMALL)(batch), ExactSketcher(model)(batch)
    assert torch.allclose(rows.losses, truth.losses)
    assert torch.equal(rows.rank_sums.double(), truth.rank_sums.double())
    assert torch.equal(rows.lengths, truth.lengths)


def test_padding_and_neighbours_change_nothing() -> None:
    sketcher = HeadSketcher(language("llama"), SMALL)
    batch = token_batch()
    together = sketcher(batch).sketches
    alone = torch.cat([sketcher(batch.rows(i, i + 1)).sketches for i in range(len(batch))])
    assert far(alone, together) < 1e-12
    assert far(sketcher(token_batch(wide=4)).sketches, together) < 1e-12


def test_padded_rows_of_the_vocabulary_have_no_gradient() -> None:
    model, batch = language("llama", vocabulary=50), token_batch(classes=50)
    sketcher = HeadSketcher(model, SMALL)
    assert (
        far(sketcher(batch).sketches, expected(sketcher.ledger, head_gradients(model, batch)))
        < 1e-7
    )


def test_no_graph_is_made() -> None:
    model = language("llama")
    rows = HeadSketcher(model, SMALL)(token_batch())
    assert not rows.sketches.requires_grad
    assert all(each.grad is None for each in model.parameters())


def test_a_head_of_an_adapted_student_counts_though_it_does_not_learn() -> None:
    model, batch = language("llama", lora={"rank": 2, "targets": ["q_proj"]}), token_batch()
    sketcher = HeadSketcher(model, SMALL)
    assert (
        far(sketcher(batch).sketches, expected(sketcher.ledger, head_gradients(model, batch)))
        < 1e-7
    )


def test_a_classifier_has_no_such_features() -> None:
    with pytest.raises(ModelError, match="factored features"):
        HeadSketcher(TappedModel(nn.Linear(2, 2)))
