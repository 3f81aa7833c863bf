"""Two marks of a response that outlive its text: what it is equal to, and how it repeats itself."""

import hashlib
from collections.abc import Hashable, Sequence

NGRAM = 4
"""Tokens (or words) that are looked for again."""


def text_hash(tokens: Sequence[int] | str) -> int:
    """A signed 64-bit hash of a text or of token ids: the same on every machine.

    >>> text_hash([1, 2]) == text_hash([1, 2]), text_hash([1, 2]) == text_hash([12])
    (True, False)
    """
    told = tokens if isinstance(tokens, str) else " ".join(map(str, tokens))
    digest = hashlib.blake2b(told.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def repetition(tokens: Sequence[Hashable], ngram: int = NGRAM) -> float:
    """The share of a response's n-grams that stood in it before: 0 to 1, 0 where it is shorter.

    >>> repetition("so it is so it is so it is".split())
    0.5
    >>> repetition("each word is another".split())
    0.0
    """
    grams = [tuple(tokens[i : i + ngram]) for i in range(len(tokens) - ngram + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
