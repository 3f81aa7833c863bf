"""The bytes that each token stands for, for one tokenizer.

Byte-level and metaspace (sentencepiece-like) tokenisers, with byte fallback or without, give their
bytes exactly, also those of sampled ids and of pieces inside a character. A tokeniser that loses
something (WordPiece: case, spaces) is read by its own offsets in the text that it was given.

Dimension key: n tokens, u units.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

Array = NDArray[Any]
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MARK = 256
_SPACE = "▁"
"""Sentencepiece's mark for a space."""


@final
@dataclass(frozen=True)
class Tokens:
    """Some tokens as units: bytes (0 to 255), and marks (256 and more) for special tokens.

    Args:
        units: what the tokens stand for, one after the other.
        ends: units up to and with each token; a token may have none.
        cut: whether a token ends inside bytes that are no UTF-8, where no other tokeniser can.
        spoiled: units that are no UTF-8 and read as U+FFFD by everybody else.
        certain: whether a boundary after i tokens stands whatever comes next.
    """

    units: Int[Array, " u"]
    ends: Int[Array, " n"]
    cut: Bool[Array, " n"]
    spoiled: Bool[Array, " u"]
    certain: Bool[Array, " n+1"]

    def text(self) -> str:
        """The bytes as text, without the marks."""
        plain = self.units[self.units < _MARK].astype(np.uint8)
        return plain.tobytes().decode("utf-8", "replace")


