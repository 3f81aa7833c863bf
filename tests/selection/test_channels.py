"""Images whose channels lie last in memory: each example's gradient is the same, and faster."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.models.tapped import TappedModel
from preceptor.selection import filters, geometry
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.ledger import Sketching
from preceptor.selection.places import channels_last
from tests.selection.explicit import expected, far

BODIES: dict[str, Callable[[], list[nn.Module]]] = {
    "dense": lambda: [nn.Conv2d(8, 12, 3, padding=1)],
    "strided, of each place": lambda: [nn.Conv2d(8, 12, 1, stride=2)],
    "of groups": lambda: [nn.Conv2d(8, 16, 3, groups=2, padding=1)],
    "of each channel": lambda: [nn.Conv2d(8, 8, 3, groups=8, padding=1)],
    "wider than its image": lambda: [nn.AvgPool2d(6), nn.Conv2d(8, 8, 5, groups=8, padding=2)],
    "of more filters than places": lambda: [nn.AvgPool2d(6), nn.Conv2d(8, 60, 3, padding=1)],
    "of tiles": lambda: [nn.AvgPool2d(3), nn.Conv2d(8, 40, 2, stride=2)],
    "of narrow groups": lambda: [nn.Conv2d(8, 8, 3, groups=4)],
    "with a batch norm": lambda: [nn.Conv2d(8, 12, 3, bias=False), nn.BatchNorm2d(12)],
    "a batch norm": lambda: [nn.ReLU(), nn.BatchNorm2d(8)],
    "a group norm": lambda: [nn.GroupNorm(4, 8)],
    "a norm of few places": lambda: [nn.AvgPool2d(6), nn.GroupNorm(1, 8)],
}


class Body(nn.Module):
    """A stem, a body, and a head; `between` stands before the last convolution."""

    def __init__(self, parts: list[nn.Module], between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*parts)
        self.last, self.head = nn.LazyConv2d(6, 1), nn.Linear(6, 5)
        self.between = between
        self.layouts: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.body(self.stem(x).sigmoid()))
        self.layouts.append(channels_last(x))
        return self.head(self.last(x).sigmoid().mean((2, 3)))


def _as_it_is(x: Tensor) -> Tensor:
    return x


def student(case: str, between: Callable[[Tensor], Tensor] = _as_it_is) -> TappedModel:
    torch.manual_seed(0)
    module = Body(BODIES[case](), between).eval()
    module(torch.rand(2, 3, 12, 12))
    with torch.no_grad():
        for each in [*module.parameters(), *module.buffers()]:
            if each.is_floating_point():
                each.add_(0.3 * torch.rand_like(each))
    return TappedModel(module, head="head")


def batch(**laid: Any) -> Batch:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(5, 3, 12, 12, generator=draw).contiguous(**laid)
    return Batch(pixels, labels=torch.tensor([1, 2, 0, 4, 3]), ids=torch.arange(5))


def lie_last(model: TappedModel, given: Batch) -> bool:
    """Whether channels do, in a pass whose sketches are those of the exact gradients."""
    factored = FactoredSketcher(model, Sketching(dimension=64, side=4))
    factored(given)
    rows = factored(given)
    assert not factored.apart
    body = model.module
    assert isinstance(body, Body)
    found = body.layouts[-1]
    gradients, _ = ExactSketcher(model).gradients(given)
    # Torch takes a group norm's variances from sums of squares where channels lie last.
    assert far(rows.sketches, expected(factored.ledger, gradients)) < 3e-5
    return found


@pytest.mark.parametrize("case", sorted(BODIES.keys() - {"of narrow groups"}))
@pytest.mark.parametrize("given", ["as they come", "laid so"])
def test_channels_lie_last_from_the_first_convolution_on(case: str, given: str) -> None:
    laid = {"memory_format": torch.channels_last} if given == "laid so" else {}
    assert lie_last(student(case), batch(**laid))


def test_the_gradient_of_an_image_that_is_read_tile_by_tile_is_autograds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = torch.rand(2, 6, 8, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.rand(30, 6, 4, 2)
    found = nn.functional.conv2d(image, weight, stride=(4, 2))
    slope = torch.rand_like(found)
    (expected,) = torch.autograd.grad(found, image, slope)
    monkeypatch.setattr(geometry, "_BACKWARD", None)  # It is not asked.
    laid = geometry.Geometry((4, 2), (0, 0), (1, 1))
    back = laid.back(slope, image.detach(), weight, to_input=True)
    assert torch.allclose(back, expected)
    assert channels_last(back)


def test_large_images_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_LARGE", 8)
    for case in ("dense", "of groups", "of each channel"):
        assert lie_last(student(case), batch())


def test_filters_of_groups_whose_gradients_are_made_are_run_as_they_lie() -> None:
    assert not lie_last(student("of narrow groups"), batch())


def test_a_student_that_turns_them_back_is_run_as_it_lies() -> None:
    assert not lie_last(student("dense", Tensor.contiguous), batch())


def test_a_student_whose_views_need_another_layout_is_run_as_it_lies() -> None:
    viewed = student("dense", lambda x: x.view(len(x), -1).view(x.shape))
    assert not lie_last(viewed, batch())
