"""How much of the test part stands in the training part, exactly or nearly.

Text is compared by its words, without case and punctuation; images by their pixels, and by pixels
scaled down. Whatever the teacher saw before the run is known to nobody here.

Dimension key: n images, m test images, c channels, h height, w width, k by l scaled down, p pixels,
g sequences of words.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt64
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

WORDS = 13
"""Words in a row that two texts are not taken to share by chance: Tom Brown et al. "Language
Models are Few-Shot Learners". NeurIPS, 2020."""

_SHARE = 0.5
_FEWEST = 5
_NAMED = 5
_ROWS = 20_000
"""Training rows that are looked at together."""
_ALIKE = 0.95
_SMALLEST = 16
_PIXELS = 16
_THUMB = 8
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")
"""A run of letters and digits; scripts without blanks count each sign."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Passage(NamedTuple):
    """A row's text: its question (a prompt, or the whole of a document), all of it, its place."""

    place: str
    question: str
    whole: str


@final
@dataclass(frozen=True)
class Contamination:
    """Test examples that stand in the training part.

    Args:
        tested: test examples that were looked for.
        trained: training examples that they were looked for in.
        exact: test examples that stand there as they are.
        near: further ones that stand there nearly.
        unjudged: test examples too short, or too small, to be called nearly the same.
        how: what "exact" and "nearly" mean here, in a sentence.
        found: the first few, each with the training example.
    """

    tested: int
    trained: int
    exact: int
    near: int
    unjudged: int
    how: str
    found: tuple[str, ...]

    def sentence(self) -> str:
        """What a reader must know; empty where nothing was found."""
        if not self.exact + self.near:
            return ""
        each = "; ".join(self.found)
        return (
            f"contamination: of {self.tested} test examples {self.exact} stand among "
            f"{self.trained} training examples as they are and {self.near} nearly: {each}"
        )


def of_text(train: Iterable[Passage], test: Sequence[Passage]) -> Contamination:
    """Look for test rows among training rows.

    Memory is that of the test rows; training rows are read once.
    """
    asked = {_plain(passage.question): index for index, passage in reversed([*enumerate(test)])}
    sought = _Sought(test)
    exact: dict[str, str] = {}
    trained = 0
    for rows in _chunks(train):
        trained += len(rows)
        for row in rows:
            if (question := _plain(row.question)) in asked:
                exact.setdefault(question, row.place)
        sought.look(rows)
    found = [(i, exact[q]) for i, p in enumerate(test) if (q := _plain(p.question)) in exact]
    whole = {index for index, _ in found}
    near = [(index, place) for index, place in sought.found() if index not in whole]
    return Contamination(
        tested=len(test),
        trained=trained,
        exact=len(found),
        near=len(near),
        unjudged=sum(len(words) < _FEWEST for words in sought.words),
        how=(
            "as it is: the same question, or the same document, but for blanks; nearly: half or "
            f"more of its sequences of {WORDS} words stand there, or all its words in a row where "
            f"it has {_FEWEST} to {WORDS - 1}"
        ),
        found=tuple(f"{test[i].place} is in {place}" for i, place in [*found, *near][:_NAMED]),
    )


@final
class _Sought:
    """The test rows' sequences of words, and which of them were met."""

    def __init__(self, test: Sequence[Passage]) -> None:
        self.words = [_words(passage.whole) for passage in test]
        self._length = [min(WORDS, len(words)) for words in self.words]
        self._hashes = {
            length: np.unique(np.concatenate([_hashed([w], length)[0] for w in self._of(length)]))
            for length in sorted(set(self._length))
            if length >= _FEWEST
        }
        self._met: dict[int, str] = {}

    def _of(self, length: int) -> list[list[str]]:
        return [w for w, own in zip(self.words, self._length, strict=True) if own == length]

    def look(self, rows: Sequence[Passage]) -> None:
        """Note where each sequence is met first."""
        words = [_words(row.whole) for row in rows]
        for length, hashes in self._hashes.items():
            seen, whose = _hashed(words, length)
            for at in np.isin(seen, hashes).nonzero()[0]:
                self._met.setdefault(int(seen[at]), rows[whose[at]].place)

    def found(self) -> Iterator[tuple[int, str]]:
        """Test rows of which enough was met, with the place of the first of it."""
        for index, (words, length) in enumerate(zip(self.words, self._length, strict=True)):
            if length < _FEWEST:
                continue
            own = [int(one) for one in _hashed([words], length)[0]]
            met = [self._met[one] for one in own if one in self._met]
            if len(met) >= _SHARE * len(own):
                yield index, met[0]


