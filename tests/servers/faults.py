"""A proxy that breaks what passes through it, in a pattern drawn from a seed."""

import random
import threading
from typing import Any

import httpx

from tests.servers.serving import Reply, Request, Respond

FAULTS = ("limited", "broken", "late", "cut", "garbled", "refused later")


def breaking(upstream: str, *, seed: int, each: int, late: float) -> Respond:
    """Forwards to `upstream`, and spoils so many calls of each kind among the first ones.

    Half of the calls of the pattern pass unharmed; after it all do. "late" answers after `late`
    seconds.
    """
    pattern: list[str] = [fault for fault in FAULTS for _ in range(each)]
    pattern += ["none"] * len(pattern)
    random.Random(seed).shuffle(pattern)
    lock = threading.Lock()

    def respond(request: Request) -> Reply:
        with lock:
            fault = pattern.pop() if pattern else "none"
        before: dict[str, Any] = {
            "limited": Reply(429, b"slow down", {"retry-after": "0.1"}),
            "broken": Reply(500, b"Internal Server Error"),
            "refused later": Reply(503, b"starting"),
        }
        if fault in before:
            return before[fault]
        json = {"content-type": "application/json"}
        where = upstream + request.path
        answer = httpx.post(where, content=request.body, headers=json, timeout=60)
        body = answer.content
        if fault == "late":
            return Reply(answer.status_code, body, after=late)
        if fault == "cut":
            return Reply(answer.status_code, body, cut=len(body) // 2)
        if fault == "garbled":
            return Reply(answer.status_code, body[: len(body) // 2])
        return Reply(answer.status_code, body)

    return respond
