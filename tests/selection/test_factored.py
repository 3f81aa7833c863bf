"""One backward pass for a batch, against each example's own gradient: whole models."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertForSequenceClassification

from preceptor.batches import Batch
from preceptor.errors import DataError, ModelError
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.models.zoo import create
from preceptor.ops import projection
from preceptor.ops.allocations import Allocations
from preceptor.ops.sketching import signs_sketch
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.extraction import probed, text_features
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.features import Features
from preceptor.selection.grace import Grace
from preceptor.selection.ledger import Sketching
from tests.models.architectures import ARCHITECTURES, configuration
from tests.selection.batches import token_batch
from tests.selection.explicit import expected, far
from tests.selection.synthetic_teachers import student, teachers

SMALL = Sketching(dimension=64, side=4, vocabulary=16, width=4)


def shaken(model: TappedModel) -> TappedModel:
    """In float64, no parameter and no statistic at the value it was set to."""
    model = model.eval().double()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn_like(each))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(0.3 * torch.rand_like(buffer))
    return model


def language(name: str, **more: Any) -> TappedModel:
    return load_model({"causal": configuration(name), **more})


def check(model: TappedModel, batch: Batch, sketching: Sketching = SMALL, soft: Any = None) -> None:
    """Sketches, losses, lengths and ranks are those of the exact gradients."""
    factored = FactoredSketcher(model, sketching, soft=soft)
    exact = ExactSketcher(model, soft=soft)
    rows = factored(batch)
    gradients, truth = exact.gradients(batch)
    assert far(rows.sketches, expected(factored.ledger, gradients)) < 1e-7
    assert torch.allclose(rows.losses.double(), truth.losses.double(), atol=1e-6)
    assert torch.equal(rows.lengths, truth.lengths)
    assert torch.equal(rows.rank_sums.double(), truth.rank_sums.double())
    assert factored.parameters == exact.parameters == gradients.shape[1]
    assert all(each.grad is None for each in model.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_language_models_sketches_are_those_of_its_exact_gradients(name: str) -> None:
    check(shaken(language(name)), token_batch())


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("llama", {"rank": 4}),
        ("gpt2", {"rank": 4}),
        ("qwen2", {"rank": 4, "targets": ["q_proj", "v_proj"], "whole": ["lm_head"]}),
    ],
)
def test_of_a_student_with_adapters_the_adapters_gradients_count(
    name: str, lora: dict[str, Any]
) -> None:
    model = shaken(language(name, lora=lora))
    check(model, token_batch())
    whole = sum(each.numel() for each in model.parameters())
    assert FactoredSketcher(model).parameters < whole / 2


def test_rows_of_the_head_that_no_token_has_have_no_gradient() -> None:
    check(shaken(language("llama", vocabulary=50)), token_batch(classes=50))


@pytest.mark.parametrize("name", ["cnn-small", "resnet8", "mobilenetv2", "shufflenetv1", "vit"])
def test_an_image_classifiers_sketches_are_of_the_cross_entropy_with_soft_labels(
    name: str,
) -> None:
    made = create(name, 10, 3, 16)
    model = shaken(TappedModel(made, head="head", mean=(0.5,) * 3, std=(0.2,) * 3))
    pixels = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    soft = torch.rand(2, 10, dtype=torch.float64).softmax(dim=1)
    batch = Batch(pixels, labels=torch.tensor([1, 2]), ids=torch.arange(2))
    check(
        model,
        batch,
        Sketching(dimension=64, side=16),
        soft=lambda batch: soft[batch.ids],
    )


def test_an_encoder_with_a_classifier_is_sketched_like_any_other() -> None:
    config = BertConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=3,  # pyright: ignore[reportCallIssue]
    )
    torch.manual_seed(0)
    model = shaken(TappedModel(BertForSequenceClassification(config), head="classifier"))
    check(model, Batch(token_batch().inputs, labels=torch.tensor([0, 1, 2])))


def test_a_row_is_the_same_alone_in_a_batch_and_behind_padding() -> None:
    sketcher = FactoredSketcher(shaken(language("llama")), SMALL)
    batch = token_batch()
    together = sketcher(batch).sketches
    alone = torch.cat([sketcher(batch.rows(i, i + 1)).sketches for i in range(len(batch))])
    assert far(alone, together) < 1e-12
    assert far(sketcher(token_batch(wide=5)).sketches, together) < 1e-12
    assert far(sketcher(token_batch(pad=7)).sketches, together) < 1e-12


@pytest.fixture
def threads() -> Iterator[None]:
    held = torch.get_num_threads()
    yield
    torch.set_num_threads(held)


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_rounding_alone() -> None:
    torch.manual_seed(0)
    model = language("llama").eval()
    found: list[Tensor] = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(FactoredSketcher(model, SMALL)(token_batch()).sketches)
    assert far(found[0], found[1]) < 1e-5


def test_a_seed_is_a_projection_and_the_same_one_every_time() -> None:
    model, batch = shaken(language("llama")), token_batch()
    first, again = (FactoredSketcher(model, SMALL)(batch).sketches for _ in range(2))
    other = FactoredSketcher(model, Sketching(dimension=64, side=4, vocabulary=16, width=4, seed=1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other(batch).sketches)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_products_in_bfloat16_leave_sketches_in_float32_close_to_the_exact_ones(name: str) -> None:
    model = shaken(language(name)).float()
    batch = token_batch()
    exact = FactoredSketcher(model, SMALL)(batch).sketches
    near = FactoredSketcher(model, SMALL, bfloat16=True)(batch).sketches
    assert near.dtype == torch.float32
    assert ((near - exact).norm(dim=1) < 0.03 * exact.norm(dim=1)).all()
    # Rounded weights move the gradients themselves by up to 0.029 of their size, Gemma's most.
    lowered = FactoredSketcher(model.bfloat16(), SMALL)(batch).sketches
    assert lowered.dtype == torch.float32
    assert ((lowered - exact).norm(dim=1) < 0.05 * exact.norm(dim=1)).all()


class Shapes(TorchDispatchMode):
    """The shapes of all that is made in the block."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        view = "view" in str(func) or any(each.alias_info for each in func._schema.returns)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not view:
                self.seen.add(tuple(leaf.shape))
        return result


