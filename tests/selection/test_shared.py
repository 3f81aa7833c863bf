"""Parameters that are read once for all examples: each one's gradient is still its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from preceptor.batches import Batch
from preceptor.models.tapped import TappedModel
from preceptor.selection.entry import Entry
from preceptor.selection.factored import FactoredSketcher
from tests.selection.batches import token_batch
from tests.selection.explicit import expected, far
from tests.selection.test_factored import SMALL, check, shaken
from tests.selection.test_layers import (
    EXAMPLES,
    Together,
    gradients,
    loss,
    normal,
    parameter,
    sketched,
)

TOKENS = 4
APART = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)) % 5
LATER = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool).triu(1)


def scores() -> Tensor:
    return normal(EXAMPLES, 2, TOKENS, TOKENS)


def windows() -> Tensor:
    return normal(3 * EXAMPLES, 2, TOKENS, TOKENS)


def _by_index(table: Tensor) -> Tensor:
    """As Swin does it."""
    found = table[APART.flatten()].view(TOKENS, TOKENS, -1)
    return found.permute(2, 0, 1).contiguous().unsqueeze(0)


def _by_table(parts: Any, x: Tensor) -> Tensor:
    """As MPNet does it."""
    found = parts.table(APART).permute([2, 0, 1]).unsqueeze(0)
    return x * 1.0 + found.expand((len(x), -1, TOKENS, TOKENS)).contiguous()


def _resized(parts: Any, x: Tensor) -> Tensor:
    """As BEiT does it."""
    grid = parts.table[:4].reshape(1, 2, 2, 2).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(3, 3), mode="bilinear").permute(0, 2, 3, 1).reshape(9, -1)
    return x + _by_index(torch.cat([grid[:3], parts.table[4:]]))


def _attended(parts: Any, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, attn_mask=_by_index(parts.table))


def _hidden(parts: Any, x: Tensor) -> Tensor:
    """Behind a condition that holds for all, one of each example, and a number."""
    table = torch.where(LATER, 5.0, _by_index(parts.table)).masked_fill(LATER.mT, -3.0)
    return torch.where(x[:, :, :1, :1] > 0, x * 2 * table.float().double(), 1.0)


def _sunk(parts: Any, x: Tensor) -> Tensor:
    """As gpt-oss does it."""
    sinks = parts.sinks.reshape(1, -1, 1, 1).expand(len(x), -1, TOKENS, -1)
    return torch.cat([x, sinks], dim=-1).softmax(dim=-1)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "a table by an index": (
        lambda: Together(lambda parts, x: x + _by_index(parts.table), table=parameter(5, 2)),
        scores,
    ),
    "beside windows of each example": (
        lambda: Together(lambda parts, x: _by_index(parts.table) * x, table=parameter(5, 2)),
        windows,
    ),
    "an embedding without an axis of examples": (
        lambda: Together(_by_table, table=nn.Embedding(5, 2)),
        scores,
    ),
    "an embedding of more rows than are read": (
        lambda: Together(
            lambda parts, x: x * torch.where(LATER[0, 0, :1], 1, parts.table(APART[0])),
            table=nn.Embedding(50, TOKENS),
        ),
        scores,
    ),
    "a table of another size": (lambda: Together(_resized, table=parameter(6, 2)), scores),
    "a mask of attention": (
        lambda: Together(_attended, table=parameter(5, 2)),
        lambda: normal(EXAMPLES, 2, TOKENS, 6),
    ),
    "behind conditions": (lambda: Together(_hidden, table=parameter(5, 2)), scores),
    "sinks": (lambda: Together(_sunk, sinks=parameter(2)), scores),
    "the first of many positions": (
        lambda: Together(
            lambda parts, x: x + 2 * parts.place[:, :TOKENS], place=parameter(1, 9, 6)
        ),
        lambda: normal(EXAMPLES, TOKENS, 6),
    ),
    "other axes turned": (
        lambda: Together(lambda parts, x: x + parts.w.transpose(0, 2), w=parameter(3, TOKENS, 2)),
        lambda: normal(EXAMPLES, 2, TOKENS, 3),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_all_examples_read_is_sketched_as_each_ones_own_gradient(case: str) -> None:
    make, given = CASES[case]
    module, x = make().double(), given().requires_grad_()
    ledger = sketched(module, x, dimension=40, side=4, vocabulary=16)
    slope, x.grad = x.grad, None
    truth = expected(ledger, gradients(module, x))
    assert far(ledger.sketches(), truth) < 1e-7
    (plain,) = torch.autograd.grad(loss_of(module, x), x)
    assert slope is not None
    assert torch.allclose(slope, plain)


def loss_of(module: nn.Module, x: Tensor) -> Tensor:
    return loss(module(x)).sum()


_TEXTS: dict[str, Any] = {"vocab_size": 61, "num_labels": 3, "pad_token_id": 0, "eos_token_id": 2}
_WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
_IMAGES = {"image_size": 32, "num_labels": 3}
_BEIT = {**_IMAGES, **_WIDTH, "patch_size": 8, "intermediate_size": 24}
_SWIN = {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4}
_LEVIT = {
    **_IMAGES,
    "architectures": ["LevitForImageClassification"],
    "hidden_sizes": [16, 16, 16],
    "num_attention_heads": [1, 1, 1],
    "depths": [1, 1, 1],
    "key_dim": [4, 4, 4],
}
MODELS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "mpnet": (
        AutoModelForSequenceClassification,
        "mpnet",
        {**_TEXTS, **_WIDTH, "intermediate_size": 24},
    ),
    # Its layers are given positions first, and keep those that see all others apart.
    "longformer": (
        AutoModelForSequenceClassification,
        "longformer",
        {**_TEXTS, **_WIDTH, "intermediate_size": 24, "attention_window": 4},
    ),
    "xlnet": (
        AutoModelForSequenceClassification,
        "xlnet",
        {**_TEXTS, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
    ),
    # Its positions are made by einsum, of numbers that are the same for all.
    "funnel": (
        AutoModelForSequenceClassification,
        "funnel",
        {
            **{"vocab_size": 61, "num_labels": 3, "d_model": 16, "d_head": 8, "d_inner": 24},
            **{"block_sizes": [1, 1], "n_head": 2},
        },
    ),
    # Its tables are no embeddings of torch's.
    "ibert": (
        AutoModelForSequenceClassification,
        "ibert",
        {**_TEXTS, **_WIDTH, "intermediate_size": 24, "max_position_embeddings": 256},
    ),
    "t5": (
        AutoModelForSequenceClassification,
        "t5",
        {**_TEXTS, **_T5, "decoder_start_token_id": 0},
    ),
    "beit": (
        AutoModelForImageClassification,
        "beit",
        {**_BEIT, "use_relative_position_bias": True},
    ),
    "beit, one table for all layers": (
        AutoModelForImageClassification,
        "beit",
        {**_BEIT, "use_shared_relative_position_bias": True},
    ),
    "swin": (AutoModelForImageClassification, "swin", {**_IMAGES, **_SWIN}),
    # It keeps its table in eval mode from one pass to the next.
    "levit": (AutoModelForImageClassification, "levit", _LEVIT),
}


def classifier(name: str) -> TappedModel:
    kind, type_, told = MODELS[name]
    torch.manual_seed(0)
    return shaken(TappedModel(kind.from_config(AutoConfig.for_model(type_, **told))))


def texts(examples: int, tokens: int) -> Batch:
    """Of one length each, with the end that T5 looks for."""
    inputs = token_batch((tokens,) * examples).inputs
    assert not isinstance(inputs, Tensor)
    ids = inputs["input_ids"].clone()
    ids[:, -1] = 2
    return Batch({**inputs, "input_ids": ids}, labels=torch.arange(examples) % 3)


def images(examples: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(examples, 3, 32, 32, dtype=torch.float64, generator=draw)
    return Batch({"pixel_values": pixels}, labels=torch.arange(examples) % 3)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_unusual_layouts_are_taken_as_a_whole(name: str) -> None:
    model = classifier(name)
    batch = texts(5, 9) if MODELS[name][0] is AutoModelForSequenceClassification else images(2)
    check(model, batch)
    sketcher = FactoredSketcher(model, SMALL)
    sketcher(batch)
    assert sketcher.apart == ()


@pytest.mark.parametrize(
    ("name", "first"),
    [("mpnet", (4, 4)), ("mpnet", (5, 9)), ("mpnet", (1, 1)), ("xlnet", (4, 4)), ("xlnet", (1, 1))],
)
def test_as_many_tokens_as_examples_are_not_taken_for_these(
    name: str, first: tuple[int, int]
) -> None:
    sketcher = FactoredSketcher(classifier(name), SMALL)
    sketcher(texts(*first))
    for size in (5, 1):
        batch = texts(size, size)
        together = sketcher(batch).sketches
        alone = torch.cat([sketcher(batch.rows(i, i + 1)).sketches for i in range(size)])
        assert far(together, alone) < 1e-12
    assert sketcher.apart == ()


class Mistaken(nn.Module):
    """What looks like an axis of examples is one of tokens."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.table = nn.Parameter(torch.randn(9, 6))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.call(self.layer(x), self.table))


