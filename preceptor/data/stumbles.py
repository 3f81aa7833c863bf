"""Tries that failed and may succeed later, and how long to wait before the next one."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import final

from preceptor.data.endpoint import Endpoint
from preceptor.errors import ServerFailure

LONGEST_WAIT = 600.0
"""Seconds; a server that asks for more by Retry-After is not waited for."""


@final
@dataclass(frozen=True)
class Stumble:
    """A try that failed.

    Args:
        said: how, as the end of "it gave ...".
        asked: seconds that the server wants to be left alone; none where it did not say.
        unreached: nothing accepted the connection.
    """

    said: str
    asked: float | None = None
    unreached: bool = False

    def given_up(self, endpoint: Endpoint, tries: int) -> ServerFailure:
        """The sentence, after the last try."""
        if self.unreached:
            return ServerFailure(
                f"the server at {endpoint.url} cannot be reached ({self.said})",
                "nothing accepts a connection there",
                "Start the server, or check host and port; then start the same command again.",
                concerns_all=True,
            )
        return ServerFailure(
            f"{endpoint.url} was asked {tries} times and gave {self.said}",
            "no answer could be had",
            "Look at the server's log; lower `concurrency`, or raise `timeout` or `retries`.",
        )


@final
@dataclass
class Pause:
    """When calls may go out. All calls of a client wait where a server asks one of them to.

    Waits double and are drawn at random from their upper half, from a generator of their own, so
    that clients do not return together and a run's draws stay what they are.
    """

    endpoint: Endpoint
    started: float = field(default_factory=time.monotonic)
    until: float = 0.0
    draws: random.Random = field(default_factory=random.Random)

    async def ready(self) -> None:
        """Returns once a call may go out.

        Raises:
            ServerFailure: the deadline has passed, or will before then.
        """
        while True:
            seconds = self.until - time.monotonic()
            deadline = self.endpoint.deadline
            if deadline and time.monotonic() + max(0.0, seconds) >= self.started + deadline:
                raise ServerFailure(
                    f"{self.endpoint.url} was asked for {deadline:g} s",
                    "that is the deadline that was set",
                    "Start the same command again to go on from here, or raise `deadline`.",
                    concerns_all=True,
                )
            if seconds <= 0:
                return
            await asyncio.sleep(seconds)

    async def after(self, stumble: Stumble, tried: int) -> None:
        """Waits as long as the server asked for, or as `tried` failures before this one say."""
        asked = stumble.asked
        if asked is None:
            longest = min(LONGEST_WAIT, self.endpoint.first_wait * 2**tried)
            await asyncio.sleep(longest * self.draws.uniform(0.5, 1.0))
            return
        if asked > LONGEST_WAIT:
            raise ServerFailure(
                f"{self.endpoint.url} asks to be left alone for {asked:.0f} s",
                f"more than {LONGEST_WAIT:.0f} s are not waited for",
                "Start the same command again by then; what was answered is kept.",
                concerns_all=True,
            )
        self.until = max(self.until, time.monotonic() + asked)


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: it holds a number of them, or a date.

    >>> retry_after("2.5"), retry_after(None), retry_after("soon")
    (2.5, None, None)
    """
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