def wide_student() -> TappedModel:
    """A Llama whose every matrix is longer than what it is sketched to."""
    torch.manual_seed(0)
    shape = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 3, "num_key_value_heads": 3, "tie_word_embeddings": True}
    return load_model({"causal": {**configuration("llama"), "vocab_size": 500, **shape, **heads}})


def test_no_weights_gradient_is_formed_and_no_logits_of_all_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "BUDGET", 64 * 500)
    model = wide_student().eval()
    sketcher = FactoredSketcher(model, Sketching(dimension=64, side=8, vocabulary=64, width=8))
    batch = token_batch((24,) * 16, classes=500)
    sketcher(batch)  # Draws the signs.
    matrices = {tuple(each.shape) for each in model.parameters() if each.dim() == 2}
    forbidden = {frozenset(shape) for shape in matrices}
    with Shapes() as shapes:
        sketcher(batch)
    assert len(shapes.seen) > 20
    for shape in shapes.seen:
        assert not (len(shape) in (2, 3) and frozenset(shape[-2:]) in forbidden), shape
    scored = int(batch.mask("all").sum())
    assert (scored, 500) not in shapes.seen
    assert (64, 500) in shapes.seen
    assert (16, 24, 500) not in shapes.seen


def test_a_pass_holds_less_than_a_plain_forward_and_backward() -> None:
    model = wide_student().eval()
    sketcher = FactoredSketcher(model, Sketching(dimension=64, side=8, vocabulary=64, width=8))
    batch = token_batch((24,) * 16, classes=500)
    sketcher(batch)
    with Allocations() as ours:
        sketcher(batch)
    with Allocations() as plain:
        logits = model.module(**batch.inputs, use_cache=False).logits  # pyright: ignore[reportCallIssue]
        mask = batch.mask("all")
        torch.nn.functional.cross_entropy(logits[mask], batch.labels[mask]).backward()
    assert ours.peak < plain.peak


