"""Each kind of layer: the ledger's sketch against each example's own gradient by autograd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P
from transformers.pytorch_utils import Conv1D

from preceptor.errors import ModelError
from preceptor.selection.ledger import Ledger, Sketching
from preceptor.selection.tracked import held, tracking
from preceptor.selection.uses import USES
from tests.selection.explicit import expected, far

EXAMPLES = 3


class Together(nn.Module):
    """Layers, then whatever `call` does with them."""

    def __init__(self, call: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def ids() -> Tensor:
    return torch.tensor([[0, 3, 3, 8, 1], [5, 5, 5, 0, 2], [8, 7, 6, 0, 0]])


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def _positions(parts: Any, x: Tensor) -> Tensor:
    return parts.table(torch.arange(5).unsqueeze(0)) * x


def _class_token(parts: Any, x: Tensor) -> Tensor:
    return torch.cat([parts.token.expand(len(x), -1, -1), x], dim=1) + parts.place


def _tied(parts: Any, x: Tensor) -> Tensor:
    return F.linear(parts.table(x), parts.table.weight)


def _twice(parts: Any, x: Tensor) -> Tensor:
    return parts.layer(torch.relu(parts.layer(x)))


def _rows(parts: Any, x: Tensor) -> Tensor:
    return parts.layer(x.view(-1, x.shape[-1]))


def _in_place(parts: Any, x: Tensor) -> Tensor:
    return (x * 1.0).add_(parts.shift).mul_(1 - parts.scale)


def _channels_last(x: Tensor) -> Tensor:
    return x.mT.unflatten(2, (4, -1))


def _shared_input(parts: Any, x: Tensor) -> Tensor:
    return parts.layer(torch.ones(1, 4, 12, dtype=torch.float64)) * x[..., :1]


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "linear, sketched": (lambda: nn.Linear(40, 30), lambda: normal(EXAMPLES, 5, 40)),
    "linear, whole": (lambda: nn.Linear(12, 3, bias=False), lambda: normal(EXAMPLES, 5, 12)),
    "linear, narrow": (lambda: nn.Linear(200, 4), lambda: normal(EXAMPLES, 5, 200)),
    "linear, one row an example": (lambda: nn.Linear(40, 30), lambda: normal(EXAMPLES, 40)),
    "linear, rows of all examples": (
        lambda: Together(_rows, layer=nn.Linear(40, 30)),
        lambda: normal(EXAMPLES, 5, 40),
    ),
    "linear, used twice": (
        lambda: Together(_twice, layer=nn.Linear(40, 40)),
        lambda: normal(EXAMPLES, 5, 40),
    ),
    "linear, of what all examples share": (
        lambda: Together(_shared_input, layer=nn.Linear(12, 9)),
        lambda: normal(EXAMPLES, 4, 9),
    ),
    "GPT-2's Conv1D": (lambda: Conv1D(30, 40), lambda: normal(EXAMPLES, 5, 40)),
    "embedding": (lambda: nn.Embedding(50, 40), ids),
    "embedding with padding": (lambda: nn.Embedding(50, 40, padding_idx=0), ids),
    "embedding of few": (lambda: nn.Embedding(9, 3), ids),
    "positions that all share": (
        lambda: Together(_positions, table=nn.Embedding(7, 6)),
        lambda: normal(EXAMPLES, 5, 6),
    ),
    "tied embedding": (lambda: Together(_tied, table=nn.Embedding(50, 40)), ids),
    "layer norm": (lambda: nn.LayerNorm(12), lambda: normal(EXAMPLES, 5, 12)),
    "Nemotron's norm, of 1 + w": (lambda: NemotronLayerNorm1P(12), lambda: normal(EXAMPLES, 5, 12)),
    "a number less before a product": (
        lambda: Together(lambda parts, x: F.linear(x, parts.weight - 1), weight=parameter(4, 4)),
        lambda: normal(EXAMPLES, 2, 4),
    ),
    "layer norm of two axes": (lambda: nn.LayerNorm([5, 12]), lambda: normal(EXAMPLES, 5, 12)),
    "layer norm of long examples": (lambda: nn.LayerNorm(64), lambda: normal(EXAMPLES, 520, 64)),
    "rms norm": (lambda: nn.RMSNorm(12), lambda: normal(EXAMPLES, 5, 12)),
    "Llama's norm": (lambda: LlamaRMSNorm(12), lambda: normal(EXAMPLES, 5, 12)),
    "Llama's norm of each attention head": (
        lambda: LlamaRMSNorm(6),
        lambda: normal(EXAMPLES, 5, 2, 6),
    ),
    "Gemma's norm": (lambda: GemmaRMSNorm(12), lambda: normal(EXAMPLES, 5, 12)),
    "group norm": (lambda: nn.GroupNorm(2, 6), lambda: normal(EXAMPLES, 6, 4, 4)),
    "batch norm": (lambda: nn.BatchNorm2d(6).eval(), lambda: normal(EXAMPLES, 6, 4, 4)),
    "batch norm of many places": (
        lambda: nn.BatchNorm2d(6).eval(),
        lambda: normal(EXAMPLES, 6, 4, 5),
    ),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(6).eval(), lambda: normal(EXAMPLES, 6)),
    "convolution, sketched": (
        lambda: nn.Conv2d(8, 30, 3, stride=2, padding=1, dilation=2),
        lambda: normal(EXAMPLES, 8, 9, 9),
    ),
    "convolution, whole": (
        lambda: nn.Conv2d(1, 3, (3, 1), stride=(2, 1), padding=(1, 0)),
        lambda: normal(EXAMPLES, 1, 6, 5),
    ),
    "convolution padded to the same size": (
        lambda: nn.Conv2d(2, 6, (3, 5), padding="same", dilation=(2, 1)),
        lambda: normal(EXAMPLES, 2, 6, 5),
    ),
    "convolution with valid padding": (
        lambda: nn.Conv2d(2, 6, 3, padding="valid", stride=2),
        lambda: normal(EXAMPLES, 2, 6, 5),
    ),
    "convolution of each place": (lambda: nn.Conv2d(3, 12, 1), lambda: normal(EXAMPLES, 3, 5, 4)),
    "convolution of each place, few places": (
        lambda: nn.Conv2d(3, 12, 1),
        lambda: normal(EXAMPLES, 3, 2, 3),
    ),
    "convolution of each place, channels last": (
        lambda: Together(lambda parts, x: parts.layer(_channels_last(x)), layer=nn.Conv2d(3, 5, 1)),
        lambda: normal(EXAMPLES, 20, 3),
    ),
    "convolution of each place, with a stride": (
        lambda: nn.Conv2d(3, 12, 1, stride=2),
        lambda: normal(EXAMPLES, 3, 5, 4),
    ),
    "convolution by groups": (
        lambda: nn.Conv2d(6, 12, 3, padding=1, groups=3),
        lambda: normal(EXAMPLES, 6, 5, 5),
    ),
    "convolution by groups, few places": (
        lambda: nn.Conv2d(6, 12, 3, stride=2, groups=3),
        lambda: normal(EXAMPLES, 6, 4, 3),
    ),
    "convolution of each channel": (
        lambda: nn.Conv2d(20, 20, 3, padding=1, groups=20, bias=False),
        lambda: normal(EXAMPLES, 20, 5, 5),
    ),
    "convolution of each channel, channels last": (
        lambda: Together(
            lambda parts, x: parts.layer(_channels_last(x)),
            layer=nn.Conv2d(6, 6, 3, padding=1, groups=6),
        ),
        lambda: normal(EXAMPLES, 20, 6),
    ),
    "convolution of one axis": (
        lambda: nn.Conv1d(8, 30, 5, stride=2, padding=2),
        lambda: normal(EXAMPLES, 8, 11),
    ),
    "convolution of one axis, whole": (
        lambda: nn.Conv1d(1, 3, 3, padding=1, dilation=2),
        lambda: normal(EXAMPLES, 1, 11),
    ),
    "filters without an axis, and with it": (
        lambda: Together(
            lambda parts, x: F.conv1d(x, parts.w.squeeze(1).unsqueeze(1), groups=6),
            w=parameter(6, 1, 4),
        ),
        lambda: normal(EXAMPLES, 6, 11),
    ),
    "convolution of three axes": (
        lambda: nn.Conv3d(8, 30, 2, stride=(1, 2, 1)),
        lambda: normal(EXAMPLES, 8, 4, 4, 3),
    ),
    "class token and positions": (
        lambda: Together(_class_token, token=parameter(1, 1, 6), place=parameter(1, 5, 6)),
        lambda: normal(EXAMPLES, 4, 6),
    ),
    "a scale of channels": (
        lambda: Together(lambda parts, x: parts.scale * x, scale=parameter(6, 1, 1)),
        lambda: normal(EXAMPLES, 6, 4, 4),
    ),
    "a product by matmul": (
        lambda: Together(lambda parts, x: x @ parts.weight, weight=parameter(40, 30)),
        lambda: normal(EXAMPLES, 5, 40),
    ),
    "a product by letters": (
        lambda: Together(
            lambda parts, x: torch.einsum("bth,hnd->btnd", x, parts.weight),
            weight=parameter(40, 3, 10),
        ),
        lambda: normal(EXAMPLES, 5, 40),
    ),
    "a product by letters over two axes": (
        lambda: Together(
            lambda parts, x: torch.einsum("hnd,...nd->...h", parts.weight, x),
            weight=parameter(30, 4, 10),
        ),
        lambda: normal(EXAMPLES, 5, 4, 10),
    ),
    "a product by letters that all have": (
        lambda: Together(
            lambda parts, x: torch.einsum("btnd,snd->nbts", x, parts.weight).transpose(0, 1),
            weight=parameter(2, 4, 6),
        ),
        lambda: normal(EXAMPLES, 5, 4, 6),
    ),
    "in place": (
        lambda: Together(_in_place, shift=parameter(6), scale=parameter(6)),
        lambda: normal(EXAMPLES, 4, 6),
    ),
}


def loss(answer: Tensor) -> Tensor:
    """One number, in which no example and no number counts as another."""
    rows = answer.reshape(EXAMPLES, -1)
    return ((rows + 0.3 * rows.square()) * normal(rows.shape[1]).to(rows)).sum(dim=1)


def sketched(module: nn.Module, x: Tensor, **settings: int) -> Ledger:
    """The ledger after a pass."""
    tables = [part.weight for part in module.modules() if isinstance(part, nn.Embedding)]
    ledger = Ledger(dict(module.named_parameters()), Sketching(**settings), tables)
    ledger.begin(EXAMPLES)
    with tracking(held(module, ledger, USES)):
        loss(module(x)).sum().backward()
    return ledger


def gradients(module: nn.Module, x: Tensor) -> Tensor:
    """Each example's own, by autograd."""
    parameters = list(module.parameters())
    each = [
        torch.autograd.grad(one, parameters, retain_graph=True) for one in loss(module(x)).unbind()
    ]
    return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in each])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wants_input", [True, False], ids=["within", "first"])
