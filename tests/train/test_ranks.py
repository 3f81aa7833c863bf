"""Two processes and one, on the same global batches, end with the same losses and weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("ranks.py")
ROOT = Path(__file__).parents[2]


def launched(case: str, world: int, out: Path) -> tuple[list[dict[str, float]], dict]:
    """The losses and weights of a case on so many processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, str(SCRIPT), case, str(out)]
    if world > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        command = [sys.executable, *launcher, *command[1:]]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
