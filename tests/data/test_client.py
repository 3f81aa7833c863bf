"""The client against real servers on this machine."""

import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from preceptor.data.client import Client
from preceptor.data.endpoint import Endpoint
from preceptor.data.usage import Price
from preceptor.errors import PreceptorError, RecipeError, ServerFailure, ServerRefusal
from tests.servers.serving import Reply, Request, Respond, Server, completion, serving

PAYLOAD = {"messages": [{"role": "user", "content": "hello"}]}


def endpoint(server: Server, **changed: Any) -> Endpoint:
    settings: dict[str, Any] = {"timeout": 5.0, "first_wait": 0.01, **changed}
    return Endpoint(server.url, "tiny-model", **settings)


def told(*replies: Reply) -> Respond:
    """Gives these in turn, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def refusal(reply: Reply, **changed: Any) -> PreceptorError:
    """The error that one reply leads to, and that it was asked for once."""
    with serving(told(reply)) as server, Client(endpoint(server, **changed)) as client:
        with pytest.raises(PreceptorError) as caught:
            client.post("chat/completions", PAYLOAD)
        assert len(server.asked) == 1
    assert caught.value.seen
    assert caught.value.why
    assert caught.value.do
    return caught.value


def test_a_call_carries_the_model_and_is_counted() -> None:
    with serving(told(completion("hi"))) as server, Client(endpoint(server)) as client:
        answer = client.post("chat/completions", PAYLOAD)
        assert answer["choices"][0]["message"]["content"] == "hi"
        (asked,) = server.asked
        assert asked.path == "/v1/chat/completions"
        assert asked.payload == {"model": "tiny-model", **PAYLOAD}
        assert "authorization" not in asked.headers
        usage = client.usage
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (1, 3, 2)
    assert usage.cost(Price(prompt=1e6, completion=10e6)) == pytest.approx(23)


def test_an_answer_that_hides_its_cost_is_counted_as_such() -> None:
    with serving(told(Reply.json({"choices": []}))) as server, Client(endpoint(server)) as client:
        client.post("completions", {"prompt": "a"})
        assert client.usage.uncounted == 1


def test_answers_stand_in_the_order_of_their_questions_however_they_come() -> None:
    def slower_first(request: Request) -> Reply:
        number = request.payload["number"]
        return Reply(body=json.dumps({"number": number}).encode(), after=0.05 * (number % 3 == 0))

    with serving(slower_first) as server, Client(endpoint(server, concurrency=4)) as client:
        answers = client.all("completions", ({"number": n} for n in range(12)))
        came = [n for n, _ in client.each("completions", ({"number": n} for n in range(12)))]
    assert [answer["number"] for answer in answers] == list(range(12))
    assert sorted(came) == list(range(12))
    assert came != list(range(12))


def test_never_more_calls_fly_than_were_allowed_and_questions_are_read_as_needed() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def counted(_: Request) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return Reply.json({})

    drawn = 0

    def questions() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for _ in range(1000):
            drawn += 1
            yield {}

    with serving(counted) as server, Client(endpoint(server, concurrency=3)) as client:
        answers = client.each("completions", questions())
        for _ in range(9):
            next(answers)
        answers.close()  # type: ignore[attr-defined]
    assert most == 3
    assert drawn <= 12


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_a_server_cannot_do_now_is_asked_again(status: int) -> None:
    stumbling = told(Reply(status, b"later"), Reply(status, b"later"), completion("hi"))
    with serving(stumbling) as server, Client(endpoint(server)) as client:
        client.post("chat/completions", PAYLOAD)
        assert len(server.asked) == 3
        assert (client.usage.calls, client.usage.stumbles) == (1, 2)


@pytest.mark.parametrize(
    "broken",
    [
        Reply(body=b'{"choices": []}', cut=7),
        Reply(body=b'{"choices": [', headers={}),
        Reply(body=b'{"choices": []}', after=1.0),
        Reply(body=b'{"choices": []}' + b" " * 100, drip=0.05),
        Reply(body=b"no gzip", headers={"content_encoding": "gzip"}),
    ],
    ids=["cut in its body", "half a body", "too late", "too slowly", "badly packed"],
)
def test_an_answer_that_does_not_arrive_whole_is_asked_for_again(broken: Reply) -> None:
    with (
        serving(told(broken, completion("hi"))) as server,
        Client(endpoint(server, timeout=0.4)) as client,
    ):
        client.post("chat/completions", PAYLOAD)
        assert len(server.asked) == 2


def test_all_calls_wait_as_long_as_the_server_asks_one_of_them_to() -> None:
    limited = told(Reply(429, headers={"retry-after": "0.5"}), completion("hi"))
    with serving(limited) as server, Client(endpoint(server, concurrency=1)) as client:
        began = time.monotonic()
        client.all("chat/completions", [PAYLOAD] * 3)
        assert time.monotonic() - began >= 0.5
        assert len(server.asked) == 4


def test_a_date_to_return_at_is_understood_and_one_too_far_is_refused() -> None:
    error = refusal(Reply(429, headers={"retry-after": formatdate(time.time() + 7200)}))
    assert isinstance(error, ServerFailure)
    assert error.concerns_all
    assert "left alone" in error.seen


def test_a_server_that_never_recovers_is_given_up_in_words() -> None:
    with (
        serving(told(Reply(500, b"boom"))) as server,
        Client(endpoint(server, retries=2)) as client,
    ):
        with pytest.raises(ServerFailure, match=r"asked 3 times and gave status 500: boom"):
            client.post("chat/completions", PAYLOAD)
        assert len(server.asked) == 3


def test_the_deadline_ends_all_repetitions() -> None:
    stumbling = told(Reply(503))
    with (
        serving(stumbling) as server,
        Client(endpoint(server, deadline=0.3, retries=1000)) as client,
        pytest.raises(ServerFailure, match=r"deadline"),
    ):
        client.post("chat/completions", PAYLOAD)


def test_waits_double_and_stay_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from preceptor.data.stumbles import Pause, Stumble

    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    pause = Pause(Endpoint("http://localhost/v1", "m", first_wait=0.5))
    for tried in range(12):
        asyncio.run(pause.after(Stumble("nothing"), tried))
    for tried, seconds in enumerate(waits):
        longest = min(600, 0.5 * 2**tried)
        assert longest / 2 <= seconds <= longest
    assert len({round(w / 2**n, 6) for n, w in enumerate(waits[:10])}) > 5


def test_nobody_who_listens_is_said_at_once() -> None:
    nowhere = Endpoint(f"http://127.0.0.1:{free_port()}/v1", "m", first_wait=0.01)
    with Client(nowhere) as client, pytest.raises(ServerFailure, match="cannot be reached") as no:
        client.post("completions", {"prompt": "a"})
    assert no.value.concerns_all
    assert client.usage.stumbles == 2


def test_a_host_without_an_address_is_said_at_once() -> None:
    nowhere = Endpoint("http://no-such-host.invalid/v1", "m", first_wait=0.01)
    with Client(nowhere) as client, pytest.raises(ServerFailure, match="cannot be reached"):
        client.post("completions", {"prompt": "a"})


def test_a_bad_request_is_told_in_the_servers_words_and_concerns_itself_alone() -> None:
    error = refusal(Reply.json({"message": "maximum context length is 8"}, 400))
    assert isinstance(error, ServerRefusal)
    assert not error.concerns_all
    assert "maximum context length is 8" in error.why


@pytest.mark.parametrize("status", [400, 404])
def test_an_unknown_model_concerns_every_call(status: int) -> None:
    error = refusal(Reply.json({"message": "The model `tiny-model` does not exist."}, status))
    assert isinstance(error, ServerRefusal)
    assert error.concerns_all
    assert "Check that `model` (tiny-model)" in error.do


def test_a_redirect_is_not_followed() -> None:
    error = refusal(Reply(307, headers={"location": "http://elsewhere/v1"}))
    assert isinstance(error, ServerRefusal)
    assert "http://elsewhere/v1" in error.why


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"[1, 2]"])
def test_another_kind_of_server_is_recognised(body: bytes) -> None:
    error = refusal(Reply(200, body))
    assert isinstance(error, ServerFailure)
    assert error.concerns_all
    assert "not an OpenAI-compatible server" in error.why


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    caplog.set_level(0)
    refusing = Reply.json({"error": "Incorrect API key provided: sk-very-secret"}, 401)
    with serving(told(completion("hi"), refusing)) as server:
        where = endpoint(server, key_variable="TEACHER_KEY")
        with Client(where) as client:
            client.post("chat/completions", PAYLOAD)
            assert server.asked[0].headers["authorization"] == "Bearer sk-very-secret"
            with pytest.raises(ServerRefusal, match="TEACHER_KEY") as caught:
                client.post("chat/completions", PAYLOAD)
            shown = [str(caught.value), repr(client), repr(where), repr(vars(where)), caplog.text]
    assert caught.value.concerns_all
    assert not any("very-secret" in text for text in shown)


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(RecipeError, match="export TEACHER_KEY"):
        Client(Endpoint("http://localhost/v1", "m", key_variable="TEACHER_KEY"))


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://h/v1?key=abc", ""])
def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Endpoint(url, "m")
    assert "abc" not in str(caught.value)


def test_a_secret_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(RecipeError, match="key_variable") as caught:
        Endpoint("http://me:hidden@host/v1", "m")
    assert "hidden" not in str(caught.value)


def test_a_client_that_nobody_holds_lets_go_of_its_thread_and_connections() -> None:
    with serving(told(completion("a"))) as server:
        client = Client(endpoint(server))
        client.post("chat/completions", {})
        thread = client._thread
        del client
        gc.collect()
        thread.join(timeout=20)
    assert not thread.is_alive()


def test_closing_gives_up_what_flies() -> None:
    with serving(told(Reply(body=b"{}", after=30))) as server:
        client = Client(endpoint(server, timeout=60))
        caught: list[BaseException] = []

        def ask() -> None:
            try:
                client.post("completions", {})
            except BaseException as error:
                caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        while not server.asked:
            time.sleep(0.01)
        client.close()
        asking.join(timeout=5)
        assert not asking.is_alive()
        assert caught
        client.close()  # Once more does nothing.
