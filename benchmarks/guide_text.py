"""The real English that the language models of `guide_reproduction.py` read, as windows.

About 4 MB: WikiText-2 (validation and test), Shakespeare, and CPython's help pages. Whole documents
are held out; a document of the test part is one item of every interval.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from preceptor.data.chat import Rendering
from preceptor.data.prose import articles, python_topics
from preceptor.data.rows import Row, Rows
from preceptor.data.splitting import split_rows
from preceptor.data.text import TextSet
from preceptor.data.tokenizers import bpe_tokenizer

WINDOW = 128
"""Tokens of a window; all but its first are predicted."""

_OF_EACH = {"validation": 2, "test": 4}
"""Windows of a held-out document that are read."""

_SCENE = 8000
_VALIDATION, _TEST = 0.1, 0.2


@final
@dataclass(frozen=True)
class Texts:
    """Training windows, and the first windows of each held-out document.

    Args:
        folder: holds `wikitext2` and `tinyshakespeare`.
        vocabulary: byte pairs, learnt on the training part.
        most: training documents that are read.
    """

    folder: Path
    vocabulary: int
    most: int | None = None

    @cached_property
    def _parts(self) -> tuple[Rows, Rows, Rows]:
        found = [row.text or "" for row in _documents(self.folder)]
        rows = tuple(Row(i, f"document {i}", text=text) for i, text in enumerate(found))
        return split_rows(Rows(rows, "English"), validation=_VALIDATION, test=_TEST, seed=0)

    @cached_property
    def rendering(self) -> Rendering:
        """A tokenizer made on the spot."""
        tokenizer: Any = bpe_tokenizer(self._read, self.vocabulary)
        return Rendering(tokenizer, WINDOW)

    @cached_property
    def _read(self) -> list[str]:
        return [str(row.text) for row in self._parts[0][: self.most]]

    @cached_property
    def train(self) -> TextSet:
        """All training documents after one another, so that no window is short."""
        return TextSet([Row(0, "training", text="\n\n".join(self._read))], self.rendering)

    @cached_property
    def validation(self) -> "Held":
        """For learning rates and curves."""
        return self._held("validation", self._parts[1])

    @cached_property
    def test(self) -> "Held":
        """For the final numbers."""
        return self._held("test", self._parts[2])

    def _held(self, name: str, rows: Rows) -> "Held":
        return Held.of(TextSet(list(rows), self.rendering, name=name), _OF_EACH[name])

    def describe(self) -> str:
        """Sizes, for a reader."""
        tokens = int(self.train.scored.sum())
        held = " and ".join(
            f"{len(part.documents)} documents ({len(part.windows)} windows) of {name}"
            for name, part in (("validation", self.validation), ("test", self.test))
        )
        return f"{tokens:,} training tokens of {self.vocabulary} byte pairs; {held}"


@final
@dataclass(frozen=True)
class Held:
    """Held-out windows.

    Args:
        texts: all of them.
        windows: the examples that are read.
        document: which document each is of, counted from 0.
    """

    texts: TextSet
    windows: NDArray[np.int64]
    document: NDArray[np.int64]

    @classmethod
    def of(cls, texts: TextSet, most: int) -> "Held":
        """At most so many windows of each document, its first."""
        rows = np.array([texts.row(i).number for i in range(len(texts))])
        firsts = np.r_[True, rows[1:] != rows[:-1]]
        starts = np.flatnonzero(firsts)[np.cumsum(firsts) - 1]
        windows = np.flatnonzero(np.arange(len(rows)) - starts < most)
        return cls(texts, windows, np.unique(rows[windows], return_inverse=True)[1])

    @property
    def documents(self) -> NDArray[np.int64]:
        """Each document once."""
        return np.unique(self.document)


def _documents(folder: Path) -> list[Row]:
    """Articles, help pages, and pieces of plays of about 8,000 characters."""
    scenes: list[str] = [""]
    for speech in (folder / "tinyshakespeare" / "input.txt").read_text().split("\n\n"):
        if len(scenes[-1]) > _SCENE:
            scenes.append("")
        scenes[-1] += speech + "\n\n"
    plays = [Row(i, "plays", text=text) for i, text in enumerate(scenes)]
    return [*articles(folder / "wikitext2"), *python_topics(), *plays]
