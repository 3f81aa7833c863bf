"""Torch's own attention, and what is built of it, for all examples of a batch at once."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from tests.selection.explicit import expected, far
from tests.selection.test_factored import SMALL, shaken

WIDE, HEADS, GIVEN, CLASSES = 12, 3, 5, 4
SIZES = ((5, 6), (3, 4), (1, 5), (4, 4))
"""Examples and positions, batch by batch; as many of one as of the other too."""

Call = Callable[[Any, Tensor], Tensor]


class Student(nn.Module):
    """A layer, what `call` does with its parts, and a classifier of the mean."""

    def __init__(self, call: Call, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.call, self.first, self.head = call, nn.Linear(GIVEN, WIDE), nn.Linear(WIDE, CLASSES)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.call(self, self.first(x)).mean(dim=1))


def attends(*, batch_first: bool = True, **told: Any) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(WIDE, HEADS, batch_first=batch_first, **told)


def encoder(layers: int = 2, **told: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDE, HEADS, 16, dropout=0.1, **told)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def padding(x: Tensor) -> Tensor:
    """Another one for each example, never of the first two positions."""
    found = (37 * x.detach()[..., 0]).sin() > 0.3
    return found & (torch.arange(x.shape[1]) > 1)


def later(x: Tensor) -> Tensor:
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)


def _alone(parts: Any, x: Tensor) -> Tensor:
    return x + parts.attention(x, x, x, need_weights=False)[0]


def _turned(parts: Any, x: Tensor) -> Tensor:
    """Positions first; what is given is viewed as torch's own lies."""
    x = x.transpose(0, 1).contiguous()
    found, _ = parts.attention(x, x, x)
    return (x + found.view(-1, WIDE).view_as(x)).transpose(0, 1)


def _read(parts: Any, x: Tensor) -> Tensor:
    """Weights of each head and their mean."""
    one, weights = parts.attention(x, x, x, average_attn_weights=False)
    other, mean = parts.attention(one, x, x, key_padding_mask=padding(x))
    seen = weights.square().sum(dim=(1, 3)) + mean.amax(dim=2)
    return x + other + seen.unsqueeze(2)


def _in_order(parts: Any, x: Tensor) -> Tensor:
    mask = later(x)
    one, _ = parts.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)
    return one + parts.attention(one, x, x, attn_mask=mask, is_causal=True)[0]


def _masked(parts: Any, x: Tensor) -> Tensor:
    """Scores of each head, and positions that are not there."""
    places = torch.arange(x.shape[1], dtype=x.dtype)
    far_off = -(places.unsqueeze(1) - places).abs() / (1 + torch.arange(HEADS)).view(HEADS, 1, 1)
    scores = far_off.repeat(len(x), 1, 1)
    absent = torch.zeros_like(x[..., 0]).masked_fill(padding(x), float("-inf"))
    return x + parts.attention(x, x, x, key_padding_mask=absent, attn_mask=scores)[0]


def _learned(parts: Any, x: Tensor) -> Tensor:
    """Scores that are a parameter, that several made, and of each example."""
    count = x.shape[1]
    own = parts.scores[:count, :count]
    one, _ = parts.attention(x, x, x, attn_mask=own, need_weights=False)
    made = (parts.scores @ parts.scores.exp())[:count, :count]
    other, _ = parts.attention(x, one, one, attn_mask=made)
    of_each = x[..., :HEADS].transpose(1, 2).unsqueeze(2).expand(-1, -1, count, -1)
    return other + parts.attention(x, x, x, attn_mask=of_each.flatten(0, 1))[0]


def _different(parts: Any, x: Tensor) -> Tensor:
    """As detectors have it: positions for queries and keys; then three tensors, then two."""
    placed = x + parts.positions[:, : x.shape[1]]
    x = x + parts.attention(placed, placed, x, need_weights=False)[0]
    x = x + parts.attention(x.sin(), x.cos(), x)[0]
    return x + parts.attention(x, x.sin(), x)[0]


def _pooled(parts: Any, x: Tensor) -> Tensor:
    """As SigLIP's head and a Perceiver have it: queries that all share."""
    one, _ = parts.attention(parts.probe.repeat(len(x), 1, 1), x, x)
    return one + parts.attention(parts.probe.expand(len(x), -1, -1), x, x, need_weights=False)[0]


def _cross(parts: Any, x: Tensor) -> Tensor:
    return parts.attention(x[:, :2], parts.keys(x), parts.values(x), need_weights=False)[0]


def _encoded(parts: Any, x: Tensor) -> Tensor:
    return parts.encoder(x, src_key_padding_mask=padding(x))


def _encoded_turned(parts: Any, x: Tensor) -> Tensor:
    found = parts.encoder(x.transpose(0, 1), src_key_padding_mask=padding(x))
    return parts.encoder(found).transpose(0, 1)


