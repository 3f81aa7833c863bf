"""Convolutions and the batch norms behind them, taken as one."""

import pytest
import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.ledger import Sketching
from tests.selection.explicit import expected, far


class Small(nn.Module):
    """Convolutions of three kinds with norms, and a classifier; `again` reads one's output anew.

    The first one's filters have gradients that are sketched; the others' are made.
    """

    def __init__(self, again: str = "") -> None:
        super().__init__()
        self.again = again
        self.first, self.first_norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.each, self.each_norm = (
            nn.Conv2d(16, 16, 3, stride=2, groups=16, bias=False),
            nn.BatchNorm2d(16),
        )
        self.last, self.last_norm = nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.first(x))
        if self.again == "written":
            x += 0.5
        x = nn.functional.silu(x, inplace=True) if self.again == "silu" else x.relu_()
        given = self.each(x)
        x = self.each_norm(given).relu()
        if self.again == "beside":
            x = x + given
        x = self.last_norm(self.last(x))
        if self.again == "twice":
            x = x + self.last_norm(self.last(x.repeat(1, 2, 1, 1)))
        return self.head(x.mean((2, 3)))


def small(again: str = "") -> TappedModel:
    torch.manual_seed(0)
    module = Small(again).double().eval()
    with torch.no_grad():
        for name, each in [*module.named_parameters(), *module.named_buffers()]:
            if "tracked" not in name:
                each.add_(0.3 * torch.rand_like(each))
    return TappedModel(module, head="head")


def batch() -> Batch:
    pixels = torch.rand(4, 3, 9, 9, dtype=torch.float64)
    return Batch(pixels, labels=torch.tensor([1, 2, 0, 4]), ids=torch.arange(4))


def sketched(model: TappedModel) -> tuple[FactoredSketcher, float]:
    """How far sketches are from those of the exact gradients."""
    factored = FactoredSketcher(model, Sketching(dimension=64, side=4))
    given = batch()
    rows = factored(given)
    again = factored(given)
    assert torch.equal(rows.sketches, again.sketches)
    gradients, truth = ExactSketcher(model).gradients(given)
    assert torch.allclose(rows.losses.double(), truth.losses.double())
    return factored, far(rows.sketches, expected(factored.ledger, gradients))


def test_a_convolution_and_its_norm_are_one_with_the_gradients_of_both() -> None:
    factored, distance = sketched(small())
    fusions = factored.ledger.fusions
    named = {entry.name: entry for entry in factored.ledger.entries}
    assert distance < 1e-9
    assert fusions.is_on
    # The first one's gradient is sketched, never made, and a rectifier writes to what it gives.
    for name in ("first", "each", "last"):
        still = fusions.behind(named[f"{name}.weight"])
        assert still is not None
        assert still.scale[1] is named[f"{name}_norm.weight"]


def test_filters_of_wide_groups_are_sketched_and_one_with_their_norm() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(16)
    parts = (nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=2, bias=False), norm, nn.ReLU())
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    with torch.no_grad():
        for each in (norm.running_var, norm.running_mean, norm.weight, norm.bias):
            assert each is not None
            each.add_(0.3 * torch.rand_like(each))
    factored, distance = sketched(TappedModel(module.double().eval(), head="6"))
    entry = next(each for each in factored.ledger.entries if each.name == "1.weight")
    assert (entry.rows.k, entry.columns.k) == (16, 4)
    assert factored.ledger.fusions.behind(entry) is not None
    assert distance < 1e-9


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        (nn.Conv2d(12, 10, 1), (10, 4)),
        (nn.Conv2d(12, 10, 1, bias=False), (10, 12)),
        (nn.Conv2d(64, 10, 1, bias=False), (10, 4)),
        (nn.Conv2d(12, 8, 3, groups=4, bias=False), (8, 27)),
        (nn.Conv2d(12, 12, 3, groups=3, bias=False), (12, 4)),
    ],
    ids=["10 x 12", "before a norm", "10 x 64 before a norm", "2 x 27", "4 x 36"],
)
def test_filters_are_made_where_their_norm_is_read_off_them_or_groups_are_few_numbers(
    layer: nn.Conv2d, sizes: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    norm, width = nn.BatchNorm2d(layer.out_channels), layer.out_channels
    parts = (nn.Conv2d(3, layer.in_channels, 1), layer, norm, nn.ReLU())
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    factored, distance = sketched(TappedModel(module.double().eval(), head="6"))
    entry = next(each for each in factored.ledger.entries if each.name == "1.weight")
    assert (entry.rows.k, entry.columns.k) == sizes
    assert distance < 1e-9


@pytest.mark.parametrize("again", ["beside", "twice"])
def test_what_is_read_again_stays_apart_from_its_norm(again: str) -> None:
    factored, distance = sketched(small(again))
    assert distance < 1e-9
    named = {entry.name: entry for entry in factored.ledger.entries}
    read_again = "each" if again == "beside" else "last"
    assert factored.ledger.fusions.behind(named[f"{read_again}.weight"]) is None


@pytest.mark.parametrize("again", ["written", "silu"])
def test_a_norm_whose_numbers_are_written_over_stays_apart_where_they_would_be_read(
    again: str,
) -> None:
    factored, distance = sketched(small(again))
    assert distance < 1e-9
    named = {entry.name: entry for entry in factored.ledger.entries}
    fusions = factored.ledger.fusions
    assert fusions.behind(named["first.weight"]) is None
    assert fusions.is_on
    assert fusions.behind(named["last.weight"]) is not None


def test_a_norm_with_a_scale_of_nearly_nothing_is_not_read_off_what_it_gives() -> None:
    model = small()
    assert isinstance(model.module, Small)
    with torch.no_grad():
        model.module.first_norm.weight[2] = 0.0
    factored, distance = sketched(model)
    assert distance < 1e-9
    assert factored.ledger.fusions.is_on


def test_a_model_whose_norms_change_places_later_is_refused() -> None:
    model = small()
    factored, _ = sketched(model)
    module = model.module
    assert isinstance(module, Small)
    module.each_norm, module.first_norm = module.first_norm, module.each_norm
    with pytest.raises(ModelError, match="another stands behind it than in the first one"):
        factored(batch())
