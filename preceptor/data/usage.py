"""What asking a server has cost: calls, tokens, money."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from preceptor.fields import NonNegative, check_ranges


@final
@dataclass(frozen=True)
class Price:
    """What a million tokens cost, in whatever currency."""

    prompt: NonNegative = 0.0
    completion: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Money for so many tokens.

        >>> Price(prompt=2, completion=10).of(500_000, 100_000)
        2.0
        """
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@final
@dataclass
class Usage:
    """What the answers of a client said that they cost.

    Args:
        calls: answers.
        stumbles: tries that failed and were repeated or given up; servers may charge for them.
        prompt_tokens, completion_tokens: as the server counted them.
        uncounted: answers in which the server did not say.
    """

    calls: int = 0
    stumbles: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0

    def add(self, answer: Mapping[str, Any]) -> None:
        """Counts one answer."""
        prompt, completion = tokens_of(answer)
        self.calls += 1
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.uncounted += not answer.get("usage")

    def cost(self, price: Price) -> float:
        """Money so far, failed tries not counted."""
        return price.of(self.prompt_tokens, self.completion_tokens)


def tokens_of(answer: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of prompt and completion that a server says an answer took; 0 where it is silent."""
    told = answer.get("usage") or {}
    return int(told.get("prompt_tokens") or 0), int(told.get("completion_tokens") or 0)
