"""The answers of a recipe's language teacher on disk: written once, named by hashes."""

from pathlib import Path
from typing import Any

import numpy as np

from preceptor.data.text import TextSet
from preceptor.data.tokenizers import fingerprint, template_fingerprint
from preceptor.recipe.language_teachers import Keep
from preceptor.recipe.stores import teacher_hash
from preceptor.teachers.base import Teacher
from preceptor.teachers.served import Served
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.manifest import Identity
from preceptor.teachers.tokens.store import TokenStore
from preceptor.train.processes import main_process_first

_BATCH = 16


def cached_tokens(
    folder: Path, teacher: Teacher, texts: TextSet, tokenizer: Any, keep: Keep
) -> CachedTokens:
    """A teacher's answers to every training row, written where they are not yet.

    A cache of another teacher, tokenizer, template or of other data is refused.
    """
    identity, codec = identity_of(teacher, texts, tokenizer), keep.codec()
    # Of one length together, so that little is padded.
    order = np.argsort(texts.lengths, kind="stable")
    batches = (texts.batch(order[i : i + _BATCH]) for i in range(0, len(order), _BATCH))
    with main_process_first() as main:
        if main:
            write_tokens(folder, teacher, batches, identity=identity, codec=codec)
    store = TokenStore.open(folder)
    store.manifest.expect(folder, identity)
    store.manifest.expect_codec(folder, codec)
    return CachedTokens(store)


def identity_of(teacher: Teacher, texts: TextSet, tokenizer: Any) -> Identity:
    """What a cache's answers depend on."""
    return Identity(
        teacher=_name(teacher),
        tokenizer=fingerprint(tokenizer),
        template=template_fingerprint(tokenizer),
        data=texts.fingerprint,
        vocabulary=texts.vocabulary,
    )


def _name(teacher: Teacher) -> str:
    if isinstance(teacher, Served):
        # A server tells no weights: its address and the model's name must do.
        endpoint = teacher.client.endpoint
        return f"{endpoint.url} {endpoint.model}"
    return teacher_hash(teacher)
