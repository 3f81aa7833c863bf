"""A server's text as data: against servers that are told what to say, and one that is killed."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from preceptor.data.client import Client
from preceptor.data.endpoint import Endpoint
from preceptor.data.reading import read_rows
from preceptor.data.rows import Row
from preceptor.errors import (
    DataError,
    RecipeError,
    ServerFailure,
    ServerRefusal,
    StorageError,
)
from preceptor.models.sampling import Sampling
from preceptor.synthesis.served_text import PATIENCE, Voice, collect, sampled_by
from preceptor.synthesis.writers import Served
from tests.servers.serving import Reply, Request, Server, completion, serving

VOICE = Voice(Sampling(max_new=8))


def rows(count: int = 6) -> list[Row]:
    return [Row(n, f"prompts.jsonl:{n + 1}", prompt=f"question {n}") for n in range(count)]


def client(server: Server, **changed: Any) -> Client:
    given: dict[str, Any] = {"timeout": 10.0, "first_wait": 0.01, "retries": 1, **changed}
    return Client(Endpoint(server.url, "tiny", **given))


def said(request: Request) -> str:
    return request.payload["messages"][-1]["content"]


def echo(request: Request) -> Reply:
    return completion(f"answer to {said(request)}")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_prompt_is_asked_once_and_its_answer_is_a_row_of_data(tmp_path: Path) -> None:
    with serving(echo) as server, client(server) as asking:
        first = collect(asking, rows(), tmp_path, VOICE)
        again = collect(asking, rows(), tmp_path, VOICE)
        assert Counter(map(said, server.asked)) == {f"question {n}": 1 for n in range(6)}
        assert asking.usage.calls == 6
    assert (first.new, first.known, first.counts["kept"]) == (6, 0, 6)
    assert (again.new, again.known, again.counts["kept"]) == (0, 6, 6)
    found = read_rows(str(tmp_path / "data.jsonl"))
    assert [row.prompt for row in found] == [f"question {n}" for n in range(6)]
    assert [row.completion for row in found] == [f"answer to question {n}" for n in range(6)]


def test_what_is_posted_says_sampling_and_a_seed_of_the_rows_own(tmp_path: Path) -> None:
    voice = Voice(Sampling(max_new=8, temperature=0.7, top_p=0.9), system="Be brief.", seed=3)
    with serving(echo) as server, client(server) as asking:
        collect(asking, rows(2), tmp_path / "a", voice)
        collect(asking, rows(2)[::-1], tmp_path / "b", voice)
    first = {said(r): r.payload for r in server.asked[:2]}
    assert {said(r): r.payload for r in server.asked[2:]} == first
    one, two = first["question 0"], first["question 1"]
    assert one["seed"] != two["seed"]
    assert one | {"seed": 0} == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "question 0"},
        ],
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 0,
    }


def test_several_samples_have_seeds_of_their_own_and_equal_ones_are_kept_once(
    tmp_path: Path,
) -> None:
    def drawn(request: Request) -> Reply:
        word = "same" if said(request) == "question 0" else str(request.payload["seed"])
        return completion(word)

    with serving(drawn) as server, client(server) as asking:
        found = collect(asking, rows(2), tmp_path, VOICE, samples=3)
        assert len({r.payload["seed"] for r in server.asked}) == 6
    assert found.new == 6
    assert (found.counts["kept"], found.counts["repeated"]) == (4, 2)


def test_several_samples_without_temperature_are_refused(tmp_path: Path) -> None:
    with (
        serving(echo) as server,
        client(server) as asking,
        pytest.raises(RecipeError, match="temperature 0"),
    ):
        collect(asking, rows(), tmp_path, Voice(Sampling(temperature=0)), samples=2)


def test_cut_answers_are_marked_and_left_out_unless_they_are_wanted(tmp_path: Path) -> None:
    def some_cut(request: Request) -> Reply:
        return completion("so long", finish="length" if said(request)[-1] in "02" else "stop")

    with serving(some_cut) as server, client(server) as asking:
        found = collect(asking, rows(4), tmp_path, VOICE)
        whole = collect(asking, rows(4), tmp_path, VOICE, filters={})
        assert len(server.asked) == 4
    assert (found.counts["kept"], found.counts["cut"]) == (2, 2)
    assert whole.counts["kept"] == 4
    kept = lines(tmp_path / "answers-0.jsonl")[1:]
    assert sorted(each["ended"] for each in kept) == [False, False, True, True]


def test_a_row_that_is_refused_is_named_and_asked_again_alone(tmp_path: Path) -> None:
    def strict(request: Request) -> Reply:
        too_long = said(request) == "question 2" and mended == 0
        return Reply.json({"message": "too long"}, 400) if too_long else echo(request)

    mended = 0
    with serving(strict) as server, client(server) as asking:
        first = collect(asking, rows(), tmp_path, VOICE)
        mended, before = 1, len(server.asked)
        second = collect(asking, rows(), tmp_path, VOICE)
        assert [said(r) for r in server.asked[before:]] == ["question 2"]
    assert list(first.failed) == ["prompts.jsonl:3"]
    assert "too long" in first.failed["prompts.jsonl:3"]
    assert (first.counts["kept"], first.counts["unanswered"]) == (5, 1)
    assert (second.counts["kept"], second.failed) == (6, {})


def test_an_answer_without_text_is_a_failure_of_its_row(tmp_path: Path) -> None:
    def silent(request: Request) -> Reply:
        quiet = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
        return Reply.json(quiet) if said(request) == "question 1" else echo(request)

    with serving(silent) as server, client(server) as asking:
        found = collect(asking, rows(), tmp_path, VOICE)
    assert "no text" in found.failed["prompts.jsonl:2"]
    assert found.counts["kept"] == 5


def test_what_concerns_all_rows_ends_it_and_loses_nothing(tmp_path: Path) -> None:
    lock, calls = threading.Lock(), 0

    def revoked(request: Request) -> Reply:
        nonlocal calls
        with lock:
            calls += 1
            valid = calls <= 3
        return echo(request) if valid else Reply(401, b"no more credit")

    with serving(revoked) as server, client(server, concurrency=2) as asking:
        with pytest.raises(ServerRefusal, match="no more credit"):
            collect(asking, rows(20), tmp_path, VOICE)
        assert len(server.asked) <= 6
    assert len(lines(tmp_path / "answers-0.jsonl")) == 1 + 3
    assert not (tmp_path / "data.jsonl").exists()


def test_a_server_that_fails_every_row_is_not_asked_for_all(tmp_path: Path) -> None:
    with serving(lambda _: Reply(500)) as server, client(server, retries=0) as asking:
        with pytest.raises(ServerFailure, match="status 500"):
            collect(asking, rows(100), tmp_path, VOICE)
        assert PATIENCE <= len(server.asked) <= PATIENCE + asking.endpoint.concurrency


def test_other_settings_do_not_go_into_the_same_file(tmp_path: Path) -> None:
    with serving(echo) as server, client(server) as asking:
        collect(asking, rows(1), tmp_path, VOICE)
        with pytest.raises(StorageError, match="another file"):
            collect(asking, rows(1), tmp_path, Voice(Sampling(max_new=9)))


def test_the_teachers_own_prompt_is_what_is_asked_and_ours_is_what_is_learned(
    tmp_path: Path,
) -> None:
    private = Row(0, "a:1", prompt="short", teacher_prompt="short, with hints")
    turns = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})
    talk = Row(1, "a:2", messages=(*turns, {"role": "assistant", "content": "old"}))
    with serving(echo) as server, client(server, concurrency=1) as asking:
        collect(asking, [private, talk], tmp_path, VOICE)
    first, second = (r.payload["messages"] for r in server.asked)
    assert first == [{"role": "user", "content": "short, with hints"}]
    assert second == list(turns)
    one, two = lines(tmp_path / "data.jsonl")
    assert (one["prompt"], one["completion"]) == ("short", "answer to short, with hints")
    assert [m["content"] for m in two["messages"]] == ["s", "u", "answer to u"]


def test_plain_text_is_continued_and_conversations_are_refused_there(tmp_path: Path) -> None:
    plain = Voice(Sampling(max_new=8), api="text")
    reply = Reply.json({"choices": [{"text": " on", "finish_reason": "stop"}]})
    with serving(lambda _: reply) as server, client(server) as asking:
        collect(asking, rows(1), tmp_path, plain)
        assert server.asked[0].path == "/v1/completions"
        assert server.asked[0].payload["prompt"] == "question 0"
        talk = Row(0, "talk.jsonl:1", messages=({"role": "user", "content": "u"},))
        with pytest.raises(DataError, match=r"talk.jsonl:1 is a conversation"):
            collect(asking, [talk], tmp_path / "talk", plain)


def test_a_server_of_the_students_weights_gives_the_ids_it_sampled() -> None:
    def ids(request: Request) -> Reply:
        told = {"text": "x", "finish_reason": "length", "token_ids": [request.payload["prompt"][0]]}
        return Reply.json({"choices": [told]})

    with serving(ids) as server, client(server) as asking:
        writer = Served(sampled_by(asking, Sampling(max_new=1)), ends={9}, vocabulary=10)
        found = writer([[3, 4], [5]], [2**40, 7])
        assert all(r.payload["return_token_ids"] for r in server.asked)
    assert [each.tolist() for each in found.ids] == [[3], [5]]
    assert not found.ended.any()


COLLECTING = """
import sys
from pathlib import Path
from preceptor.data.client import Client
from preceptor.data.endpoint import Endpoint
from preceptor.data.rows import Row
from preceptor.models.sampling import Sampling
from preceptor.synthesis.served_text import Voice, collect

