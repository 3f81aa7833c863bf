"""Two processes, whole or spread, write the rows and take the steps of one."""

import json
from typing import Any

import pytest

from tests.synthesis import loop_ranks
from tests.warm import together


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each way of running came to."""
    answers: dict[str, Any] = {}
    for way in ("alone", "replicated", "sharded"):
        out = tmp_path_factory.mktemp(way)
        processes = 1 if way == "alone" else 2
        together(processes, loop_ranks.main, out, way == "sharded", log=out / "log")
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
