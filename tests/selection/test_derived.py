"""What is made of several parameters once for all examples: each one's gradient is its own."""

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
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.selection.factored import FactoredSketcher
from tests.selection.batches import token_batch
from tests.selection.explicit import far
from tests.selection.test_factored import SMALL, check, shaken

_WIDTH: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "type_vocab_size": 0,
}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
_OWN = {"share_att_key": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm"}
ENCODERS = {
    "deberta-v2": {**_RELATIVE, **_OWN},
    "deberta": {**_RELATIVE, "max_relative_positions": 12},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_positions_that_go_through_norms_and_layers_of_tokens(name: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, num_labels=3, **_WIDTH, **ENCODERS[name])
    model = shaken(TappedModel(AutoModelForSequenceClassification.from_config(config)))
    batch = Batch(token_batch().inputs, labels=torch.tensor([0, 1, 2]))
    check(model, batch)
    expect_together(model, batch)


def test_products_of_parameters_in_a_difference_of_attentions() -> None:
    torch.manual_seed(0)
    told = {**_WIDTH, "num_key_value_heads": 2}
    model = shaken(load_model({"causal": {"model_type": "diffllama", **told}}))
    check(model, token_batch())
    expect_together(model, token_batch())


def test_windows_with_positions_from_a_network() -> None:
    torch.manual_seed(0)
    told = {"image_size": 32, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4]}
    config = AutoConfig.for_model("swinv2", num_labels=3, window_size=4, **told)
    model = shaken(TappedModel(AutoModelForImageClassification.from_config(config)))
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    batch = Batch({"pixel_values": pixels}, labels=torch.tensor([0, 2]))
    check(model, batch)
    expect_together(model, batch)


def expect_together(model: TappedModel, batch: Batch) -> None:
    """Nothing is run one example at a time, and a row is the same alone as beside others."""
    sketcher = FactoredSketcher(model, SMALL)
    rows = sketcher(batch).sketches
    assert sketcher.apart == ()
    alone = [sketcher(batch.rows(i, i + 1)).sketches for i in range(len(batch))]
    assert far(rows, torch.cat(alone)) < 1e-12


WIDE, PLACES = 6, 8
PLACED = torch.linspace(-1.0, 1.0, 2 * PLACES).view(PLACES, 2)


class Made(nn.Module):
    """Layers between which `call` stands."""

    def __init__(self, call: Callable[["Made", Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(WIDE, WIDE)
        self.one, self.other = (nn.Parameter(torch.randn(WIDE, WIDE)) for _ in range(2))
        self.scale = nn.Parameter(torch.randn(WIDE))
        self.positions = nn.Sequential(nn.Linear(2, 4), nn.ReLU(inplace=True), nn.Linear(4, WIDE))
        self.norm = nn.LayerNorm(WIDE)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        found = self.call(self, self.first(x)).tanh()
        return found.mean(dim=1) if found.dim() > 2 else found


def _product(parts: Made, x: Tensor) -> Tensor:
    """A matrix that is the product of two, written to on the way."""
    found = (parts.one @ parts.other).clamp(-2, 2)
    found *= parts.scale
    return x @ found + parts.other[:1].sum()


def _network(parts: Made, x: Tensor) -> Tensor:
    """Places from a network, read in another order, and of both kinds of tables' axes."""
    placed = parts.norm(parts.positions(PLACED.to(x)))
    first, second = placed[torch.arange(PLACES).flip(0)].chunk(2)
    beside = torch.cat([first, second, torch.stack([parts.scale, parts.scale.exp()])])
    return x + 16 * beside.sigmoid()[:PLACES].unsqueeze(0) * parts.scale


def _repeated(parts: Made, x: Tensor) -> Tensor:
    """As DeBERTa does it: once for each example, and each head."""
    placed = parts.positions(PLACED.to(x)[None]).view(PLACES, 2, -1).transpose(0, 1)
    each = placed.repeat(len(x), 1, 1)
    heads = x.view(len(x), PLACES, 2, -1).transpose(1, 2).flatten(0, 1)
    found = torch.bmm(heads, each.transpose(1, 2)).softmax(dim=-1) @ each
    return found.view(len(x), 2, PLACES, -1).transpose(1, 2).flatten(2)


def _told(parts: Made, x: Tensor) -> Tensor:
    """Constants with as many rows as there are places."""
    steep = torch.linspace(1.0, 2.0, PLACES).to(x).view(PLACES, 1)
    placed = steep * parts.positions(PLACED.to(x)) - parts.scale.exp() * steep
    hidden = torch.where(steep > 1.5, placed, placed.square())
    return x + hidden.expand(len(x), -1, -1) + hidden.expand(1, -1, -1)


def _joined(parts: Made, x: Tensor) -> Tensor:
    """Tokens of the model's own before those of each example."""
    own = parts.positions(PLACED.to(x)).unsqueeze(0)
    return torch.cat([own.expand(len(x), -1, -1), x], dim=1)


def _written(parts: Made, x: Tensor) -> Tensor:
    """What is made is written to what is of each example."""
    found = parts.first(x)
    found += parts.positions(PLACED.to(x)).unsqueeze(0)
    return found * parts.one.norm(dim=1)


def _read(parts: Made, x: Tensor) -> Tensor:
    """At places that tensors tell, some of them more than once."""
    placed = parts.positions(PLACED.to(x))
    rows, columns = torch.arange(PLACES) // 3, torch.tensor([1, 1, 4, 0, 5, 1])
    some = placed[rows][:, columns] + placed[rows[:, None], columns]
    chosen = placed[PLACED[:, 0] > 0].sum(dim=0)
    return x + some * chosen


def _again(parts: Made, x: Tensor) -> Tensor:
    """What is made is made something of three times, and met by the examples between."""
    placed = (parts.scale.exp() * parts.positions(PLACED.to(x))).sin()
    first, whole = placed.square(), placed.sum()
    found = x + placed.unsqueeze(0) * first.cos()
    return found * (first.mean() + placed.exp().mean() * whole)


CALLS = [_product, _network, _repeated, _told, _joined, _written, _read, _again]


@pytest.mark.parametrize("examples", [3, PLACES, 2 * PLACES])
@pytest.mark.parametrize("call", CALLS)
def test_functions_of_several_parameters(
    call: Callable[[Made, Tensor], Tensor], examples: int
) -> None:
    torch.manual_seed(0)
    model = TappedModel(Made(call)).double()
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(examples, PLACES, WIDE, dtype=torch.float64, generator=draw)
    check(model, Batch(pixels, labels=torch.arange(examples) % WIDE))


@pytest.mark.parametrize("call", CALLS)
def test_as_many_examples_as_places_come_later(call: Callable[[Made, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    sketcher = FactoredSketcher(TappedModel(Made(call)).double(), SMALL)
    draw = torch.Generator().manual_seed(0)
    for examples in (5, PLACES, 2):
        pixels = torch.rand(examples, PLACES, WIDE, dtype=torch.float64, generator=draw)
        batch = Batch(pixels, labels=torch.arange(examples) % WIDE)
        rows = sketcher(batch).sketches
        alone = [sketcher(batch.rows(i, i + 1)).sketches for i in range(examples)]
        assert far(rows, torch.cat(alone)) < 1e-12
    assert sketcher.apart == ()


class Turned(nn.Module):
    """Its tokens stand along the first axis before any parameter meets them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.gelu(self.layer(x.transpose(0, 1))).mean(dim=0))


@pytest.mark.parametrize("examples", [3, PLACES, 2 * PLACES])
def test_data_whose_tokens_come_first_is_not_taken_for_a_constant(examples: int) -> None:
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(examples, PLACES, WIDE, dtype=torch.float64, generator=draw)
    check(TappedModel(Turned()).double(), Batch(pixels, labels=torch.arange(examples) % WIDE))
