import numpy as np
import pytest
import torch
from torch import nn

from preceptor.errors import DataError
from preceptor.evaluate.cost import measure, measure_writing, model_cost
from preceptor.evaluate.timing import Timing, Writing, quantile, ratio, throughput, token_seconds


def rng():
    return np.random.default_rng(0)


def test_parameters_bytes_and_operations_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
    cost = model_cost(model, torch.zeros(1, 3, 5, 5))
    assert cost.parameters == 4 * 3 * 9 + 8
    # Running mean and variance, and the count of batches, which is an int64.
    assert cost.bytes == 4 * (cost.parameters + 8) + 8
    assert cost.flops == 2 * (4 * 3 * 3) * (3 * 9)


def test_shared_weights_are_counted_once():
    shared = nn.Linear(4, 4)
    cost = model_cost(nn.Sequential(shared, shared), torch.zeros(1, 4))
    assert (cost.parameters, cost.bytes, cost.flops) == (20, 80, 64)


def test_a_pass_holds_the_weights_the_input_and_what_lives_at_once():
    model = nn.Sequential(nn.Linear(10, 100, bias=False), nn.ReLU(), nn.Linear(100, 1, bias=False))
    cost = model_cost(model, torch.zeros(1, 10))
    # The hidden row before and after the ReLU; by the last layer the first of them is gone.
    weights, hidden = 4 * 1100, 4 * 100
    assert cost.peak == weights + 4 * 10 + 2 * hidden


def test_a_folders_files_are_counted_without_its_card(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 300)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "config.json").write_bytes(b"x" * 20)
    (tmp_path / "README.md").write_bytes(b"x" * 5000)
    assert model_cost(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path).disk == 320
    assert model_cost(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "none").disk == 0


def test_tokens_are_counted_without_padding():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    inputs = {"input_ids": torch.zeros(2, 3), "attention_mask": mask}
    timing = measure({"a": lambda _: None}, inputs, generator=rng(), rounds=2)
    assert (timing.batch, timing.tokens) == (2, 4)


def test_throughput_is_the_batch_over_the_median_second():
    timing = Timing({"a": np.array([0.5, 0.25, 0.25, 0.25, 0.125])}, 8, 1, "cpu")
    found = throughput(timing, "a", 8, rng())
    assert found.estimate == 32
    assert 16 <= found.low <= 32 <= found.high <= 64


def test_models_come_back_in_the_mode_they_came_in():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    model[1].eval()
    measure({"a": model}, torch.zeros(3, 2), generator=rng(), rounds=2)
    assert [part.training for part in model.modules()] == [True, True, False]


def test_every_model_is_called_once_a_round_in_changing_order():
    calls = []
    models = {name: lambda _, name=name: calls.append(name) for name in "abc"}
    threads = torch.get_num_threads()
    timing = measure(models, torch.zeros(2, 1), generator=rng(), rounds=6, warmup=1)
    turns = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert len(turns) == 7
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1
    assert (timing.batch, timing.threads, timing.device) == (2, 1, "cpu")
    assert torch.get_num_threads() == threads
    assert all(len(times) == 6 for times in timing.seconds.values())


def test_a_slow_moment_of_the_machine_does_not_move_the_ratio():
    mood = 1 + 9 * (rng().random(60) < 0.3)
    timing = Timing({"big": 4e-3 * mood, "small": 1e-3 * mood}, batch=1, threads=1, device="cpu")
    assert ratio(timing, "big", "small", rng()) == pytest.approx((4.0, 4.0, 4.0))
    assert quantile(timing, "small", 0.95, rng()).estimate == pytest.approx(1e-2)


def test_who_was_not_timed_gets_a_sentence():
    with pytest.raises(DataError, match="in turns"):
        ratio(Timing({}, 1, 1, "cpu"), "big", "small", rng())


def test_what_is_written_is_timed_from_its_first_token_on() -> None:
    asked: list[int] = []
    writers = {str(name): asked.append for name in ("small", "big")}
    found = measure_writing(writers, torch.zeros(1, 7), further=4, generator=rng())
    assert (found.prompt, found.further, found.first.batch) == (7, 4, 1)
    assert set(asked) == {1, 5}
    assert 5 <= len(found.first.seconds["big"]) <= 20
    first, whole = (Timing({"a": np.array(s)}, 1, 1, "cpu") for s in ([1.0, 3.0], [5.0, 2.0]))
    # A machine that paused in the shorter pass wrote no token before it began.
    assert token_seconds(Writing(first, whole, 7, 4)).seconds["a"].tolist() == [1.0, 2.5e-7]
