"""Text in a recipe: its rows in three parts, its tokenizers, the language models made for it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

import torch

from preceptor.data.arithmetic import Arithmetic
from preceptor.data.chat import Rendering
from preceptor.data.prose import python_topics
from preceptor.data.reading import RowStream, read_rows
from preceptor.data.rows import Broken, Row, Rows
from preceptor.data.splitting import split_rows
from preceptor.data.text import TextSet
from preceptor.data.tokenizers import (
    bpe_tokenizer,
    character_tokenizer,
    id_count,
    load_tokenizer,
)
from preceptor.errors import DataError, ModelError, RecipeError, nearest
from preceptor.evaluate.contamination import Passage
from preceptor.models.causal import bare, context_length, language_head
from preceptor.models.hub import configuration
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import Made, Splits, TextData
from preceptor.recipe.models import MODEL_KEYS, AnyModel, CausalModel, FolderModel

DATA_SEED = 0
"""What is held out belongs to the data: it is the same for every run and every seed."""


@final
@dataclass(frozen=True)
class Parts:
    """The rows that train, those held out for choices, and those for the final numbers.

    Of a stream, `train` holds the first rows: enough to look at, and to make checks with.
    """

    train: Rows
    validation: Rows
    test: Rows
    stream: RowStream | None = None

    def skipped(self) -> tuple[Broken, ...]:
        """Broken rows that were left out, where that was asked for."""
        return (*self.train.skipped, *self.validation.skipped, *self.test.skipped)


def parts_of(said: TextData) -> Parts:
    """The three parts of a recipe's text.

    Raises:
        DataError: rows are broken, or a part has none.
    """
    if said.source in GENERATED:
        return _limited(GENERATED[str(said.source)](said), said)
    if isinstance(said.source, Splits):
        test = _read(said, said.source.test, "test")
        if said.streamed is not None:
            return _limited(_streamed(said, said.source.train, test), said)
        train = _read(said, said.source.train)
        rest, held, _ = split_rows(train, validation=said.validation, test=0.0, seed=DATA_SEED)
        return _limited(Parts(Rows(rest.rows, rest.name, train.skipped), held, test), said)
    return _limited(_three(_read(said, said.source), said), said)


def tokenizer_of(said: TextData, model: AnyModel, train: Rows) -> Any:
    """A model's own tokenizer, or the data's, which may be made from the training text."""
    own = own_tokenizer(model) if said.tokenizer is None else getattr(model, "tokenizer", None)
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
    raise DataError(
        "a language model made from a configuration has no tokenizer",
        "somebody must say which text becomes which ids",
        "Add data.tokenizer: a folder, a hub name, {bpe: 512} or {characters: true}.",
    )


def own_tokenizer(model: AnyModel) -> str | None:
    """Where a model's own tokenizer is; None for one that is made from a configuration."""
    if isinstance(model, FolderModel):
        return model.folder
    if not isinstance(model, CausalModel):
        return None
    return model.tokenizer or (model.causal if isinstance(model.causal, str) else None)


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


