"""What seems wrong in float32 is looked at again in float64, and nothing else is let pass."""

import pytest
import torch
from torch import Tensor, nn

from preceptor.batches import Batch
from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.selection import proving
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.ledger import Sketching
from preceptor.selection.passes import Passes
from tests.selection.explicit import expected, far


class Chaotic(nn.Module):
    """A classifier behind a map that doubles what rounding leaves, 16 times."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 5)
        self.leak = leak

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        for _ in range(16):
            x = 4 * x * (1 - x)
        return self.last(x + self.leak * x.mean(dim=0))


def sketcher(leak: float = 0.0) -> FactoredSketcher:
    torch.manual_seed(1)
    return FactoredSketcher(TappedModel(Chaotic(leak)), Sketching(dimension=64, side=16))


def batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    return Batch(torch.rand(6, 64, generator=draw), labels=labels, ids=torch.arange(6))


def test_what_rounding_alone_moves_is_not_taken_for_another_examples() -> None:
    factored, given = sketcher(), batch()
    rows = factored(given)
    assert factored.apart == ()
    gradients, _ = ExactSketcher(factored._run.model).gradients(given)
    # What the map leaves of float32: a part in a hundred or so.
    assert far(rows.sketches, expected(factored.ledger, gradients)) < 0.2


def test_a_doubt_in_float32_is_settled_by_the_same_examples_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds: list[torch.dtype] = []
    compare = proving._compare

    def doubting(run: Passes, *rest: object) -> None:
        kinds.append(run.dtype)
        compare(run, *rest)  # pyright: ignore[reportArgumentType]
        if run.dtype == torch.float32:
            raise ModelError("rounding", "is looked for", "Look again.")

    monkeypatch.setattr(proving, "_compare", doubting)
    assert sketcher()(batch()).sketches.isfinite().all()
    assert kinds == [torch.float32, torch.float64]


def test_a_student_that_mixes_examples_is_refused_in_float64_too() -> None:
    with pytest.raises(ModelError, match="mixes examples"):
        sketcher(leak=1e-2)(batch())


def test_weights_of_bfloat16_are_settled_in_float64_too() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU())
    model = TappedModel(nn.Sequential(wide, nn.Linear(96, 5)).bfloat16())
    given = batch()
    assert isinstance(given.inputs, Tensor)
    given = Batch(given.inputs.bfloat16(), labels=given.labels, ids=given.ids)
    factored = FactoredSketcher(model, Sketching(dimension=64))
    assert factored(given).sketches.isfinite().all()
    assert factored.apart == ()
