"""Where a server is, and how it is asked."""

import os
from dataclasses import dataclass
from typing import final
from urllib.parse import urlsplit

from preceptor.errors import RecipeError
from preceptor.fields import Count, Index, NonNegative, Positive, check_ranges


@final
@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Args:
        url: its root, with the version: "http://localhost:8000/v1".
        model: the name that the server knows the model by.
        key_variable: the environment variable that holds the key; empty where none is needed.
            The key itself is never written anywhere.
        concurrency: calls in flight at once.
        timeout: seconds until an answer must be there in full, at each try.
        retries: how often a call is asked again.
        first_wait: seconds before the first repetition, at most; doubled before each further one.
        deadline: seconds from the client's making after which no call is started or repeated; 0
            for none.
    """

    url: str
    model: str
    key_variable: str = ""
    concurrency: Count = 8
    timeout: Positive = 600.0
    retries: Index = 6
    first_wait: Positive = 0.5
    deadline: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)
        parts = urlsplit(self.url)
        if parts.username or parts.password:
            raise RecipeError(
                f"the address of the server {parts.hostname} holds a name or a password",
                "addresses are written into recipes and reports",
                "Put the secret into an environment variable and name that in `key_variable`.",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise RecipeError(
                f"the server's address is {parts._replace(query='').geturl()!r}",
                "it has the form http://HOST:PORT/v1, without a query",
                "Write the address that the server printed at its start, followed by /v1.",
            )

    def address(self, path: str) -> str:
        """The URL of a path after `url`; or, where it begins with a slash, from the host's root.

        >>> Endpoint("http://localhost:8000/v1/", "m").address("completions")
        'http://localhost:8000/v1/completions'
        >>> Endpoint("http://localhost:8000/v1", "m").address("/generate")
        'http://localhost:8000/generate'
        """
        if path.startswith("/"):
            return urlsplit(self.url)._replace(path=path).geturl()
        return f"{self.url.rstrip('/')}/{path}"

    def key(self) -> str:
        """The secret, read from the environment now; empty where none is needed."""
        if not self.key_variable:
            return ""
        held = os.environ.get(self.key_variable, "").strip()
        if not held:
            raise RecipeError(
                f"key_variable: {self.key_variable}",
                "no environment variable of that name is set",
                f"Set it (export {self.key_variable}=...) before the run, or name another.",
            )
        return held