def _hashed(
    rows: Sequence[Sequence[str]], length: int
) -> tuple[UInt64[np.ndarray, " g"], np.ndarray]:
    """A number for each sequence of `length` words inside a row, and the row it is of."""
    each = [word for row in rows for word in row]
    numbers = np.array([hash(word) for word in each], dtype=np.int64).view(np.uint64)
    whose = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    if len(each) < length:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    count = len(each) - length + 1
    total = np.zeros(count, dtype=np.uint64)
    for step in range(length):
        total = total * _FACTOR + numbers[step : step + count]
    inside = whose[:count] == whose[length - 1 :]
    return total[inside], whose[:count][inside]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _plain(text: str) -> str:
    return " ".join(text.split())


def _chunks(rows: Iterable[Passage]) -> Iterator[list[Passage]]:
    held: list[Passage] = []
    for row in rows:
        held.append(row)
        if len(held) == _ROWS:
            yield held
            held = []
    if held:
        yield held


def of_images(
    train: Iterable[UInt8[Tensor, "_ c h w"]], test: Iterable[UInt8[Tensor, "_ c h w"]]
) -> Contamination:
    """Look for test images among training images, both read once, a chunk at a time."""
    held, shown = _Pictures.of(test), 0
    exact: dict[int, int] = {}
    near: dict[int, int] = {}
    for chunk in train:
        for row, picture in enumerate(chunk):
            for index in held.same.get(_bytes(picture), ()):
                exact.setdefault(index, shown + row)
        for index, row in held.near(chunk):
            near.setdefault(index, shown + row)
        shown += len(chunk)
    near = {index: row for index, row in near.items() if index not in exact}
    few = [*sorted(exact.items()), *sorted(near.items())][:_NAMED]
    return Contamination(
        tested=held.count,
        trained=shown,
        exact=len(exact),
        near=len(near),
        unjudged=held.count if held.small else 0,
        how=(
            f"as it is: every pixel; nearly: pixels correlate by {_ALIKE} or more, at {_THUMB} by "
            f"{_THUMB} and at up to {_PIXELS} by {_PIXELS}; images of less than {_SMALLEST} "
            "pixels a side are not judged"
        ),
        found=tuple(f"test image {index} is training image {row}" for index, row in few),
    )


@final
@dataclass(frozen=True)
class _Pictures:
    """Test images: by their bytes, and scaled down."""

    count: int
    small: bool
    same: dict[bytes, list[int]]
    thumbs: Float[Tensor, "m p"]
    details: UInt8[Tensor, "m c h w"]

    @staticmethod
    def of(test: Iterable[UInt8[Tensor, "_ c h w"]]) -> "_Pictures":
        same: dict[bytes, list[int]] = {}
        thumbs: list[Tensor] = []
        details: list[Tensor] = []
        count, small = 0, False
        for chunk in test:
            for row, picture in enumerate(chunk):
                same.setdefault(_bytes(picture), []).append(count + row)
            count += len(chunk)
            small = min(chunk.shape[2:]) < _SMALLEST
            thumbs.append(_thumb(chunk))
            details.append(_detail(chunk))
        return _Pictures(count, small, same, torch.cat(thumbs), torch.cat(details))

    def near(self, chunk: UInt8[Tensor, "n c h w"]) -> Iterator[tuple[int, int]]:
        """Test images with the row of the chunk that is nearly the same."""
        if self.small:
            return
        rows, indices = (_thumb(chunk) @ self.thumbs.T >= _ALIKE).nonzero(as_tuple=True)
        for some in torch.arange(len(rows)).split(4096):
            own = _unit(_detail(chunk[rows[some]]).float())
            theirs = _unit(self.details[indices[some]].float())
            alike = (own * theirs).sum(dim=1) >= _ALIKE
            yield from zip(indices[some][alike].tolist(), rows[some][alike].tolist(), strict=True)


def _thumb(chunk: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n p"]:
    return _unit(adaptive_avg_pool2d(chunk.float().mean(dim=1, keepdim=True), _THUMB))


def _detail(chunk: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c k l"]:
    sides = [min(side, _PIXELS) for side in chunk.shape[2:]]
    return adaptive_avg_pool2d(chunk.float(), (sides[0], sides[1])).round().to(torch.uint8)


def _unit(pictures: Float[Tensor, "n ..."]) -> Float[Tensor, "n p"]:
    """Around its own mean, of length 1; zeros where an image is of one colour."""
    flat = pictures.flatten(1)
    return torch.nn.functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1, eps=1e-3)


def _bytes(picture: UInt8[Tensor, "c h w"]) -> bytes:
    return picture.contiguous().numpy().tobytes()