def _decoded(parts: Any, x: Tensor) -> Tensor:
    return parts.decoder(x, x, tgt_mask=later(x), tgt_is_causal=True)


def _windows(parts: Any, x: Tensor) -> Tensor:
    """Several sequences of each example."""
    pairs = x[:, : x.shape[1] // 2 * 2].reshape(-1, 2, WIDE)
    return parts.attention(pairs, pairs, pairs)[0].reshape(len(x), -1, WIDE)


def _tied(parts: Any, x: Tensor) -> Tensor:
    x = x + parts.attention(x, x, x)[0]
    return x + parts.other(x, x, x, need_weights=False)[0]


def _called(parts: Any, x: Tensor, weight: Any = None, **more: Any) -> Tensor:
    """The function itself, given examples' tensors with positions first."""
    own, turned = parts.attention, x.transpose(0, 1)
    weight = own.in_proj_weight if weight is None else weight
    last, told = (own.out_proj.weight, own.out_proj.bias), (None, None, False, 0.0)
    found, _ = F.multi_head_attention_forward(
        turned, turned, turned, WIDE, HEADS, weight, own.in_proj_bias, *told, *last, **more
    )
    return x + found.transpose(0, 1)


def _with_truth_values(parts: Any, x: Tensor) -> Tensor:
    """Masks that nobody made numbers of before."""
    mask = later(x).expand(len(x) * HEADS, -1, -1)
    return _called(parts, x, key_padding_mask=padding(x), attn_mask=mask)


FIRST = partial(encoder, batch_first=True)
DECODER = partial(nn.TransformerDecoderLayer, WIDE, HEADS, 16, batch_first=True)
ONE = {"attention": attends}
OTHERS = {
    "attention": partial(attends, kdim=7, vdim=8),
    "keys": partial(nn.Linear, WIDE, 7),
    "values": partial(nn.Linear, WIDE, 8),
}
MORE = {"attention": partial(attends, add_bias_kv=True, add_zero_attn=True)}
STUDENTS: dict[str, tuple[Call, Mapping[str, Callable[..., Any]]]] = {
    "attention": (_alone, ONE),
    "attention without biases": (_alone, {"attention": partial(attends, bias=False)}),
    "positions first": (_turned, {"attention": partial(attends, batch_first=False)}),
    "weights that are read": (_read, ONE),
    "attention in order": (_in_order, ONE),
    "masks of scores and of padding": (_masked, ONE),
    "scores that are learned": (_learned, {**ONE, "scores": partial(parameter, 6, 6)}),
    "three that differ": (_different, {**ONE, "positions": partial(parameter, 1, 9, WIDE)}),
    "queries that all share": (_pooled, {**ONE, "probe": partial(parameter, 1, 2, WIDE)}),
    "other widths": (_cross, OTHERS),
    "keys that are parameters, and zeros": (_read, MORE),
    "windows": (_windows, {"attention": partial(attends, add_bias_kv=True)}),
    "an encoder": (_encoded, {"encoder": FIRST}),
    "an encoder, norms first": (_encoded, {"encoder": partial(FIRST, norm_first=True)}),
    "an encoder, positions first": (_encoded_turned, {"encoder": encoder}),
    "an encoder, both first": (_encoded_turned, {"encoder": partial(encoder, norm_first=True)}),
    "a decoder": (_decoded, {"decoder": DECODER}),
    "the function itself, and truth values": (_with_truth_values, ONE),
}


def student(name: str) -> TappedModel:
    torch.manual_seed(0)
    call, parts = STUDENTS[name]
    return shaken(TappedModel(Student(call, **{key: make() for key, make in parts.items()})))


def batch(examples: int, positions: int) -> Batch:
    draw = torch.Generator().manual_seed(examples + 10 * positions)
    pixels = torch.rand(examples, positions, GIVEN, dtype=torch.float64, generator=draw)
    return Batch(pixels, labels=torch.arange(examples) % CLASSES)


def expect_own(model: TappedModel, batches: list[Batch]) -> FactoredSketcher:
    """Rows of every batch are sketches of the gradients that autograd makes of each example."""
    sketcher, exact = FactoredSketcher(model, SMALL), ExactSketcher(model)
    for each in batches:
        rows = sketcher(each)
        gradients, truth = exact.gradients(each)
        assert far(rows.sketches, expected(sketcher.ledger, gradients)) < 1e-10
        assert torch.allclose(rows.losses.double(), truth.losses.double(), atol=1e-6)
    return sketcher


@pytest.mark.parametrize("name", STUDENTS)
def test_students_of_torchs_own_attention_are_not_run_one_example_at_a_time(name: str) -> None:
    assert expect_own(student(name), [batch(*each) for each in SIZES]).apart == ()


@pytest.mark.parametrize("first", [(1, 6), (6, 6)])
@pytest.mark.parametrize("name", ["an encoder, positions first", "queries that all share"])
def test_a_first_batch_of_one_or_of_as_many_as_positions(name: str, first: tuple[int, int]) -> None:
    assert expect_own(student(name), [batch(*first), batch(4, 5), batch(2, 2)]).apart == ()


@pytest.mark.parametrize("frozen", ["in_proj", "out_proj", "weight"])
def test_parts_that_are_frozen(frozen: str) -> None:
    model = student("attention")
    for name, each in model.named_parameters():
        each.requires_grad_(frozen not in name)
    assert expect_own(model, [batch(5, 6), batch(3, 4)]).apart == ()


def test_attentions_that_share_their_weights() -> None:
    torch.manual_seed(0)
    one, other = attends(), attends()
    other.in_proj_weight, other.out_proj.weight = one.in_proj_weight, one.out_proj.weight
    model = shaken(TappedModel(Student(_tied, attention=one, other=other)))
    assert expect_own(model, [batch(5, 6), batch(3, 4)]).apart == ()


class Reader(nn.Module):
    """As tutorials have it: words and learned positions, an encoder, a mean, a classifier."""

    def __init__(self, *, skips: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.words = nn.Embedding(31, WIDE, padding_idx=0)
        self.positions = parameter(1, 16, WIDE)
        self.encoder = encoder(batch_first=True, activation="gelu")
        self.head = nn.Linear(WIDE, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) * WIDE**0.5 + self.positions[:, : ids.shape[1]]
        is_padding = ids == 0
        x = self.encoder(x, src_key_padding_mask=is_padding)
        kept = (~is_padding if self.skips else torch.ones_like(ids)).unsqueeze(2).to(x)
        return self.head((x * kept).sum(dim=1) / kept.sum(dim=1))


def read(lengths: tuple[int, ...]) -> Batch:
    draw = torch.Generator().manual_seed(len(lengths))
    ids = torch.randint(1, 31, (len(lengths), max(lengths)), generator=draw)
    ids *= torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return Batch({"ids": ids}, labels=torch.arange(len(lengths)) % CLASSES)


def test_a_reader_of_words_with_learned_positions() -> None:
    torch.manual_seed(0)
    model = shaken(TappedModel(Reader()))
    batches = [read(lengths) for lengths in ((7, 4, 6), (9, 9), (3,), (8, 2, 5, 8, 8, 1, 8, 8))]
    assert expect_own(model, batches).apart == ()


def test_a_mean_over_padding_too_is_one_of_what_the_encoder_gives_with_gradients() -> None:
    torch.manual_seed(0)
    model = shaken(TappedModel(Reader(skips=False)))
    assert expect_own(model, [read((7, 4, 6)), read((9, 3))]).apart == ()
    assert torch.backends.mha.get_fastpath_enabled()


def _adapted(parts: Any, x: Tensor) -> Tensor:
    return _called(parts, x, parts.attention.in_proj_weight + parts.up @ parts.down)


def _still(parts: Any, x: Tensor) -> Tensor:
    keys = x.unflatten(2, (HEADS, -1)).transpose(1, 2).flatten(0, 1)
    return _called(parts, x, static_k=keys, static_v=keys)


def _one_by_one(parts: Any, x: Tensor) -> Tensor:
    return torch.stack([parts.attention(each, each, each)[0] for each in x])


@pytest.mark.parametrize("call", [_adapted, _still, _one_by_one])
def test_what_is_not_known_is_run_one_example_at_a_time(call: Call) -> None:
    torch.manual_seed(0)
    adapter = {"up": parameter(3 * WIDE, 2), "down": parameter(2, WIDE)}
    more = adapter if call is _adapted else {}
    model = shaken(TappedModel(Student(call, attention=attends(), **more)))
    assert expect_own(model, [batch(5, 6), batch(3, 4)]).apart == ("",)


def test_attention_between_examples_is_refused_in_words() -> None:
    torch.manual_seed(0)
    model = shaken(TappedModel(Student(_alone, attention=attends(batch_first=False))))
    with pytest.raises(ModelError, match="mixes examples"):
        FactoredSketcher(model, SMALL)(batch(5, 6))


@pytest.mark.parametrize("name", ["attention", "weights that are read", "an encoder"])
def test_in_bfloat16_the_error_is_rounding(name: str) -> None:
    model, given = student(name), batch(5, 6)
    truth = FactoredSketcher(model, SMALL)(given).sketches
    assert isinstance(given.inputs, Tensor)
    single = Batch(given.inputs.float(), labels=given.labels)
    rounded = FactoredSketcher(model.float(), SMALL, bfloat16=True)(single).sketches
    assert rounded.dtype == torch.float32
    assert far(rounded.double(), truth) < 0.05