def test_a_layers_sketch_is_that_of_each_examples_own_gradient(
    case: str, wants_input: bool
) -> None:
    make, given = CASES[case]
    module, x = make().double(), given()
    with torch.no_grad():
        for each in module.parameters():
            each.add_(0.3 * torch.randn_like(each))
    if wants_input and x.is_floating_point():
        x.requires_grad_()
    ledger = sketched(module, x, dimension=40, side=4, vocabulary=16, width=4)
    slope = None if x.grad is None else x.grad.clone()
    truth = expected(ledger, gradients(module, x))
    assert far(ledger.sketches(), truth) < 1e-7
    assert all(each.grad is None for each in module.parameters())
    if slope is not None:
        x.grad = None
        loss(module(x)).sum().backward()
        assert x.grad is not None
        assert torch.allclose(slope, x.grad)


def test_a_side_is_left_whole_where_that_is_cheaper() -> None:
    shapes = {
        "inputs": (nn.Linear(40, 30), (30, 4)),
        "neither": (nn.Linear(12, 3), (3, 12)),
        "patches": (nn.Conv2d(8, 30, 3), (30, 4)),
        "few patches": (nn.Conv2d(1, 30, (3, 1)), (30, 3)),
        "classes": (nn.Embedding(50, 40), (16, 4)),
        "few classes": (nn.Embedding(9, 3), (9, 3)),
    }
    for name, (layer, sizes) in shapes.items():
        table = [layer.weight] if isinstance(layer, nn.Embedding) else []
        named, said = dict(layer.named_parameters()), Sketching(side=4, vocabulary=16, width=4)
        entry = Ledger(named, said, table).entries[0]
        assert (entry.rows.k, entry.columns.k) == sizes, name