def _tokens_first(x: Tensor, table: Tensor) -> Tensor:
    return (x.transpose(0, 1) + table[torch.tensor([3])]).tanh().mean(dim=0)


def _tokens_for_examples(x: Tensor, table: Tensor) -> Tensor:
    own = table[:1].expand(x.shape[1], -1)
    return (x + own * own.roll(1, 1)).tanh().mean(dim=1)


@pytest.mark.parametrize("call", [_tokens_first, _tokens_for_examples])
@pytest.mark.parametrize("tokens", [3, 5, 6])
def test_an_axis_that_is_mistaken_is_found_and_a_way_out_is_taken(
    call: Callable[[Tensor, Tensor], Tensor], tokens: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    model = TappedModel(Mistaken(call)).double()
    sketcher = FactoredSketcher(model, SMALL)
    for count in (3, tokens, 2 * tokens):
        pixels = torch.rand(count, tokens, 6, dtype=torch.float64, generator=draw)
        batch = Batch(pixels, labels=torch.arange(count) % 6)
        check(model, batch)
        alone = [sketcher(batch.rows(i, i + 1)).sketches for i in range(count)]
        assert far(sketcher(batch).sketches, torch.cat(alone)) < 1e-12


def _often(parts: Any, x: Tensor) -> Tensor:
    decay = -parts.decay.exp()
    with torch.no_grad():
        x = x + decay
    state = x[:, 0]
    for time in range(x.shape[1]):
        state = state * decay + x[:, time] * parts.decay
    return state


def test_a_parameter_of_a_recurrence_is_sketched_once_for_all_times() -> None:
    module, x = Together(_often, decay=parameter(6)).double(), normal(EXAMPLES, 9, 6)
    seen: list[Tensor] = []
    add = Entry.add_flat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Entry, "add_flat", lambda own, x: (seen.append(x), add(own, x)))
        ledger = sketched(module, x, dimension=40)
    # As it is, and as a decay.
    assert len(seen) == 2
    assert far(ledger.sketches(), expected(ledger, gradients(module, x))) < 1e-7
