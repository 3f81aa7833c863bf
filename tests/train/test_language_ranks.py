"""A language model on two processes, whole or spread, ends with the numbers of one process.

The third step scores nothing in the second process's rows; token counts differ in all of them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from preceptor.models.load import load_model
from preceptor.train.plan import Plan
from preceptor.train.processes import make_accelerator
from tests.train import language_ranks
from tests.train.language_ranks import CASES, made
from tests.warm import together

WAYS = ("alone", "replicated", "sharded")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each way of running wrote."""
    folders = {way: tmp_path_factory.mktemp(way) for way in WAYS}
    for way, out in folders.items():
        processes = 1 if way == "alone" else 2
        together(processes, language_ranks.main, out, way == "sharded", log=out / "log")
    return folders


def weights(out: Path, prefix: str) -> dict[str, torch.Tensor]:
    found = load_file(out / "weights.safetensors")
    return {n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)}


@pytest.mark.parametrize("way", ["replicated", "sharded"])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_numbers_of_one(ends: dict[str, Path], case: str, way: str) -> None:
    losses = {w: json.loads((ends[w] / "losses.json").read_text())[case] for w in ("alone", way)}
    for one, two in zip(losses["alone"], losses[way], strict=True):
        assert one == pytest.approx(two, rel=1e-5, abs=1e-6)
    alone, other = weights(ends["alone"], f"{case}/"), weights(ends[way], f"{case}/")
    assert alone.keys() == other.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_what_is_to_move_moves_and_a_base_stands_still(
    ends: dict[str, Path], case: str, way: str
) -> None:
    for name, change in weights(ends[way], f"moved/{case}/").items():
        moved = bool(change.abs().max() > 1e-5)
        assert moved == ("lora_" in name or "adapters" not in case), name


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_is_the_same_run_bit_for_bit(ends: dict[str, Path], way: str) -> None:
    differences = weights(ends[way], "resumed/")
    assert differences
    assert not any(difference.any() for difference in differences.values())


@pytest.mark.parametrize("case", CASES)
def test_a_sharded_student_is_saved_whole(ends: dict[str, Path], case: str) -> None:
    folder = case.replace(" ", "-").replace(",", "")
    one, other = (load_model({"folder": str(ends[way] / folder)}) for way in ("alone", "sharded"))
    for (name, tensor), theirs in zip(
        one.module.named_parameters(), other.module.parameters(), strict=True
    ):
        torch.testing.assert_close(theirs, tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_a_checkpoint_of_adapters_leaves_the_base_out(ends: dict[str, Path]) -> None:
    del ends
    plan: dict[str, Any] = {"steps": 1, "batch": 8}
    make_accelerator(Plan(**plan))
    tensors = made("adapters", Plan(**plan)).tensors()
    own = [name for name in tensors if name.startswith("member.0.student.")]
    assert own
    assert all("lora_" in name for name in own)
