"""DistiLLM's schedule: how far students write, what is replayed, and that a resume is exact."""

import json

import pytest

from preceptor.synthesis.adaptive import AdaptiveRollouts
from tests.synthesis.small import Scripted, local, source
from tests.synthesis.test_rollouts import same


def test_phi_rises_by_a_tenth_where_validation_rises_above_its_last_mark_and_stops_at_one() -> None:
    stream = AdaptiveRollouts(source(), Scripted([5]), steps=10)
    stream.observe(2.0)
    assert stream.phi == 0
    stream.observe(2.05)
    assert stream.phi == 0
    stream.observe(2.11)
    assert stream.phi == pytest.approx(0.1)
    stream.observe(2.15)  # Not 0.1 above the new mark.
    stream.observe(1.0)  # A fall moves no mark.
    stream.observe(2.2)
    assert stream.phi == pytest.approx(0.1)
    for loss in range(3, 20):
        stream.observe(float(loss))
    assert stream.phi == 1.0


def test_at_phi_0_everything_is_data() -> None:
    stream = AdaptiveRollouts(source(), Scripted([5]), steps=10)
    assert {stream.take().origin for _ in range(10)} == {"data"}


def test_writing_gives_way_to_replay_as_training_goes_on() -> None:
    writer = Scripted([5])
    stream = AdaptiveRollouts(source(), writer, steps=200, capacity=1000)
    stream.phi = 0.5
    origins, calls = [], []
    for _ in range(200):
        origins.append(stream.take().origin)
        calls.append(len(writer.asked))
    assert origins.count("student") == pytest.approx(100, abs=25)
    assert calls[-1] == pytest.approx(50, abs=18)
    assert calls[-1] - calls[150] < 15


def test_the_oldest_rows_leave_and_replayed_rows_are_kept_ones() -> None:
    stream = AdaptiveRollouts(source(), local(), steps=1000, capacity=6)
    stream.phi = 1.0
    kept = [stream.take() for _ in range(2)][-1]
    held = stream.state()["held"]["kept"]
    assert len(held) == 6
    assert [example for example, _ in held[-4:]] == kept.ids.tolist()
    stream.source.load_state({**stream.source.state(), "step": 1000})  # 1 - t/T is 0: replay.
    replayed = stream.take()
    known = {(example, tuple(response)) for example, response in held}
    for row, example in enumerate(replayed.ids.tolist()):
        said = replayed.labels[row][replayed.mask("all")[row]].tolist()
        assert (example, tuple(said)) in known
    assert len({tuple(row) for row in replayed.labels.tolist()}) == 4


def test_a_resume_replays_and_writes_the_same() -> None:
    def made() -> AdaptiveRollouts:
        return AdaptiveRollouts(source(), local(), steps=16, capacity=10, seed=2)

    def go(stream: AdaptiveRollouts, steps: range) -> list:
        batches = []
        for step in steps:
            if step % 2 == 0:
                stream.observe(float(step))
            stream.phi = min(1.0, stream.phi + 0.1)
            batches.append(stream.take())
        return batches

    whole, begun, resumed = made(), made(), made()
    batches = go(whole, range(16))
    go(begun, range(7))
    resumed.load_state(json.loads(json.dumps(begun.state())))
    again = go(resumed, range(7, 16))
    assert {batch.origin for batch in batches} == {"data", "student"}
    assert all(same(a, b) for a, b in zip(batches[7:], again, strict=True))
    assert whole.state() == resumed.state()