rows = [Row(n, f"prompts.jsonl:{n + 1}", prompt=f"question {n}") for n in range(6)]
with Client(Endpoint(sys.argv[1], "tiny", concurrency=2)) as client:
    collect(client, rows, Path(sys.argv[2]), Voice(Sampling(max_new=8)))
"""


def test_a_killed_collection_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    lock, calls, held = threading.Lock(), 0, threading.Event()
    answered: Counter[str] = Counter()

    def holding(request: Request) -> Reply:
        nonlocal calls
        with lock:
            calls += 1
            holds = calls > 3 and not held.is_set()
        if holds:
            held.wait(60)
            return Reply(500)  # Nobody hears it.
        answered[said(request)] += 1
        return echo(request)

    file = tmp_path / "answers-0.jsonl"
    with serving(holding) as server:
        command = [sys.executable, "-c", COLLECTING, server.url, str(tmp_path)]
        with subprocess.Popen(command) as killed:
            waiting_until = time.monotonic() + 60
            while not file.exists() or len(lines(file)) < 4 or len(server.asked) < 5:
                assert time.monotonic() < waiting_until
                time.sleep(0.02)
            killed.send_signal(signal.SIGKILL)
        with file.open("a") as cut_short:
            cut_short.write('{"key": "0123')
        held.set()
        with client(server) as asking:
            found = collect(asking, rows(), tmp_path, VOICE)
    assert answered == {f"question {n}": 1 for n in range(6)}
    assert (found.known, found.new, found.counts["kept"]) == (3, 3, 6)
    assert len({each["key"] for each in lines(file)[1:]}) == len(lines(file)) - 1 == 6