@final
class Pieces:
    """A tokenizer's tokens as bytes.

    Args:
        tokenizer: a fast tokenizer of transformers.
        marks: special tokens that another tokeniser has too: id to a number from 0 on, the same
            on both sides. Other special tokens stand for nothing.
    """

    def __init__(self, tokenizer: Any, marks: Mapping[int, int] | None = None) -> None:
        self.tokenizer, self.marks = tokenizer, dict(marks or {})
        added = tokenizer.added_tokens_decoder
        self._added = {i: token.content for i, token in added.items()}
        self._special = {i for i, token in added.items() if token.special}
        self._special |= set(tokenizer.all_special_ids)
        kinds = _kinds(json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder"))
        self._byte_level, self._wordpiece = "ByteLevel" in kinds, "WordPiece" in kinds
        self._fallback = "ByteFallback" in kinds
        self._known: dict[int, bytes] = {}
        self._prefixes: set[bytes] | None = None

    def of(self, index: int) -> bytes:
        """One token's bytes; none for a special token."""
        if index not in self._known:
            self._known[index] = b"" if index in self._special else self._bytes(index)
        return self._known[index]

    def _bytes(self, index: int) -> bytes:
        if index in self._added:
            return self._added[index].encode()
        token = self.tokenizer.convert_ids_to_tokens(index)
        if token is None:
            return b""  # a padded row of the head: no text leads there
        if self._byte_level:
            table = _byte_of()
            if all(character in table for character in token):
                return bytes(table[character] for character in token)
        if self._fallback and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        if self._wordpiece:
            return token[2:].encode() if token.startswith("##") else f" {token}".encode()
        return token.replace(_SPACE, " ").encode("utf-8", "surrogatepass")

    def tokens(self, ids: Sequence[int], text: str | None = None, *, sure: bool = False) -> Tokens:
        """A response's tokens.

        Args:
            ids: the tokens, sampled or rendered; they are never made anew.
            text: what they may have been made from: where their bytes do not give it back, and the
                tokenizer makes just these tokens of it, its offsets are read.
            sure: find where boundaries are certain (`Tokens.certain`); else none is said to be.
        """
        listed = [int(i) for i in ids]
        pieces, vague = [self.of(i) for i in listed], ()
        whole, wanted = b"".join(pieces), (text or "").encode()
        if wanted and whole == b" " + wanted:
            # Sentencepiece puts a space before the first word that is not in the text.
            first = next(i for i, piece in enumerate(pieces) if piece)
            pieces[first] = pieces[first][1:]
        elif text and not wanted.startswith(whole) and text != whole.decode("utf-8", "replace"):
            by_offsets = self._cut_by_offsets(listed, text)
            if by_offsets:
                unknown = self.tokenizer.unk_token_id
                vague = [i for i, token in enumerate(listed) if token == unknown]
                pieces = by_offsets
        made = _as_units(pieces, [self.marks.get(i) for i in listed])
        for (
            i
        ) in vague:  # An unknown token stands for many texts: its probability is not this one's.
            made.spoiled[made.ends[i] - len(pieces[i]) : made.ends[i]] = True
        if not sure:
            return made
        return replace(made, certain=self._certain(pieces, [i in self._special for i in listed]))

    def _cut_by_offsets(self, ids: Sequence[int], text: str) -> list[bytes]:
        """The bytes of a text from each token's end to the next, spaces with what follows them.

        Nothing where the tokenizer does not make these tokens of it, as far as they go.
        """
        told = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        unknown = self.tokenizer.unk_token_id
        plain = [i for i, token in enumerate(ids) if token not in self._special or token == unknown]
        if [ids[i] for i in plain] != list(told["input_ids"][: len(plain)]):
            return []
        reached = list(accumulate((end for _, end in told["offset_mapping"]), max))
        pieces, before = [b""] * len(ids), 0
        for place, end in zip(plain, reached, strict=False):
            pieces[place], before = text[before:end].encode(), end
        return pieces

    def _certain(self, pieces: Sequence[bytes], special: Sequence[bool]) -> Bool[Array, " m"]:
        """Boundaries that no token of the vocabulary could reach over, whatever comes next.

        So no continuation would have cut what stands before them in another way, but for what a
        pre-tokeniser sees ahead of it. After a special token every boundary is.
        """
        certain, before = [True], b""
        for piece, stops in zip(pieces, special, strict=True):
            before = b"" if stops else before + piece
            certain.append(bool(stops) or not (self._wordpiece or self._may_go_on(before)))
        return np.array(certain)

    def _may_go_on(self, before: bytes) -> bool:
        if self._prefixes is None:
            every = (self.of(index) for index in self.tokenizer.get_vocab().values())
            self._prefixes = {piece[:k] for piece in every for k in range(1, len(piece))}
            self._longest = max(map(len, self._prefixes), default=0)
        longest = min(len(before), self._longest)
        return any(before[-k:] in self._prefixes for k in range(1, longest + 1))


def _as_units(pieces: Sequence[bytes], marks: Sequence[int | None]) -> Tokens:
    """Tokens from their bytes; a special token that both sides know is one unit."""
    units: list[Array] = []
    spoiled: list[Array] = []
    ends: list[int] = []
    cut: list[bool] = []
    done = start = 0
    for stop in [*(i for i, mark in enumerate(marks) if mark is not None), len(pieces)]:
        seen, broken, reached = _read(b"".join(pieces[start:stop]))
        for end in accumulate(map(len, pieces[start:stop])):
            ends.append(done + abs(int(reached[end])))
            cut.append(bool(reached[end] < 0))
        mark = marks[stop] if stop < len(pieces) else None
        own = [] if mark is None else [_MARK + mark]
        units += [seen.astype(np.int32), np.array(own, np.int32)]
        spoiled += [broken, np.zeros(len(own), np.bool_)]
        done, start = done + len(seen) + len(own), stop + 1
        ends += [done] * len(own)
        cut += [False] * len(own)
    nowhere = np.zeros(len(pieces) + 1, np.bool_)
    joined = np.concatenate(units), np.array(ends, np.int64), np.array(cut, np.bool_)
    return Tokens(*joined, np.concatenate(spoiled), nowhere)


def _read(blob: bytes) -> tuple[Array, Array, Array]:
    """Bytes as everybody reads them, U+FFFD for what is no UTF-8; which those are; and where in
    them each offset of `blob` lies, negative inside a broken character."""
    wide = "\ufffd".encode()
    out, spoiled, reached, start = bytearray(), [False] * 0, np.zeros(len(blob) + 1, np.int64), 0
    while start < len(blob):
        try:
            blob[start:].decode()
            stop, after = len(blob), len(blob)
        except UnicodeDecodeError as error:
            stop, after = start + error.start, start + error.end
        reached[start : stop + 1] = len(out) + np.arange(stop + 1 - start)
        out += blob[start:stop]
        spoiled += [False] * (stop - start)
        if after > stop:
            reached[stop + 1 : after] = -len(out) - 1
            out += wide
            spoiled += [True] * len(wide)
            reached[after] = len(out)
        start = after
    return np.frombuffer(bytes(out), np.uint8), np.array(spoiled, np.bool_), reached


def _kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*map(_kinds, decoder.get("decoders", ())))


def _byte_of() -> dict[str, int]:
    """The character that byte-level tokenisers write for each byte, the other way round."""
    if not _TABLE:
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in shown]
        _TABLE.update({chr(byte): byte for byte in shown})
        _TABLE.update({chr(256 + place): byte for place, byte in enumerate(hidden)})
    return _TABLE


_TABLE: dict[str, int] = {}
