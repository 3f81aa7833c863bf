"""Two processes and one, on the same global batches, end with the same losses and weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train import ranks
from tests.warm import together


def launched(case: str, world: int, out: Path) -> tuple[list[dict[str, float]], dict]:
    """The losses and weights of a case on so many processes."""
    together(world, ranks.main, case, out, log=out / "log")
    return json.loads((out / "losses.json").read_text()), load_file(out / "student.safetensors")


@pytest.mark.parametrize("case", ["positions", "batches", "cohort", "hints"])
def test_two_processes_give_the_numbers_of_one(tmp_path: Path, case: str):
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
    losses_one, one = launched(case, 1, tmp_path / "1")
    losses_two, two = launched(case, 2, tmp_path / "2")
    assert len(losses_one) == len(losses_two)
    for a, b in zip(losses_one, losses_two, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
