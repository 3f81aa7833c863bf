"""Rows whose responses a teacher writes, once, before training: sequence-level distillation."""

import logging
from collections.abc import Mapping
from pathlib import Path

from preceptor.data.chat import Rendering
from preceptor.data.reading import read_rows
from preceptor.data.rows import Rows
from preceptor.data.text import TextSet
from preceptor.data.verifiers import verifier
from preceptor.errors import DataError
from preceptor.files import write_text
from preceptor.recipe.data import Verify
from preceptor.recipe.rollouts import SequenceFields
from preceptor.recipe.subject import Taught
from preceptor.recipe.texts import require_room
from preceptor.recipe.writing import ends_of, writing_model
from preceptor.synthesis.served_text import Voice, collect
from preceptor.synthesis.writers import Local
from preceptor.synthesis.written import (
    Answers,
    Filter,
    answered_by,
    ended,
    spoken_by,
    unique,
    verified,
)
from preceptor.teachers.served import Served
from preceptor.teachers.weights import fingerprint
from preceptor.train.processes import main_process_first

_LOG = logging.getLogger(__name__)


def answered(
    said: SequenceFields,
    rows: Rows,
    rendering: Rendering,
    verify: Verify | None,
    taught: Taught,
    seed: int,
) -> Rows:
    """The rows with the teacher's answers in place of the data's; asks only for what is not there.

    Args:
        said: how it is to write, and where its answers are kept.
        rows: prompts.
        rendering: how the teacher reads them.
        verify: how answers are judged, where only right ones are kept.
        taught: who is asked.
        seed: of what is drawn.

    Raises:
        DataError: no answer could be kept.
    """
    filters: dict[str, Filter] = {"cut": ended}
    if said.right:
        assert verify is not None, "asked for by `require_able`"
        filters["wrong"] = verified(verifier(verify.by, verify.after, verify.pattern))
    if said.samples > 1:
        filters["repeated"] = unique()
    with main_process_first() as main:
        if main:
            _write(said, rows, rendering, taught, seed, filters)
    return read_rows(Path(said.folder) / "data.jsonl")


def require_able(
    said: SequenceFields, texts: TextSet, verify: Verify | None, taught: Taught
) -> None:
    """Raise where the teacher cannot write, or nobody can judge what it writes.

    Asked before a teacher is trained; `texts` are the prompts as it reads them.
    """
    if said.right and verify is None:
        raise DataError(
            "rollouts.sequence_kd.right: true",
            "nothing says how an answer is judged",
            "Add data.verify, or leave `right` out.",
        )
    if not isinstance(taught.teacher, Served):
        require_room(writing_model(taught), texts, said.sampling().max_new)


def _write(
    said: SequenceFields,
    rows: Rows,
    rendering: Rendering,
    taught: Taught,
    seed: int,
    filters: Mapping[str, Filter],
) -> None:
    folder = Path(said.folder)
    if isinstance(taught.teacher, Served):
        voice = Voice(said.sampling(), said.api, rendering.system, seed)
        client = taught.teacher.client
        found = collect(client, rows, folder, voice, samples=said.samples, filters=filters)
        counts, failed = found.counts, found.failed
    else:
        counts, failed = _locally(said, rows, rendering, taught, seed, filters), {}
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    _LOG.warning("preceptor: the teacher's answers to %d prompts: %s", len(rows), told)
    for place, why in list(failed.items())[:3]:
        _LOG.warning("preceptor: %s was not answered: %s", place, why)
    if not counts.get("kept"):
        raise DataError(
            f"of the teacher's answers to {len(rows)} prompts none was kept ({told})",
            "there is nothing to learn from",
            f"Look at {folder}; allow longer answers (most), or a better teacher.",
        )


def _locally(
    said: SequenceFields,
    rows: Rows,
    rendering: Rendering,
    taught: Taught,
    seed: int,
    filters: Mapping[str, Filter],
) -> Mapping[str, int]:
    """By a model in this process; one sample's answers a file, all of them one data set."""
    model, folder = writing_model(taught), Path(said.folder)
    writer = Local(model, said.sampling(), ends_of(rendering), rendering.pad)
    counts: dict[str, int] = {}
    parts: list[str] = []
    for sample in range(said.samples):
        who = f"{fingerprint(model)[:16]}, {said.sampling()}, seed {seed}, sample {sample}"
        kept = Answers(folder / f"answers-{sample}.jsonl", who)
        kept.complete(rows, answered_by(spoken_by(writer, rendering, seed=seed + 1000 * sample)))
        part = folder / f"part-{sample}.jsonl"
        for name, count in kept.data(rows, part, filters).items():
            counts[name] = counts.get(name, 0) + count
        parts.append(part.read_text(encoding="utf-8"))
        part.unlink()
    write_text(folder / "data.jsonl", "".join(parts))
    return counts