def language_model(said: AnyModel, seed: int, tokenizer: Any, classes: int) -> TappedModel:
    """A language model whose first `classes` rows are tokens, from a seed of its own."""
    if not isinstance(said, CausalModel | FolderModel):
        kind = next(key for key in MODEL_KEYS if hasattr(said, key))
        raise ModelError(
            f"a {kind} model was asked to write text",
            "text is learned by causal language models",
            "Write model: {causal: NAME}, or {folder: ...} of one that a run saved.",
        )
    spec: dict[str, Any] = said.said()
    if isinstance(said, CausalModel) and "vocabulary" not in spec:
        _require_rows(said, tokenizer)
        spec |= _vocabulary(said, id_count(tokenizer), classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return require_tokens(load_model(spec), tokenizer)


def require_room(model: TappedModel, texts: TextSet, most: int = 0) -> None:
    """Raise where a model's context holds no whole row, or no prompt with `most` tokens after it.

    Asked when models are made: hours later, when one is first to write, would be too late.
    """
    room = context_length(model.module)
    tokens = texts.prompt_lengths + most if most else texts.lengths
    longest = int(tokens.argmax())
    if room is None or tokens[longest] <= room:
        return
    place, kind = texts.row(longest).place, type(bare(model.module)).__name__
    if most:
        raise DataError(
            f"{place} has a prompt of {texts.prompt_lengths[longest]} tokens, and an answer may "
            f"have {most}",
            f"the {kind} sees {room} tokens",
            "Lower `most`, leave out the longest prompts, or use a model that sees more.",
        )
    raise DataError(
        f"{place} has {tokens[longest]} tokens",
        f"the {kind} sees {room}",
        f"Set data.max_length to {room} or less and say what is cut (data.truncate), or use a "
        "model that sees more.",
    )


def require_tokens(model: TappedModel, tokenizer: Any) -> TappedModel:
    """The model, whose head must have a row for every token."""
    rows = len(language_head(model.module).weight)
    if rows < id_count(tokenizer):
        raise _too_few(f"the head of {type(bare(model.module)).__name__}", rows, tokenizer)
    return model


def _require_rows(said: CausalModel, tokenizer: Any) -> None:
    """Raise where a configuration has fewer rows than tokens, before it is said to have as many."""
    config = configuration(said.causal).get_text_config()
    named = not isinstance(said.causal, dict) or "vocab_size" in said.causal
    ids = id_count(tokenizer)
    rows = int(said.arguments.get("vocab_size", config.vocab_size if named else ids))
    if rows < ids:
        raise _too_few(f"the configuration of {config.model_type}", rows, tokenizer)


def _too_few(who: str, rows: int, tokenizer: Any) -> ModelError:
    return ModelError(
        f"{who} has a vocabulary of {rows}",
        f"its tokenizer has {id_count(tokenizer)} ids",
        "Give the model its own tokenizer, or a larger `vocab_size`.",
    )


def _vocabulary(said: CausalModel, tokens: int, classes: int) -> Mapping[str, Any]:
    if isinstance(said.causal, dict) and "vocab_size" not in said.causal:
        return {"causal": {**said.causal, "vocab_size": tokens}, "vocabulary": classes}
    return {"vocabulary": classes}


def _read(said: TextData, source: str, part: str = "train") -> Rows:
    return read_rows(
        source, columns=said.columns, documents=said.documents, broken=said.broken, split=part
    )


def _streamed(said: TextData, source: str, test: Rows) -> Parts:
    """The first rows of a stream, the stream, and the test rows in two."""
    stream = RowStream(
        source, said.columns, said.documents, said.broken, streaming=True, limit=said.limit
    )
    first = tuple(islice(iter(stream), said.streamed))
    if not first:
        raise DataError(f"{source} holds no usable row", "it is empty", "Give rows to learn from.")
    rest, held, _ = split_rows(test, validation=said.validation, test=0.0, seed=DATA_SEED)
    return Parts(Rows(first, source, stream.skipped), held, rest, stream)


def _chosen(rows: Rows, which: Any, skipped: Any = ()) -> Rows:
    return Rows(tuple(rows[int(i)] for i in which), rows.name, skipped)


def _limited(parts: Parts, said: TextData) -> Parts:
    train, test = parts.train, parts.test
    if said.limit is not None:
        train = _chosen(train, range(min(said.limit, len(train))), train.skipped)
    if said.test_limit is not None:
        test = _chosen(test, range(min(said.test_limit, len(test))), test.skipped)
    return Parts(train, parts.validation, test, parts.stream)


def _texts(row: Row) -> list[str]:
    said = [row.prompt, row.completion, row.text]
    said += [str(message["content"]) for message in row.messages]
    return [text for text in said if text]


def passage(row: Row) -> Passage:
    """A row's question (what stands before its response) and all that it says."""
    turns = row.messages[:-1] if row.has_response else row.messages
    asked = "\n".join(str(message["content"]) for message in turns)
    whole = "\n".join(_texts(row))
    return Passage(row.place, row.prompt or asked or whole, whole)


def _three(rows: Rows, said: TextData) -> Parts:
    parts = split_rows(rows, validation=said.validation, test=said.test, seed=DATA_SEED)
    train, held, final = parts
    return Parts(Rows(train.rows, train.name, rows.skipped), held, final)


def _arithmetic(said: TextData) -> Parts:
    fields = {"train": 4000, "validation": 200, "test": 500, **said.arguments}
    counts = {part: int(fields.pop(part)) for part in ("train", "validation", "test")}
    problems = _known(Arithmetic, fields)
    return Parts(
        problems.rows(counts["train"], "train"),
        problems.rows(counts["validation"], "validation"),
        problems.rows(counts["test"], "test"),
    )


def _known(kind: type[Arithmetic], fields: Mapping[str, Any]) -> Arithmetic:
    known = [field.name for field in dataclasses.fields(kind)]
    for name in fields:
        if name not in known:
            raise RecipeError(
                f"data.arguments.{name}",
                "arithmetic has nothing of that name",
                f"Nearest: {nearest(name, [*known, 'train', 'validation', 'test'])}.",
            )
    return kind(**fields)


def _prose(said: TextData) -> Parts:
    if said.arguments:
        raise RecipeError(
            f"data.arguments: {said.arguments}",
            "prose is CPython's own help, and has none",
            "Leave them out; other text has a file's or a folder's name as its source.",
        )
    return _three(python_topics(), said)


GENERATED = {"arithmetic": _arithmetic, "prose": _prose}
"""Sources that come with the package."""
