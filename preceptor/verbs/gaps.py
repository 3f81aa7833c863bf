"""The same teacher by two ways, on a few of the user's own rows: how far apart are they?"""

import tempfile
import time
from pathlib import Path

import numpy as np

from preceptor.evaluate.numerals import percent
from preceptor.models.load import load_model
from preceptor.recipe.language_teachers import Keep
from preceptor.recipe.text_subject import TextSubject
from preceptor.recipe.token_stores import identity_of
from preceptor.teachers.base import Teacher
from preceptor.teachers.gap import Gap, served_gap
from preceptor.teachers.live import Live
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.inspection import inspect
from preceptor.teachers.tokens.store import TokenStore

_ROWS = 64


def cache_gap(subject: TextSubject, teacher: Teacher, keep: Keep) -> str:
    """A cache of a few rows as it is asked for: its size, its coverage, its distance from live."""
    texts = subject.train
    batch = texts.batch(np.arange(min(_ROWS, len(texts))))
    identity = identity_of(teacher, texts, subject.tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tokens"
        started = time.perf_counter()
        write_tokens(folder, teacher, [batch], identity=identity, codec=keep.codec())
        seconds = time.perf_counter() - started
        found = inspect(folder)
        line = f"a cache takes about {found.bytes_per_token:.0f} bytes a token"
        tokens = int(texts.scored.sum())
        line += f": {found.bytes_per_token * tokens / 2**20:.1f} MiB for {tokens:,} tokens"
        line += f", written in about {seconds * tokens / max(1, found.tokens):.0f} s"
        if found.covered is not None:
            line += f"; it covers {percent(found.covered)} of the teacher's mass"
        if keep.top_k is not None and keep.temperature == 1.0:
            stored = CachedTokens(TokenStore.open(folder))
            apart = _words(served_gap(stored, teacher, batch))
            line += f"; the log-probabilities that it keeps are {apart} from the live teacher's"
    return line


def server_gap(subject: TextSubject, served: Teacher, local: str) -> str:
    """What a server says beside the same weights in this process."""
    model = load_model({"causal": local, "vocabulary": subject.num_classes})
    batch = subject.train.batch(np.arange(min(4, len(subject.train))))
    found = served_gap(served, Live(model), batch)
    warning = "! " if found.mean > 0.05 else ""
    return f"{warning}the server's log-probabilities are {_words(found)} from {local}'s own"


def _words(gap: Gap) -> str:
    return f"{gap.mean:.1e} nats on average and {gap.largest:.1e} at most"
