"""Text in a recipe: its rows in three parts, its tokenizers, the language models made for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from preceptor.data.chat import Rendering
from preceptor.data.counter import shuffled
from preceptor.data.reading import read_rows
from preceptor.data.rows import Row, Rows
from preceptor.data.tokenizers import bpe_tokenizer, character_tokenizer, load_tokenizer
from preceptor.errors import DataError, ModelError
from preceptor.models.causal import language_head
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import Made, Splits, TextData
from preceptor.recipe.models import AnyModel, CausalModel, FolderModel

DATA_SEED = 0
"""What is held out belongs to the data: it is the same for every run and every seed."""

_SPLIT = 17


@final
@dataclass(frozen=True)
class Parts:
    """The rows that train, those held out for choices, and those for the final numbers."""

    train: Rows
    validation: Rows
    test: Rows

    def skipped(self) -> int:
        """Broken rows that were left out, where that was asked for."""
        return sum(len(part.skipped) for part in (self.train, self.validation, self.test))


def parts_of(said: TextData) -> Parts:
    """The three parts of a recipe's text.

    Raises:
        DataError: rows are broken, or a part has none.
    """
    if said.source in GENERATED:
        return _limited(GENERATED[str(said.source)](said), said)
    if isinstance(said.source, Splits):
        train, test = _read(said, said.source.train), _read(said, said.source.test)
        rest, (held,) = _split(train, (said.validation,))
        return _limited(Parts(rest, held, test), said)
    rest, (held, test) = _split(_read(said, said.source), (said.validation, said.test))
    return _limited(Parts(rest, held, test), said)


def tokenizer_of(said: TextData, model: AnyModel, train: Rows) -> Any:
    """A model's own tokenizer, or the data's, which may be made from the training text."""
    own = getattr(model, "tokenizer", None)
    if own is not None:
        return load_tokenizer(own)
    if isinstance(said.tokenizer, str):
        return load_tokenizer(said.tokenizer)
    if isinstance(said.tokenizer, Made):
        texts = [text for row in train for text in _texts(row)]
        if said.tokenizer.characters:
            return character_tokenizer(texts)
        assert said.tokenizer.bpe is not None
        return bpe_tokenizer(texts, said.tokenizer.bpe)
    if isinstance(model, FolderModel):
        return load_tokenizer(model.folder)
    if isinstance(model, CausalModel) and isinstance(model.causal, str):
        return load_tokenizer(model.causal)
    raise DataError(
        "a language model made from a configuration has no tokenizer",
        "somebody must say which text becomes which ids",
        "Add data.tokenizer: a folder, a hub name, {bpe: 512} or {characters: true}.",
    )


def rendering_of(said: TextData, tokenizer: Any) -> Rendering:
    """How a model with this tokenizer reads the recipe's rows."""
    return Rendering(
        tokenizer,
        said.max_length,
        truncate=said.truncate,
        system=said.system,
        plain=said.plain,
        turns=said.turns,
        variables=said.variables,
    )


def language_model(said: AnyModel, seed: int, tokenizer: Any) -> TappedModel:
    """A language model whose classes are the tokenizer's tokens, from a seed of its own."""
    if not isinstance(said, CausalModel | FolderModel):
        kind = next(iter(type(said).model_fields))
        raise ModelError(
            f"a {kind} model was asked to write text",
            "text is learned by causal language models",
            "Write model: {causal: NAME}, or {folder: ...} of one that a run saved.",
        )
    spec: dict[str, Any] = said.said()
    if isinstance(said, CausalModel) and "vocabulary" not in spec:
        spec |= _vocabulary(said, len(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return require_tokens(load_model(spec), tokenizer)


def require_tokens(model: TappedModel, tokenizer: Any) -> TappedModel:
    """The model, whose head must have a row for every token."""
    rows = len(language_head(model.module).weight)
    if rows < len(tokenizer):
        raise ModelError(
            f"the head of {type(model.module).__name__} has {rows} rows",
            f"its tokenizer knows {len(tokenizer)} tokens",
            "Give the model its own tokenizer, or a larger `vocab_size`.",
        )
    return model


def _vocabulary(said: CausalModel, tokens: int) -> Mapping[str, Any]:
    if isinstance(said.causal, dict) and "vocab_size" not in said.causal:
        return {"causal": {**said.causal, "vocab_size": tokens}}
    return {"vocabulary": tokens}


def _read(said: TextData, source: str) -> Rows:
    return read_rows(source, columns=said.columns, documents=said.documents, broken=said.broken)


def _split(rows: Rows, shares: tuple[float, ...]) -> tuple[Rows, list[Rows]]:
    """Shares of the rows held out, a row whole in one part, the same ones every time."""
    order = shuffled(np.arange(len(rows)), DATA_SEED, _SPLIT)
    held: list[Rows] = []
    start = 0
    for share in shares:
        count = max(1, round(share * len(rows)))
        held.append(_chosen(rows, np.sort(order[start : start + count])))
        start += count
    if start >= len(rows):
        raise DataError(
            f"{rows.name} has {len(rows)} rows",
            f"{start} of them are to be held out, and none is left to learn from",
            "Give more rows, files of their own for train and test, or cut documents (documents: "
            "paragraph).",
        )
    return _chosen(rows, np.sort(order[start:]), rows.skipped), held


def _chosen(rows: Rows, which: Any, skipped: Any = ()) -> Rows:
    return Rows(tuple(rows[int(i)] for i in which), rows.name, skipped)


def _limited(parts: Parts, said: TextData) -> Parts:
    train, test = parts.train, parts.test
    if said.limit is not None:
        train = _chosen(train, range(min(said.limit, len(train))), train.skipped)
    if said.test_limit is not None:
        test = _chosen(test, range(min(said.test_limit, len(test))), test.skipped)
    return Parts(train, parts.validation, test)


def _texts(row: Row) -> list[str]:
    said = [row.prompt, row.completion, row.text]
    said += [str(message["content"]) for message in row.messages]
    return [text for text in said if text]


def _arithmetic(said: TextData) -> Parts:
    from preceptor.data.arithmetic import arithmetic

    return Parts(*arithmetic(**said.arguments))


def _prose(said: TextData) -> Parts:
    from preceptor.data.prose import prose

    rest, (held, test) = _split(prose(**said.arguments), (said.validation, said.test))
    return Parts(rest, held, test)


GENERATED = {"arithmetic": _arithmetic, "prose": _prose}
"""Sources that come with the package."""
