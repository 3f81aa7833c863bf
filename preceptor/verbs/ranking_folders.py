"""A ranking's folder: which ranking it belongs to, and what its sources held when it was made.

recipe.yaml      what its features depend on, and every candidate that was ever ranked in it
sources.json     the fingerprint of what each source held
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from preceptor.data.rows import fingerprint
from preceptor.errors import RecipeError
from preceptor.files import write_text
from preceptor.recipe.candidate_texts import Texts
from preceptor.recipe.contest import lasting
from preceptor.recipe.image_subject import ImageSubject
from preceptor.recipe.load import load_ranking, recipe_text
from preceptor.recipe.ranking import Candidates, RankingRecipe, WrittenTexts
from preceptor.recipe.text_subject import TextSubject
from preceptor.train.processes import main_process_first
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.folders import open_run

OWN = (
    "features",
    "later",
    "ranking.json",
    "sources.json",
    "student",
    "students",
    "teachers",
    "texts",
)
"""What rankings make in a folder, beside recipe.yaml."""


def open_ranking(said: RankingRecipe, out: Path | None, *, fresh: bool = False) -> Path:
    """As `open_run`; a folder in which other candidates were ranked is gone on with.

    What a candidate is may not change: its features would be another's. With `fresh` a ranking's
    own files are removed, and whatever else lies beside them stays.
    """
    kept = lasting(said)
    written = (out or Path("runs") / kept.name) / "recipe.yaml"
    with main_process_first() as main:
        earlier = _read(written) if written.exists() else None
        if earlier is not None and fresh:
            if main:
                _empty(written.parent)
                write_text(written, recipe_text(kept))
        elif earlier is not None:
            whole = _joined(earlier.candidates, kept.candidates)
            if whole is not None and _without(earlier, whole) == _without(kept, whole):
                kept = kept.model_copy(update={"candidates": whole})
                if main:
                    write_text(written, recipe_text(kept))
    return open_run(kept, out, fresh=fresh and earlier is None)


def _empty(folder: Path) -> None:
    """Remove what rankings make."""
    for name in OWN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read(written: Path) -> RankingRecipe | None:
    try:
        return load_ranking(written)
    except RecipeError:  # Of another kind of run, or of an earlier version: `open_run` says it.
        return None


def _without(said: RankingRecipe, candidates: Candidates) -> str:
    """All but the candidates, as text."""
    return recipe_text(lasting(said.model_copy(update={"candidates": candidates})))


def _joined(before: Candidates, now: Candidates) -> Candidates | None:
    """Those before, and behind them those that are new; None where one was something else."""
    known = {**_each(before), **before.teachers}
    asked = {**_each(now), **now.teachers}
    if any(known.get(name, said) != said for name, said in asked.items()):
        return None
    files: dict[str, WrittenTexts] = {}
    for name, said in {**_each(before), **_each(now)}.items():
        alone = said.model_dump_json(exclude={"responses"})
        held = files.get(alone)
        responses = {**(held.responses if held else {}), name: said.responses[name]}
        files[alone] = said.model_copy(update={"responses": responses})
    teachers = {**before.teachers, **now.teachers}
    return Candidates(texts=tuple(files.values()), teachers=teachers)


def _each(said: Candidates) -> dict[str, WrittenTexts]:
    """Each candidate with its file, and its own column alone."""
    return {
        name: file.model_copy(update={"responses": {name: column}})
        for file in said.texts
        for name, column in file.responses.items()
    }


def require_as_read(
    folder: Path, said: RankingRecipe, texts: Texts, experiment: Experiment
) -> None:
    """Raise where a source holds something else than when the folder's work began.

    Raises:
        RecipeError: it does; the features that are there are of what it held then.
    """
    written = folder / "sources.json"
    now = _sources(said, texts, experiment)
    with main_process_first() as main:
        held: Mapping[str, str] = json.loads(written.read_text()) if written.exists() else {}
        changed = [name for name, found in now.items() if held.get(name, found) != found]
        if changed:
            files = list(dict.fromkeys(name.partition(": ")[2] for name in changed))
            raise RecipeError(
                f"{' and '.join(files)} {'have' if len(files) > 1 else 'has'} changed since "
                f"{folder} was made",
                "what lies there was made of what stood there before, and both would be mixed",
                "Choose another folder with --out, or start anew with --fresh.",
            )
        if main and held != (whole := {**held, **now}):
            write_text(written, json.dumps(whole, indent=1))


def _sources(said: RankingRecipe, texts: Texts, experiment: Experiment) -> dict[str, str]:
    """The fingerprint of what each source holds, by whose it is and where it lies."""
    subject = experiment.subject
    found: dict[str, str] = {}
    whole = said.data.source
    source = whole if isinstance(whole, str) else f"{whole.train} or {whole.test}"
    if isinstance(subject, TextSubject):
        found[f"data: {source}"] = fingerprint(list(subject.parts.train))
    elif isinstance(subject, ImageSubject):
        found[f"data: {source}"] = subject.data.train.fingerprint()
    for file in said.candidates.texts:
        for name in file.responses:
            rows = [row for each in texts.rows[name].values() for row in each]
            found[f"{name}: {file.source}"] = fingerprint(rows)
    return found
