"""Models whose gradients no rule takes apart: what uses them is run one example at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.ledger import Sketching
from tests.selection.batches import token_batch
from tests.selection.explicit import far
from tests.selection.test_factored import SMALL, check, normed, shaken

_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDTH: dict[str, Any] = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, **_IDS}
_HEADS = {"num_attention_heads": 2, "intermediate_size": 24}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2, **_HEADS}
_IMAGES = {"image_size": 32, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4]}

LANGUAGE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "mixtral": (_EXPERTS, ()),
    "gpt_oss": ({**_EXPERTS, "head_dim": 8, "num_hidden_layers": 1}, ()),
    "granitemoe": (_EXPERTS, ()),
    "llama4_text": ({**_EXPERTS, "head_dim": 8, "interleave_moe_layer_step": 1}, ()),
    "mamba": ({"state_size": 4, "time_step_rank": 4}, ()),
    "rwkv": ({"attention_hidden_size": 16, "context_length": 32}, ()),
    "xlnet": ({"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}, ()),
}


def language(name: str, *, experts: str = "eager") -> TappedModel:
    torch.manual_seed(0)
    model = load_model({"causal": {"model_type": name, **_WIDTH, **LANGUAGE[name][0]}})
    config: Any = model.module.config
    config._experts_implementation = experts
    return model


@pytest.mark.parametrize("name", LANGUAGE)
def test_experts_state_spaces_and_tokens_first_are_sketched_as_their_exact_gradients(
    name: str,
) -> None:
    model = shaken(language(name))
    # XLNet has its tokens along the first axis: nine of them would pass for three examples'.
    check(model, token_batch((9, 7, 9)))
    sketcher = FactoredSketcher(model, SMALL)
    sketcher(token_batch((9, 7, 9)))
    assert sketcher.apart == LANGUAGE[name][1]


def test_positions_that_are_given_to_layers_are_sketched_as_their_exact_gradients() -> None:
    torch.manual_seed(0)
    told = {**_WIDTH, **_HEADS, "relative_attention": True, "norm_rel_ebd": "layer_norm"}
    config = AutoConfig.for_model("deberta-v2", num_labels=3, **told)
    model = shaken(TappedModel(AutoModelForSequenceClassification.from_config(config)))
    batch = Batch(token_batch().inputs, labels=torch.tensor([0, 1, 2]))
    check(model, batch)
    sketcher = FactoredSketcher(model, SMALL)
    sketcher(batch)
    assert sketcher.apart == ()


def test_windows_with_positions_from_a_network_are_sketched_as_their_exact_gradients() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("swinv2", num_labels=3, window_size=4, **_IMAGES)
    model = shaken(TappedModel(AutoModelForImageClassification.from_config(config)))
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    check(model, Batch({"pixel_values": pixels}, labels=torch.tensor([0, 2])))


def test_one_example_shows_a_parameter_that_is_not_seen() -> None:
    with pytest.raises(ModelError, match="the parameter weight was taken by its sketch"):
        FactoredSketcher(TappedModel(Unseen()).double(), SMALL)(rows().rows(0, 1))


def test_frozen_parameters_do_not_count_and_there_must_be_others() -> None:
    model = shaken(language("mixtral"))
    for name, each in model.named_parameters():
        each.requires_grad_("experts" not in name)
    check(model, token_batch())
    assert FactoredSketcher(model, SMALL).apart == ()
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="all are frozen"):
        FactoredSketcher(model, SMALL)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_experts_by_groups_are_those_one_after_another(name: str) -> None:
    found: list[Tensor] = []
    for experts in ("eager", "grouped_mm"):
        sketcher = FactoredSketcher(language(name, experts=experts).eval(), SMALL)
        found.append(sketcher(token_batch()).sketches)
        assert sketcher.apart == ()
    assert far(found[0], found[1]) < 1e-4


@pytest.mark.parametrize("name", ["mixtral", "mamba"])
def test_a_row_is_the_same_alone_in_any_batch_and_behind_padding(name: str) -> None:
    sketcher = FactoredSketcher(shaken(language(name)), SMALL)
    batch = token_batch((10, 7, 9, 10))
    alone = torch.cat([sketcher(batch.rows(i, i + 1)).sketches for i in range(4)])
    for start, stop in ((0, 4), (0, 2), (2, 4), (1, 4)):  # The last but one has no padding.
        assert far(sketcher(batch.rows(start, stop)).sketches, alone[start:stop]) < 1e-11
    wide = token_batch((10, 7, 9, 10), wide=5)
    assert far(sketcher(wide).sketches, alone) < 1e-11


def test_a_mixture_in_bfloat16_is_taken_though_tokens_may_change_experts() -> None:
    model, batch = language("mixtral", experts="grouped_mm").eval(), token_batch()
    exact = FactoredSketcher(model, SMALL)(batch).sketches
    near = FactoredSketcher(model, SMALL, bfloat16=True)(batch).sketches
    assert near.dtype == torch.float32
    assert ((near - exact).norm(dim=1) < 0.1 * exact.norm(dim=1)).all()


def test_inner_products_of_a_mixture_are_within_eight_hundredths_of_the_exact_ones() -> None:
    model, batch = language("mixtral").eval(), token_batch(tuple(range(8, 32)))
    gradients, _ = ExactSketcher(model).gradients(batch)
    truth = normed(gradients) @ normed(gradients).T
    found = normed(FactoredSketcher(model, Sketching(side=16))(batch).sketches)
    off = ~torch.eye(len(truth), dtype=torch.bool)
    assert (found @ found.T - truth)[off].square().mean().sqrt() < 0.08


class Routed(nn.Module):
    """Two experts, and how many of the batch's rows one takes."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(2, 6, 3))
        self.capacity = capacity

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)
        answers = rows.new_zeros(len(rows), 3)
        for number in range(2):
            chosen = (rows[:, 0] > 0.5).long().eq(number).nonzero().squeeze(1)[: self.capacity]
            answers = answers.index_add(0, chosen, rows[chosen] @ self.experts[number])
        return answers.view(len(x), -1, 3).mean(dim=1)


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, ctx.saved_tensors[0].T @ outer[0]