def test_inputs_are_sketched_also_where_they_meet_the_rows_of_a_weight() -> None:
    layer = Together(lambda parts, x: x @ parts.weight, weight=parameter(40, 30)).double()
    entry = sketched(layer, normal(EXAMPLES, 3, 40), dimension=40, side=4).entries[0]
    assert (entry.rows.k, entry.columns.k) == (4, 30)


@pytest.mark.parametrize("case", ["linear, sketched", "convolution, sketched", "rms norm"])
def test_in_single_precision_the_error_is_rounding(case: str) -> None:
    make, given = CASES[case]
    module, x = make(), given().float()
    ledger = sketched(module, x, dimension=40, side=4, vocabulary=16, width=4)
    assert ledger.sketches().dtype == torch.float32
    assert far(ledger.sketches(), expected(ledger, gradients(module, x))) < 1e-5


def _distances(parts: Any, x: Tensor) -> Tensor:
    return torch.cdist(parts.layer(x), parts.layer.weight)


def _both_forms(parts: Any, x: Tensor) -> Tensor:
    return F.linear(x, parts.weight) * parts.weight


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], str]] = {
    "a function without a rule": (
        lambda: Together(_distances, layer=nn.Linear(4, 4)),
        lambda: normal(EXAMPLES, 2, 4),
        "layer.weight is used in `cdist`",
    ),
    "a vector in a product": (
        lambda: Together(lambda parts, x: x @ parts.weight, weight=parameter(4)),
        lambda: normal(EXAMPLES, 2, 4),
        "1 axes of numbers",
    ),
    "a parameter that is changed": (
        lambda: Together(lambda parts, x: x * parts.weight.mul_(2.0), weight=parameter(4)),
        lambda: normal(EXAMPLES, 2, 4),
        "changed in place",
    ),
    "numbers multiplied before a product": (
        lambda: Together(lambda parts, x: F.linear(x, 2 * parts.weight), weight=parameter(4, 4)),
        lambda: normal(EXAMPLES, 2, 4),
        "after numbers changed its scale",
    ),
    "products and sums of one": (
        lambda: Together(_both_forms, weight=parameter(4, 4)),
        lambda: normal(EXAMPLES, 4, 4),
        "weight is used in products and outside",
    ),
    "a norm over the batch": (
        lambda: nn.BatchNorm1d(4),
        lambda: normal(EXAMPLES, 4),
        "mixes examples",
    ),
    "examples along another axis": (
        lambda: nn.Linear(4, 4),
        lambda: normal(5, EXAMPLES, 4).requires_grad_(),
        "read from the first axis",
    ),
    "a bounded embedding": (
        lambda: nn.Embedding(9, 4, max_norm=1.0),
        ids,
        "more than a table",
    ),
    "padding that differs at both ends": (
        lambda: nn.Conv2d(1, 2, 2, padding="same"),
        lambda: normal(EXAMPLES, 1, 3, 3),
        "padding is as wide at both ends",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_rule_knows_is_refused_by_name_and_the_parameters_are_put_back(case: str) -> None:
    make, given, said = REFUSED[case]
    module = make().double()
    held = list(module.parameters())
    with pytest.raises(ModelError, match="exact features") as seen:
        sketched(module, given(), dimension=8)
    assert said in str(seen.value)
    assert all(a is b for a, b in zip(module.parameters(), held, strict=True))


def test_frozen_parameters_beside_tracked_ones_stay_as_they_are() -> None:
    module = nn.Sequential(nn.Linear(12, 9), nn.LayerNorm(9), nn.Linear(9, 4)).double()
    module[0].requires_grad_(False)
    module[1].bias.requires_grad_(False)
    named = {name: each for name, each in module.named_parameters() if each.requires_grad}
    ledger = Ledger(named, Sketching(dimension=40, side=2))
    ledger.begin(EXAMPLES)
    x = normal(EXAMPLES, 5, 12)
    with tracking(held(module, ledger, USES)):
        loss(module(x)).sum().backward()
    own = [
        torch.autograd.grad(one, list(named.values()), retain_graph=True)
        for one in loss(module(x)).unbind()
    ]
    each = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in own])
    assert far(ledger.sketches(), expected(ledger, each)) < 1e-7
