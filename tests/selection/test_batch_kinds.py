"""What the first batch could not show: later batches of another kind are compared anew."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.batches import Batch
from preceptor.errors import ModelError, NonFiniteError
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from tests.selection.batches import token_batch
from tests.selection.explicit import expected, far
from tests.selection.test_factored import SMALL, shaken

WIDE = 6


class Between(nn.Module):
    """Two layers, and what `call` does with them."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)
        self.table = nn.Embedding(20, WIDE)
        self.scale = nn.Parameter(torch.randn(WIDE))
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.hidden = nn.Parameter(torch.randn(WIDE, WIDE))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        found = self.call(self, x) + 0.0 * (self.table.weight.sum() + self.gate * self.scale.sum())
        found = found + 0.0 * self.hidden.sum()
        return found.mean(dim=1) if found.dim() > 2 else found


def drawn(examples: int, tokens: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(examples, tokens, WIDE, dtype=torch.float64, generator=draw)


def padded() -> Tensor:
    """As many tokens in all as would be four times three."""
    x = drawn(4, 6, 1)
    for row, length in enumerate((2, 4, 4, 2)):
        x[row, length:] = 0
    return x


def _packed(parts: Between, x: Tensor) -> Tensor:
    """Tokens without padding, behind a function that nobody follows them through."""
    mask = x.abs().sum(dim=-1) > 0
    rows = F.leaky_relu(parts.first(x)[mask])
    found = torch.zeros_like(x)
    found[mask] = parts.last(rows).tanh()
    return found


def _by_chunks(parts: Between, x: Tensor) -> Tensor:
    """A recurrence whose decays are made of a parameter, chunk by chunk."""
    out, state, rate = [], x.new_zeros(len(x), WIDE), parts.scale.abs()
    for part in x.split(4, dim=1):
        step = torch.arange(1, part.shape[1] + 1).to(x)[:, None]
        decay, given = torch.exp(-step * rate), parts.first(part)
        out.append(given * decay + state[:, None] * decay.flip(0))
        state = state * torch.exp(-rate * part.shape[1]) + (given * decay).sum(dim=1)
    return parts.last(torch.cat(out, dim=1).tanh())


def _turned_when_long(parts: Between, x: Tensor) -> Tensor:
    if x.shape[1] <= 9:
        return parts.last(parts.first(x).tanh())
    return parts.last(parts.first(x.transpose(0, 1)).tanh().mean(dim=0))


def _both_tables(parts: Between, x: Tensor) -> Tensor:
    """One table read at each example's own places and at those of all."""
    own = parts.table((x[..., 0] * 20).long())
    return parts.last(parts.first(own + parts.table(torch.arange(x.shape[1]))).tanh())


def _frozen_when_long(parts: Between, x: Tensor) -> Tensor:
    found = parts.first(x) * parts.scale
    if x.shape[1] > 9:
        with torch.no_grad():
            still = parts.scale * 2
        found = found * still
    return parts.last(found)


def _sorted(parts: Between, x: Tensor) -> Tensor:
    """In another order on the way; the first and the last stay where they are."""
    order = x[:, 0, 0].argsort()
    return parts.last(parts.first(x[order]).tanh())[order.argsort()]


def mixed_order() -> Tensor:
    x = drawn(5, 7)
    x[:, 0, 0] = torch.tensor([0.0, 0.3, 0.2, 0.1, 0.9])
    return x


def _written(parts: Between, x: Tensor) -> Tensor:
    """Written to on the way: a product, a copy, and what was a constant."""
    made, copy, zeros = parts.scale * parts.hidden[0], parts.scale.clone(), x.new_zeros(3, WIDE)
    made[0] = 0.0
    copy.mul_(2)
    zeros += parts.scale
    return parts.last(parts.first(x) * made + copy + zeros.sum(dim=0)) * parts.gate


BATCHES: dict[str, tuple[Callable[[Any, Tensor], Tensor], list[Tensor]]] = {
    "padding": (_packed, [drawn(5, 6), padded()]),
    "another number of chunks": (_by_chunks, [drawn(5, 7), drawn(5, 8, 2), drawn(2, 12, 1)]),
    "longer texts": (_turned_when_long, [drawn(5, 7), drawn(4, 12, 1)]),
    "as many tokens as examples": (_both_tables, [drawn(5, 7), drawn(8, 8, 1)]),
    "no gradient in longer ones": (_frozen_when_long, [drawn(5, 7), drawn(4, 12, 1)]),
    "another order": (_sorted, [mixed_order()]),
    "writing": (_written, [drawn(5, 7), drawn(3, 7)]),
}


@pytest.mark.parametrize("case", BATCHES)
def test_rows_of_later_batches_are_right_too(case: str) -> None:
    call, batches = BATCHES[case]
    torch.manual_seed(0)
    model = TappedModel(Between(call)).double()
    sketcher, exact = FactoredSketcher(model, SMALL), ExactSketcher(model)
    for x in batches:
        batch = Batch(x, labels=torch.arange(len(x)) % WIDE)
        rows = sketcher(batch).sketches
        assert far(rows, expected(sketcher.ledger, exact.gradients(batch)[0])) < 1e-7


def _mixed_when_long(parts: Between, x: Tensor) -> Tensor:
    found = parts.first(x)
    return parts.last((found - found.mean(dim=0) if x.shape[1] > 9 else found).tanh())


def test_a_student_that_mixes_longer_examples_is_refused_when_they_come() -> None:
    torch.manual_seed(0)
    sketcher = FactoredSketcher(TappedModel(Between(_mixed_when_long)).double(), SMALL)
    sketcher(Batch(drawn(5, 7), labels=torch.arange(5)))
    with pytest.raises(ModelError, match="the student mixes examples"):
        sketcher(Batch(drawn(4, 12, 1), labels=torch.arange(4)))


class _Own(torch.autograd.Function):
    """A product that no parameter notices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        return outer[0] @ weight.T, x.flatten(0, -2).T @ outer[0].flatten(0, -2)


def _not_the_first(parts: Between, x: Tensor) -> Tensor:
    found = parts.first(x)
    chosen = (x[:, 0, 0] > 0.5)[:, None, None]
    return parts.last(torch.where(chosen, _Own.apply(found, parts.hidden), found))


def test_a_hidden_parameter_that_the_first_example_does_not_use_is_refused() -> None:
    torch.manual_seed(0)
    x = drawn(5, 7)
    x[:, 0, 0] = torch.tensor([0.1, 0.9, 0.9, 0.2, 0.9])
    sketcher = FactoredSketcher(TappedModel(Between(_not_the_first)).double(), SMALL)
    with pytest.raises(ModelError, match="the parameter hidden was taken by its sketch"):
        sketcher(Batch(x, labels=torch.arange(5)))


def test_an_expert_without_tokens_in_a_later_batch_moves_no_rows() -> None:
    torch.manual_seed(0)
    told = {"num_local_experts": 4, "num_experts_per_tok": 2, "kv_channels": 8}
    sizes = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    heads = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = shaken(load_model({"causal": {"model_type": "jetmoe", **sizes, **told, **heads}}))
    sketcher = FactoredSketcher(model, SMALL)
    for lengths in ((9, 7, 8, 9, 6), (5, 5), (4, 4, 4, 4)):
        batch = token_batch(lengths)
        alone = [sketcher(batch.rows(i, i + 1)).sketches for i in range(len(batch))]
        assert far(sketcher(batch).sketches, torch.cat(alone)) < 1e-12
    assert sketcher.apart == ()


def test_a_loss_that_is_no_number_is_told_as_that() -> None:
    sketcher = FactoredSketcher(TappedModel(Between(_turned_when_long)).double(), SMALL)
    x = drawn(5, 6)
    x[1, 2, 3] = float("nan")
    with pytest.raises(NonFiniteError, match="loss is no number"):
        sketcher(Batch(x, labels=torch.arange(5)))


def test_what_torch_cannot_run_with_noticed_parameters_is_refused_in_words() -> None:
    def mapped(parts: Between, x: Tensor) -> Tensor:
        return parts.last(torch.vmap(lambda own: parts.first(own).tanh())(x))

    sketcher = FactoredSketcher(TappedModel(Between(mapped)).double(), SMALL)
    with pytest.raises(ModelError, match="exact features"):
        sketcher(Batch(drawn(5, 7), labels=torch.arange(5)))