class Unseen(nn.Module):
    """A parameter that meets nothing but somebody's own backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.weight = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        found = Hidden.apply(self.layer(x.mean(dim=1)), self.weight)
        assert isinstance(found, Tensor)
        return found


def rows() -> Batch:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(3, 4, 6, dtype=torch.float64, generator=draw)
    return Batch(pixels, labels=torch.tensor([0, 1, 2]))


class Batched(nn.Module):
    """Parameters that are the first factor of products in batches, and both of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(4, 3, 6))
        self.left, self.right = (nn.Parameter(torch.randn(4, 3, 3)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        both = torch.bmm(self.left, self.right)
        found = torch.bmm(self.first, x.transpose(0, 1).mT)
        return torch.bmm(both, found).sum(dim=0).T


def test_products_of_parameters_in_batches_are_sketched_as_their_exact_gradients() -> None:
    check(TappedModel(Batched()).double(), rows())


def test_a_mixture_that_drops_none_is_taken() -> None:
    check(TappedModel(Routed(12)).double(), rows())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Routed(3), "mixes examples"),
        (
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(24, 3), nn.BatchNorm1d(3, track_running_stats=False)
            ),
            "2.weight is used in a norm over the batch",
        ),
        (Unseen, "the parameter weight was taken by its sketch and by autograd"),
    ],
    ids=["experts that are full", "a norm over the batch", "a parameter that is not seen"],
)
def test_what_cannot_be_right_is_refused(make: Callable[[], nn.Module], said: str) -> None:
    model = TappedModel(make()).double()
    with pytest.raises(ModelError, match="exact features") as seen:
        FactoredSketcher(model, SMALL)(rows())
    assert said in str(seen.value)
    assert all(each.grad is None for each in model.parameters())
