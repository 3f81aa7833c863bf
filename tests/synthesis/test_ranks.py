"""Two processes, whole or spread, write the rows and take the steps of one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("loop_ranks.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each way of running came to."""
    answers: dict[str, Any] = {}
    for way in ("alone", "replicated", "sharded"):
        out = tmp_path_factory.mktemp(way)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment |= {"ACCELERATE_USE_CPU": "true"}
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        before = launcher if way != "alone" else []
        done = subprocess.run(
            [sys.executable, *before, str(SCRIPT), str(out), way],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answers[way] = json.loads((out / "found.json").read_text())
    return answers


@pytest.mark.parametrize("way", ["replicated", "sharded"])
@pytest.mark.parametrize("case", ["rollouts", "adaptive", "policy"])
def test_two_processes_write_and_learn_as_one(found: dict[str, Any], case: str, way: str) -> None:
    alone, two = found["alone"][case], found[way][case]
    for one, other in zip(alone["losses"], two["losses"], strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("way", ["replicated", "sharded"])
def test_the_replay_buffer_is_that_of_one_process(found: dict[str, Any], way: str) -> None:
    assert found[way]["adaptive"]["held"] == found["alone"]["adaptive"]["held"]
