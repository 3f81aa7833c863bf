"""What a token cache costs: on the disk, in divergence, while it is written, and in a step.

Sizes and divergences are of two teachers: a small language model that has learnt the text at hand
in a byte-pair vocabulary of up to 32,768, read on that text, and made distributions over 151,936
classes that are as peaked as trained ones and whose ids lie anywhere. The model learns until it
needs 2.2 nats a token of what it learnt, about what a model of some billions needs of English.
Capture is timed against the forward pass of a teacher of GPT-2's size with all its logits, made a
slice at a time; a step from the cache against a cross-entropy step through the same projection.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
from loop_overhead import ENDLESS, taking
from paired import Claim, Interval, at_most, conclude, paired, table
from token_settings import Peaked, Repeating, encoded, language_model, rows_of, trained

from preceptor.distributions import Dense, TopK
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import AnyCodec, SampledCodec, TopKCodec
from preceptor.teachers.tokens.inspection import inspect
from preceptor.teachers.tokens.manifest import Identity
from preceptor.teachers.tokens.store import TokenStore
from preceptor.train.fit import fit
from preceptor.train.plan import Plan
from preceptor.types import Batch

TOP, DRAWN, DIVERGENCE, STEP, CAPTURE = 140, 40, 1e-3, 1.10, 1 / 0.85
VOCABULARY, LARGE = 32_768, 151_936

_SLICE = 1 << 22
"""Logits of one product: larger slices take longer, for their memory is given back each time."""

Row = tuple[object, ...]


def identity(vocabulary: int) -> Identity:
    return Identity("teacher", "tokenizer", "template", "rows", vocabulary)


def written(folder: Path, teacher: Teacher, batches: list[Batch], codec: AnyCodec, v: int) -> Path:
    write_tokens(folder, teacher, batches, identity=identity(v), codec=codec)
    return folder


def divergence(folder: Path, teacher: Teacher, batch: Batch) -> Interval:
    """KL(decoded || exact), over the bins of the cache, position by position."""
    found = CachedTokens(TokenStore.open(folder)).signal(batch).distribution
    live = teacher.signal(batch).distribution
    values: list[float] = []
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    with torch.no_grad():
        for places in index.split(64):
            kept, exact = found.at(places), live.at(places)
            assert isinstance(kept, TopK)
            assert isinstance(exact, Dense)
            log_p = exact.log_probs(1.0)
            rest = log_p.scatter(-1, kept.ids, -torch.inf).logsumexp(-1, keepdim=True)
            true = torch.cat([log_p.gather(-1, kept.ids), rest], dim=-1)
            ours = torch.cat([kept.log_p, kept.log_tail.unsqueeze(-1)], dim=-1)
            values += (ours.exp() * (ours - true)).sum(dim=-1).tolist()
    mean = sum(values) / len(values)
    return Interval(mean, min(values), max(values))


def sizes(
    root: Path, name: str, teacher: Teacher, batches: list[Batch], v: int
) -> tuple[Row, list[Claim]]:
    """Bytes a token on the disk, manifest and indexes included, and what decoding costs."""
    top = written(root / "top", teacher, batches, TopKCodec(k=50), v)
    draws = written(root / "draws", teacher, batches, SampledCodec(draws=50), v)
    one, other = inspect(top), inspect(draws)
    gap = divergence(top, teacher, batches[0])
    row = (
        name,
        v,
        one.tokens,
        f"{other.entropy:.2f}",
        f"{one.covered:.1%}",
        f"{one.bytes_per_token:.1f}",
        f"{gap.value:.1e}",
        f"{other.bytes_per_token:.1f}",
        f"{other.entries:.1f}",
    )
    claims = [
        at_most(f"bytes a token, top-50 with tail, {name}", same(one.bytes_per_token), TOP),
        at_most(f"KL(decoded || exact top-50), nats, {name}", gap, DIVERGENCE),
    ]
    # What draws take depends on how broad the teacher is; the promise is for peaked ones.
    if name != "new text":
        words = f"bytes a token, 50 draws, {name}"
        claims.append(at_most(words, same(other.bytes_per_token), DRAWN))
    return row, claims


def same(value: float) -> Interval:
    return Interval(value, value, value)


def capturing(
    teacher: Teacher, batch: Batch, v: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Writing a batch to the disk, and the teacher's forward pass with all its logits."""
    root, number = Path(tempfile.mkdtemp()), count()
    index = batch.mask("all").flatten().nonzero().squeeze(1)

    def capture() -> None:
        written(root / str(next(number)), teacher, [batch], TopKCodec(k=50), v)

    @torch.no_grad()
    def forward() -> None:
        given = teacher.signal(batch).distribution
        for places in index.split(_SLICE // v):
            given.at(places)

    return capture, forward


def steps(objective: Objective, teacher: Teacher, batches: list[Batch]) -> Iterator[object]:
    """The steps of `fit`, past the first ones."""
    student = language_model(VOCABULARY, 256, 3, seed=1)
    plan = Plan(steps=ENDLESS, batch=8, probe_every=0)
    taken = fit(student, teacher, objective, Repeating(batches, VOCABULARY), plan)
    for _ in range(2):
        next(taken)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a teacher less trained")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="files to learn from")
    parser.add_argument("--nats", type=float, default=2.2, help="a token, of the learnt text")
    given = parser.parse_args()
    torch.set_num_threads(1)
    ids, v = encoded(given.text, VOCABULARY)
    learnt = ids[: 129 * 128]
    model = Live(trained(learnt, v, 3.5 if given.quick else given.nats))
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [
            sizes(root / "learnt", "learnt text", model, rows_of(learnt), v),
            sizes(root / "new", "new text", model, rows_of(ids[-16_600:]), v),
            sizes(root / "made", "made", Peaked(LARGE), rows_of(range(2049), batch=1), LARGE),
        ]
        heads = (
            "text",
            "classes",
            "tokens",
            "entropy",
            "covered",
            "top-50, B",
            "KL",
            "50 draws, B",
            "different",
        )
        print(table(heads, [row for row, _ in rows]), "\n")
        claims += [claim for _, some in rows for claim in some]
        noise = torch.randint(
            VOCABULARY, (128 * 32 + 1,), generator=torch.Generator().manual_seed(0)
        )
        batches = rows_of(noise)
        large = Live(language_model(VOCABULARY, 768, 12))
        capture = paired(*capturing(large, batches[0], VOCABULARY), rounds=3 if given.quick else 15)
        store = written(
            root / "steps",
            Live(language_model(VOCABULARY, 64, 1)),
            batches,
            TopKCodec(k=50),
            VOCABULARY,
        )
        cached = CachedTokens(TokenStore.open(store))
        step = paired(
            taking(steps(KD(temperature=1), cached, batches), 1),
            taking(steps(CE(), Nobody(), batches), 1),
            rounds=5 if given.quick else 40,
        )
        decode = paired(lambda: cached.signal(batches[0]), lambda: None, rounds=10)
    seconds = [f"{1000 * s:.0f}" for s in (*capture.medians("cpu"), *step.medians("cpu"))]
    print(
        table(
            ("", "ours, ms", "plain, ms", "ratio, CPU time", "by the wall"),
            [
                ("capture over forward", *seconds[:2], capture.ratio("cpu"), capture.ratio("wall")),
                ("cached step over CE", *seconds[2:], step.ratio("cpu"), step.ratio("wall")),
                ("reading 1024 tokens", f"{1000 * decode.medians('cpu')[0]:.1f}", "", "", ""),
            ],
        )
    )
    claims.append(
        at_most("capture over the teacher's forward pass, CPU time", capture.ratio("cpu"), CAPTURE)
    )
    claims.append(
        at_most("a step from the cache over a CE step, CPU time", step.ratio("cpu"), STEP)
    )
    conclude(claims)


if __name__ == "__main__":
    main()
