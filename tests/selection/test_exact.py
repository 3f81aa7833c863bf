"""Exact gradients: by finite differences, and their projection by a matrix written out."""

import pytest
import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.ops.counter import signs
from preceptor.selection import exact
from preceptor.selection.exact import ExactSketcher
from tests.models.architectures import configuration
from tests.selection.batches import token_batch


def model(name: str = "qwen2", **more: object) -> TappedModel:
    torch.manual_seed(0)
    config = {**configuration(name), **more}
    return load_model({"causal": config}).eval().double()


def test_gradients_are_those_of_the_mean_loss_of_the_responses_tokens() -> None:
    student, batch = model("gpt2"), token_batch()  # Whose norms are float64's throughout.
    gradients, rows = ExactSketcher(student).gradients(batch)
    named = list(student.module.parameters())
    direction = [torch.randn_like(each) for each in named]
    flat = torch.cat([each.flatten() for each in direction])
    step = 1e-6

    def losses() -> torch.Tensor:
        with torch.no_grad():
            return ExactSketcher(student).gradients(batch)[1].losses

    with torch.no_grad():
        for each, way in zip(named, direction, strict=True):
            each.add_(step * way)
        above = losses()
        for each, way in zip(named, direction, strict=True):
            each.sub_(2 * step * way)
        below = losses()
    assert torch.allclose((above - below) / (2 * step), gradients @ flat, rtol=1e-5)
    assert rows.lengths.tolist() == batch.mask("all").sum(dim=1).tolist()


def test_losses_and_ranks_are_read_off_the_models_own_logits() -> None:
    student, batch = model(), token_batch()
    rows = ExactSketcher(student)(batch)
    logits = student.module(**batch.inputs).logits  # pyright: ignore[reportCallIssue]
    for i in range(len(batch)):
        where = batch.mask("all")[i]
        own, labels = logits[i][where], batch.labels[i][where]
        chosen = own.log_softmax(dim=-1).gather(1, labels.unsqueeze(1))
        assert rows.losses[i].item() == pytest.approx(-chosen.mean().item())
        order = own.argsort(dim=-1, descending=True)
        places = (order == labels.unsqueeze(1)).nonzero()[:, 1] + 1
        assert rows.rank_sums[i].item() == places.clamp(max=100).sum().item()


def test_a_tied_embedding_is_counted_once() -> None:
    tied, untied = model(tie_word_embeddings=True), model(tie_word_embeddings=False)
    gap = ExactSketcher(untied).parameters - ExactSketcher(tied).parameters
    assert gap == 61 * 16


def test_the_projection_is_a_matrix_of_signs_over_the_root_of_the_dimension() -> None:
    sketcher = ExactSketcher(model(), dimension=48, seed=3)
    batch = token_batch()
    gradients, _ = sketcher.gradients(batch)
    matrix = signs(gradients.shape[1], 48, 3).double() / 48**0.5
    assert torch.allclose(sketcher(batch).sketches, gradients @ matrix)


@pytest.mark.parametrize("projection", ["signs", "counts"])
def test_few_gradients_at_a_time_give_the_same_rows(
    projection: exact.Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketcher = ExactSketcher(model(), dimension=48, projection=projection)
    batch = token_batch((10, 7, 9, 6, 8))
    whole = sketcher(batch)
    monkeypatch.setattr(exact, "HELD", 2 * sketcher.parameters)
    parts = sketcher(batch)
    assert torch.allclose(whole.sketches, parts.sketches)
    assert torch.equal(whole.lengths, parts.lengths)
    assert torch.allclose(whole.losses, parts.losses)


def test_buckets_keep_inner_products_as_well_as_signs_do() -> None:
    batch = token_batch((10, 7, 9, 6, 8, 12, 11, 10))
    gradients, _ = ExactSketcher(model()).gradients(batch)
    unit = torch.nn.functional.normalize(gradients, dim=1)
    off = ~torch.eye(len(batch), dtype=torch.bool)
    errors: dict[str, float] = {}
    for projection in ("signs", "counts"):
        squares: list[torch.Tensor] = []
        for seed in range(8):
            made = ExactSketcher(model(), dimension=128, seed=seed, projection=projection)
            found = torch.nn.functional.normalize(made(batch).sketches, dim=1)
            squares.append((found @ found.T - unit @ unit.T)[off].square())
        errors[projection] = float(torch.cat(squares).mean().sqrt())
    assert errors["signs"] < 1.2 * 128**-0.5
    assert errors["counts"] < 1.2 * errors["signs"]


def test_a_classifier_is_scored_against_soft_labels_where_they_are_given() -> None:
    torch.manual_seed(0)
    student = TappedModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)))
    pixels, labels = torch.rand(2, 1, 2, 2), torch.tensor([2, 0])
    batch = Batch(pixels, labels=labels, ids=torch.arange(2))
    hard = ExactSketcher(student)(batch)
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    same = ExactSketcher(student, soft=lambda batch: one_hot[batch.ids])(batch)
    assert torch.allclose(hard.sketches, same.sketches)
    soft = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    rows = ExactSketcher(student, soft=lambda batch: soft[batch.ids])(batch)
    logits = student(pixels).logits.detach()
    expected = -(soft * logits.log_softmax(dim=1)).sum(dim=1)
    assert torch.allclose(rows.losses, expected)
    order = logits.argsort(dim=1, descending=True)
    places = (order == soft.argmax(dim=1, keepdim=True)).nonzero()[:, 1] + 1
    assert rows.rank_sums.tolist() == places.tolist()
    assert rows.lengths.tolist() == [1, 1]


class Tokens(nn.Module):
    """Places as tokens, with one more before them."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.new_zeros(len(x), 1, x.shape[1])
        return torch.cat([first, x.flatten(2).mT], dim=1)


def test_one_image_whose_places_are_tokens_has_the_gradient_that_two_of_it_have() -> None:
    # Of torch 2.13's own gradient of a batch norm that does not hold for a batch of one.
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        Tokens(),
        nn.Linear(4, 5),
        nn.Flatten(),
        nn.Linear(25, 3),
    )
    model = TappedModel(module).double()
    pixels = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    found, _ = ExactSketcher(model).gradients(Batch(pixels, labels=torch.tensor([1])))
    logits = model.eval()(pixels.repeat(2, 1, 1, 1)).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 1]))
    truth = torch.autograd.grad(loss, list(module.parameters()))
    assert torch.allclose(found[0], torch.cat([each.flatten() for each in truth]), atol=1e-12)
