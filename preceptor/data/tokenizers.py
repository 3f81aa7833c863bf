"""Tokenizers: loaded, trained on the spot, named by a fingerprint."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preceptor.errors import DataError, ModelError

Tokenizer = Any
"""A fast tokenizer of transformers."""

PAD, BOS, EOS, UNKNOWN = "<|pad|>", "<|begin|>", "<|end|>", "<|unknown|>"
_ROLES = ("system", "user", "assistant", "tool")
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")


def load_tokenizer(source: str | Path) -> Tokenizer:
    """The fast tokenizer of a folder, or of a name on the Hugging Face hub.

    Raises:
        DataError: there is none, or it has no fast form, without which nobody knows where in the
            text a token stands.
    """
    import transformers

    _require_there(source)
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(str(source))
    except Exception as error:  # the hub's client and the parsers raise a dozen kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"the tokenizer of {source}",
            f"it could not be loaded ({reason})",
            "Name a folder or a hub's model that has a tokenizer.json.",
        ) from error
    if not loaded.is_fast:
        raise DataError(
            f"the tokenizer of {source} is {type(loaded).__name__}, written in Python",
            "it does not say where in the text a token stands",
            "Convert it to a fast one (tokenizer.json).",
        )
    return loaded


def _require_there(source: str | Path) -> None:
    """Raise where a path holds no tokenizer, before anybody asks the hub for it."""
    path, name = Path(source), str(source)
    if path.is_dir():
        if not any((path / file).exists() for file in _FILES):
            raise DataError(
                f"a tokenizer was looked for in {name}",
                f"the folder holds none of {', '.join(_FILES)}",
                "Save the model's tokenizer there, or name another folder.",
            )
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError(
            f"a tokenizer was looked for in {name}",
            "there is no such folder",
            "Check the path; a model of the hub has the form owner/name.",
        )


def character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token a character that occurs in the texts, and the markers of a conversation.

    A character that occurs in none of them has no token; a row that holds one is refused when it
    is rendered.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    markers = _markers()
    known = sorted({character for text in texts for character in text})
    vocabulary = {token: i for i, token in enumerate([*markers, *known])}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    backend.decoder = decoders.Fuse()
    return _wrapped(backend)


def bpe_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Byte-pair encoding over bytes, at most `size` tokens: every text has an encoding.

    Raises:
        DataError: `size` does not hold the 256 bytes and the markers.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    least = 256 + len(_markers())
    if size < least:
        raise DataError(
            f"a byte-pair vocabulary of {size}",
            f"the 256 bytes and {least - 256} markers alone are {least}",
            f"Ask for {least} or more, or for a character-level tokenizer.",
        )
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=_markers(),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _wrapped(backend)


def _markers() -> list[str]:
    return [PAD, BOS, EOS, UNKNOWN, *(f"<|{role}|>" for role in _ROLES)]


def _wrapped(backend: Any) -> Tokenizer:
    """As transformers has it: a beginning before each text, and a plain template."""
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens([AddedToken(marker, special=True) for marker in _markers()])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def fingerprint(tokenizer: Tokenizer) -> str:
    """Sha256 of all that decides which ids a text becomes, and of the chat template."""
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    # Calls that pad or cut leave these behind; they say nothing of the tokenizer.
    told.pop("padding", None)
    told.pop("truncation", None)
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(template_fingerprint(tokenizer).encode())
    return digest.hexdigest()


def template_fingerprint(tokenizer: Tokenizer) -> str:
    """Sha256 of the chat template; of nothing where there is none."""
    template = json.dumps(getattr(tokenizer, "chat_template", None), sort_keys=True)
    return hashlib.sha256(template.encode()).hexdigest()


def same_ids(own: Tokenizer, theirs: Tokenizer | Path) -> str:
    """Whether every token of one tokenizer is the same one of another, by its id.

    Returns:
        Nothing; or where the folder `theirs` brings no tokenizer, a sentence that nobody knows.

    Raises:
        ModelError: tokens that have other ids in the other, or none.
    """
    if isinstance(theirs, Path):
        if not any((theirs / file).is_file() for file in _FILES if "config" not in file):
            return f"{theirs} holds no tokenizer: that its ids mean the same tokens is not checked"
        return same_ids(own, load_tokenizer(theirs))
    known = theirs.get_vocab()
    differ = [token for token, number in own.get_vocab().items() if known.get(token) != number]
    if differ:
        raise ModelError(
            "a student was to begin in a teacher of another tokenizer; of its tokens "
            f"{len(differ)}, {differ[0]!r} for one, have other ids or none",
            "embeddings are taken over row by row",
            "Give the student its teacher's tokenizer, or start it at random.",
        )
    return ""


def id_count(tokenizer: Tokenizer) -> int:
    """One more than the largest id: how many rows of a head stand for tokens.

    Some tokenizers leave ids out, so that this is more than the number of their tokens.
    """
    return max(tokenizer.get_vocab().values(), default=-1) + 1
