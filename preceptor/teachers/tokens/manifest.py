"""What a token cache says of itself: whose answers to what, kept how."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

from preceptor.errors import StorageError
from preceptor.files import write_text
from preceptor.shards import MANIFEST, Shard, read_manifest
from preceptor.teachers.tokens.codecs import AnyCodec, codec_text, codec_told

FORMAT = 1
"""The layout's version."""

_ADVICE = {
    "teacher": "Load the weights that the cache was written with",
    "tokenizer": "Use the tokenizer that the cache was written with",
    "template": "Use the chat template that the cache was written with",
    "data": "Use the rows that the cache was written for, in the same numbering",
    "vocabulary": "Set the same number of rows of the head aside",
}


@final
@dataclass(frozen=True)
class Identity:
    """What a cache's answers depend on, each named by a hash.

    Args:
        teacher: of the weights (`teachers.weights.fingerprint`).
        tokenizer: of what decides which ids a text becomes.
        template: of the chat template.
        data: of the rows and how they are rendered and cut.
        vocabulary: v: how many classes have a probability.
    """

    teacher: str
    tokenizer: str
    template: str
    data: str
    vocabulary: int


@final
@dataclass(frozen=True)
class Manifest:
    """What a cache holds.

    Args:
        identity: whose answers to what.
        codec: what is kept of each position.
        coding: the lengths of the prefix codes that lists are written in; empty while nothing is
            written, and for logits.
        complete: whether all shards are.
        shards: the files; their `rows` are positions.
        format: the layout's version.
    """

    identity: Identity
    codec: AnyCodec
    coding: Mapping[str, Any]
    complete: bool = False
    shards: tuple[Shard, ...] = ()
    format: int = FORMAT

    @property
    def positions(self) -> int:
        """How many positions are there."""
        return sum(shard.rows for shard in self.shards)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a cache's folder."""

        def made(found: dict[str, Any]) -> "Manifest":
            codec, identity = codec_told(found.pop("codec")), Identity(**found.pop("identity"))
            return cls(codec=codec, identity=identity, **found)

        return read_manifest(folder, FORMAT, made)

    def write(self, folder: Path) -> None:
        """Puts it in place of the one before."""
        text = {**asdict(self), "codec": codec_text(self.codec)}
        write_text(folder / MANIFEST, json.dumps(text, indent=1))

    def expect(self, folder: Path, identity: Identity) -> None:
        """Raises `StorageError` that names every part in which the cache is of something else."""
        parts = [field.name for field in fields(Identity)]
        held = {name: getattr(self.identity, name) for name in parts}
        asked = {name: getattr(identity, name) for name in parts}
        other = [name for name in parts if held[name] != asked[name]]
        if other:
            seen = ", ".join(f"{name} {_short(held[name])}" for name in other)
            this = ", ".join(f"{name} {_short(asked[name])}" for name in other)
            raise StorageError(
                f"the token cache {folder} is of {seen}",
                f"this run has {this}",
                f"{'. '.join(_ADVICE[name] for name in other)}; or write another cache, to "
                "another folder.",
            )

    def expect_codec(self, folder: Path, codec: AnyCodec) -> None:
        """Raises `StorageError` where the cache keeps something else of a position."""
        if self.codec != codec:
            raise StorageError(
                f"the token cache {folder} keeps {self.codec}",
                f"{codec} was asked for",
                "Ask for what is kept, or write another cache, to another folder.",
            )


def _short(value: str | int) -> str:
    return value[:12] if isinstance(value, str) else str(value)
