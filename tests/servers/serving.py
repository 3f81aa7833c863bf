"""A real HTTP server on a free port, in threads of its own, that answers with a function."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked: the path, the JSON, the headers in lower case."""

    path: str
    payload: dict[str, Any]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What is answered.

    `cut` sends so many bytes of the body and drops the connection; `after` waits so many seconds
    before the first byte; `drip` waits so many before each byte.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    after: float = 0.0
    drip: float = 0.0

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> "Reply":
        return cls(status, json.dumps(value).encode(), headers)


Respond = Callable[[Request], Reply]


@dataclass
class Server:
    """Where it listens, and everything it was asked, in order."""

    port: int
    asked: list[Request] = field(default_factory=list)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"


@contextmanager
def serving(respond: Respond) -> Iterator[Server]:
    """Answers POST requests until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, json.loads(body), headers, body)
            server.asked.append(request)
            try:
                self._send(respond(request))
            except OSError:
                self.close_connection = True  # The client has gone.

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.after)
            self.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            if reply.drip:
                for byte in reply.body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(reply.drip)
                return
            self.wfile.write(reply.body[: reply.cut])
            self.wfile.flush()
            if reply.cut is not None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    class Quiet(ThreadingHTTPServer):
        daemon_threads, block_on_close, request_queue_size = True, False, 64

    http = Quiet(("127.0.0.1", 0), Handler)
    server = Server(http.server_address[1])
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def completion(text: str, finish: str = "stop", prompt: int = 3, written: int = 2) -> Reply:
    """What a chat endpoint answers."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant"}}
    choice["message"]["content"] = text
    return Reply.json(
        {
            "object": "chat.completion",
            "choices": [choice],
            "usage": {"prompt_tokens": prompt, "completion_tokens": written},
        }
    )
