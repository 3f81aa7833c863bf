"""A client of OpenAI-compatible servers: many calls at once, repeated where a server stumbles.

What a server cannot do now (429, 500, 502, 503, 504, a timeout, a cut connection, half a body) is
asked again. What it will not do (400, 401, 403, 404) is a sentence at once.
"""

import asyncio
import json
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, final

from preceptor.data.endpoint import Endpoint
from preceptor.data.stumbles import Pause, Stumble, retry_after
from preceptor.data.usage import Usage
from preceptor.errors import PreceptorError, ServerFailure, ServerRefusal

Answer = dict[str, Any]
"""What a server answered, as JSON."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_SHOWN = 300  # Characters of a server's own words in a message.
_CONNECTING = 30.0  # Seconds; where nobody listens there is no use in waiting for `timeout`.


@final
class Client:
    """Asks one server, from a thread of its own, until `close`, the end of a `with` block, or until
    nobody holds it any more."""

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx

        self.endpoint, self.usage = endpoint, Usage()
        self._secret = endpoint.key()
        # Redirects are not followed: the key would go where nobody sent it.
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._secret}"} if self._secret else {},
            timeout=httpx.Timeout(None, connect=min(_CONNECTING, endpoint.timeout)),
            limits=httpx.Limits(max_connections=endpoint.concurrency),
        )
        self._pause = Pause(endpoint)
        self._reached = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="preceptor-client", daemon=True
        )
        self._thread.start()
        self._end = weakref.finalize(self, _ended, self._loop, self._thread, self._http)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the calls in flight, and lets go of thread and connections."""
        self._end()

    def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """One call.

        Args:
            path: after the endpoint's address: "chat/completions", "completions"; or, beginning
                with a slash, from the server's root: "/generate".
            payload: what is asked, as JSON; paths after the address get `model` added.

        Raises:
            ServerRefusal: the server will not do it.
            ServerFailure: it could not be reached or read, however often it was asked.
        """
        (answer,) = self.all(path, [payload])
        return answer

    def each(
        self, path: str, payloads: Iterable[Mapping[str, Any]]
    ) -> Iterator[tuple[int, Answer | PreceptorError]]:
        """Answers as they come, each with its payload's number; an error is given, not raised.

        Payloads are read as they are needed, `concurrency` at a time.
        """
        coming = enumerate(payloads)
        flying: dict[Future[Answer], int] = {}
        try:
            while True:
                while len(flying) < self.endpoint.concurrency:
                    number, payload = next(coming, (-1, None))
                    if payload is None:
                        break
                    asking = self._asked(path, payload)
                    flying[asyncio.run_coroutine_threadsafe(asking, self._loop)] = number
                if not flying:
                    return
                for done in wait(flying, return_when=FIRST_COMPLETED).done:
                    number, error = flying.pop(done), done.exception()
                    if error is not None and not isinstance(error, PreceptorError):
                        raise error
                    yield number, done.result() if error is None else error
        finally:
            for future in flying:
                future.cancel()

    def all(self, path: str, payloads: Iterable[Mapping[str, Any]]) -> list[Answer]:
        """All answers, in the payloads' order; raises the first error that comes."""
        found: dict[int, Answer] = {}
        for number, answer in self.each(path, payloads):
            if isinstance(answer, PreceptorError):
                raise answer
            found[number] = answer
        return [found[number] for number in range(len(found))]

    async def _asked(self, path: str, payload: Mapping[str, Any]) -> Answer:
        named = {} if path.startswith("/") else {"model": self.endpoint.model}
        what = {**named, **payload}
        tried = 0
        while True:
            await self._pause.ready()
            found = await self._tried(self.endpoint.address(path), what)
            if not isinstance(found, Stumble):
                self.usage.add(found)
                return found
            self.usage.stumbles += 1
            # Whoever was there may be starting anew; whoever never was is not waited for.
            gone = found.unreached and not self._reached
            if tried >= (min(1, self.endpoint.retries) if gone else self.endpoint.retries):
                raise found.given_up(self.endpoint, tried + 1)
            await self._pause.after(found, tried)
            tried += 1

    async def _tried(self, url: str, what: Mapping[str, Any]) -> Answer | Stumble:
        import httpx

        try:
            async with asyncio.timeout(self.endpoint.timeout):
                response = await self._http.post(url, json=what)
        except (TimeoutError, httpx.TimeoutException) as error:
            unreached = isinstance(error, httpx.ConnectTimeout)
            return Stumble(f"no answer within {self.endpoint.timeout:g} s", unreached=unreached)
        except httpx.TransportError as error:
            said = self._clean(str(error) or type(error).__name__)
            return Stumble(said, unreached=isinstance(error, httpx.ConnectError))
        except httpx.DecodingError as error:
            return Stumble(f"a body that cannot be unpacked ({error})")
        self._reached = True
        return self._read(url, response)

    def _read(self, url: str, response: Any) -> Answer | Stumble:
        """A response's JSON; a stumble where it may fare better the next time."""
        status, text = response.status_code, response.text
        if status in _PASSING:
            asked = retry_after(response.headers.get("retry-after"))
            return Stumble(f"status {status}: {self._clean(text)}", asked=asked)
        if status != 200:
            raise self._refusal(url, status, response)
        try:
            found = json.loads(response.content)
        except ValueError:
            found = None
            if not text.lstrip().startswith("<"):
                return Stumble(f"what is not JSON: {self._clean(text)}")
        if isinstance(found, dict):
            return found
        raise ServerFailure(
            f"{url} answered {self._clean(text)[:80]!r}",
            "that is no JSON object, so what listens there is not an OpenAI-compatible server",
            "Check host, port and path of `url`; most servers want it to end in /v1.",
            concerns_all=True,
        )

    def _refusal(self, url: str, status: int, response: Any) -> ServerRefusal:
        said, model = self._clean(response.text), self.endpoint.model
        variable = self.endpoint.key_variable
        why = f"the server says: {said}" if said else "the server does not say why"
        do = "Change the request as it says."
        # Some servers call an unknown model, which they then quote, a bad request.
        quoted = any(f"{mark}{model}{mark}" in said for mark in "'\"`")
        one = status in (400, 413, 422) and not quoted
        if 300 <= status < 400:
            why = f"it points to {self._clean(response.headers.get('location', 'nowhere'))}"
            do = "Give that address as `url`, if you trust it."
        elif status in (401, 403):
            key = f"Set {variable} to another key" if variable else "Name a key by `key_variable`"
            do = f"{key}, or use a model that it is good for."
        elif not one:
            listed = self.endpoint.address("models")
            do = f"Check that `model` ({model}) is listed by GET {listed}, and the path of `url`."
        return ServerRefusal(f"{url} refused with status {status}", why, do, concerns_all=not one)

    def _clean(self, text: str) -> str:
        """A server's words, shortened; some repeat the key."""
        text = text.replace(self._secret, "***") if self._secret else text
        return " ".join(text.split())[:_SHOWN]


def _ended(loop: asyncio.AbstractEventLoop, thread: threading.Thread, http: Any) -> None:
    """Gives up what is in flight. A client that nobody holds any more may end in any thread."""
    if threading.current_thread() is thread:  # It cannot wait for itself.
        threading.Thread(target=_ended, args=(loop, thread, http), daemon=True).start()
        return
    asyncio.run_coroutine_threadsafe(_shut(http), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _shut(http: Any) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await http.aclose()