def test_what_is_not_scored_is_refused_and_so_is_a_student_that_does_not_learn() -> None:
    batch = token_batch((10, 3))
    with pytest.raises(DataError, match="no token that is scored"):
        FactoredSketcher(language("llama"), SMALL)(batch)


def test_an_adapted_head_is_refused_in_words() -> None:
    model = language("llama", lora={"rank": 2, "targets": ["lm_head"]})
    with pytest.raises(ModelError, match="head carries an adapter"):
        FactoredSketcher(model, SMALL)


def test_rows_that_were_given_out_stay_as_they_are() -> None:
    sketcher, batch = FactoredSketcher(shaken(language("llama")), SMALL), token_batch()
    first = sketcher(batch).sketches
    held = first.clone()
    again = sketcher(batch).sketches
    assert torch.equal(first, held)
    assert torch.equal(again, held)
    sketcher(batch.rows(1, len(batch)))
    assert torch.equal(first, held)
    assert torch.equal(again, held)


class Mixing(torch.nn.Module):
    """A classifier that looks at its neighbour, as a norm over the batch does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(dim=0))


def test_a_student_that_mixes_examples_is_refused_at_its_first_batch() -> None:
    batch = Batch(torch.rand(3, 6), labels=torch.tensor([0, 1, 2]))
    with pytest.raises(ModelError, match="mixes examples"):
        FactoredSketcher(TappedModel(Mixing()), SMALL)(batch)


def normed(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.double(), dim=1)


def test_normalised_inner_products_are_within_eight_hundredths_of_the_exact_ones() -> None:
    texts, _ = teachers()["temperature 0.8"]
    batch = texts.batch(range(40))
    gradients, _ = ExactSketcher(student()).gradients(batch)
    truth = normed(gradients) @ normed(gradients).T
    off = ~torch.eye(40, dtype=torch.bool)
    for sketching in (Sketching(), Sketching(side=16, vocabulary=64)):
        found = normed(FactoredSketcher(student(), sketching)(batch).sketches)
        error = (found @ found.T - truth)[off].pow(2).mean().sqrt()
        assert error < 0.08, sketching
    # Of which the last map to 512 numbers makes most: 1 / sqrt(512) is 0.044.
    dense = normed(signs_sketch(gradients, 512, 0))
    assert (dense @ dense.T - truth)[off].pow(2).mean().sqrt() > 0.03


def test_twelve_teachers_stand_in_the_order_of_exact_gradients() -> None:
    """GRACE, its logarithm averaged over two projections of each kind."""
    score, exact, factored = Grace(folds=8), {}, {}
    seeds = range(2)
    sketchers = [FactoredSketcher(student(), Sketching(dimension=24, seed=s)) for s in seeds]
    probe = probed(student(), sketchers[0], "prompts")
    for name, (texts, prompts) in teachers().items():
        each = [text_features(s, texts, prompts, probe, tokens=4096) for s in sketchers]
        factored[name] = np.mean([np.log(score.value(features)) for features in each])
        gradients, _ = ExactSketcher(student()).gradients(texts.batch(range(len(texts))))
        sketches = [signs_sketch(gradients, 24, seed).numpy() for seed in seeds]
        columns = {key: value for key, value in vars(each[0]).items() if key != "sketches"}
        exact[name] = np.mean([np.log(score.value(Features(s, **columns))) for s in sketches])
    assert len(exact) >= 10
    order: Any = spearmanr(list(exact.values()), list(factored.values()))
    assert order.statistic >= 0.95, (exact, factored)
