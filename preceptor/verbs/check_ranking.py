"""`preceptor check` of a ranking's recipe: can it run, and what will be compared?"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from preceptor.data.rows import Rows
from preceptor.recipe.candidate_texts import Texts, read_texts
from preceptor.recipe.candidates import FromFile
from preceptor.recipe.contest import training_of
from preceptor.recipe.load import load_ranking
from preceptor.recipe.presence import require_present
from preceptor.recipe.ranked import ServedWrites, named
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.text_subject import TextSubject
from preceptor.train.fit import Losses
from preceptor.train.processes import use_threads
from preceptor.verbs.cells import Cell
from preceptor.verbs.contest import Contest, require_enough
from preceptor.verbs.crowding import crowding, prompts_of
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.pupil import Pupil
from preceptor.verbs.standing import together
from preceptor.verbs.tried_candidates import each_tried

_TRIED = 16
"""Training rows whose features are timed."""


def check_ranking(recipe: RankingRecipe | str | Path, *, deep: bool = False) -> str:
    """Whether a ranking can run, in words; raises the sentence that says why not.

    Static by default: rows of text are read, nothing is loaded or trained. With `deep` data and
    models are made, and features are timed on the student as it is made.
    """
    said = load_ranking(recipe)
    require_present(said)
    texts = read_texts(said.candidates.texts)
    lines = [f"{said.name}: valid", *_candidates(said)]
    lines += texts.notes
    cautions = (*texts.cautions, *texts.same(), *texts.beyond(said.responses))
    cautions = (*cautions, *texts.white_space())
    lines += [f"! {caution}" for caution in together(cautions, list(texts.rows))]
    there = prompts_of(said, texts)
    prompts = said.prompts if there is None else there
    require_enough(said, prompts)
    asked, kind = min(prompts, said.prompts), said.features.kind
    where = "texts" if texts.rows else "training examples"
    lines.append(f"compared by {said.score} on {asked} prompts of the {where} at most")
    narrow = "" if said.narrow is None else f", brought to {said.narrow}"
    lines.append(f"features: {kind}, {said.features.dimension} numbers a gradient{narrow}")
    lines += [f"! {sentence}" for sentence in crowding(said, texts, there)]
    trained = [name for name, live in said.models() if live.train is not None]
    lines += [f"trained before: {', '.join(trained)}"] if trained else []
    lines += _student(said)
    return "\n".join([*lines, *(_deep(said, texts) if deep else ())])


def _candidates(said: RankingRecipe) -> list[str]:
    lines = [
        f"candidate {name}: column {column} of {file.source}"
        for file in said.candidates.texts
        for name, column in file.responses.items()
    ]
    for name, teacher in said.candidates.teachers.items():
        for at in named(name, teacher):
            how = "is asked of its server" if isinstance(teacher, ServedWrites) else "answers here"
            lines.append(f"candidate {at}: {how}")
    return lines


def _student(said: RankingRecipe) -> list[str]:
    student, lines = said.student, list[str]()
    if student.train is not None:
        lines.append(f"student: trained on labels for {student.train.steps} steps before")
    elif student.start == "random" and not student.model.brings_weights:
        lines.append(
            "! the student is random: its gradients tell little of what it would learn. Add "
            "student.train, or name one with weights."
        )
    if said.students:
        others = ", ".join(("student", *said.students))
        lines.append(f"students in order by leverage_ratio of the best candidate's text: {others}")
    return lines


def _deep(said: RankingRecipe, texts: Texts) -> list[str]:
    """Data, student and teachers made, and the student's features timed."""
    use_threads(said.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        experiment = Experiment(training_of(said), folder, _unwatched)
        as_made = said.student.model_copy(update={"train": None})
        pupil = Pupil(as_made, experiment, folder, said.features, 0, _unsaid)
        contest = Contest(said, experiment, texts, pupil.device)
        pupil.require_fit()
        contest.require_fit()
        lines = each_tried(contest)
        lines.append(f"data: {experiment.subject.describe()}")
        count = len(contest.prompts())
        lines.append(f"prompts that all candidates may be compared on: {len(contest.every_prompt)}")
        if isinstance(experiment.subject, TextSubject):
            rows = experiment.subject.parts.train
            each = _timed(pupil, contest, rows)
            candidates = len(said.candidates.families())
            total = each * count * said.responses * candidates
            lines.append(
                f"features: {each * 1e3:.1f} ms a response, about {total:.0f} s in all; what is "
                "trained and written comes on top"
            )
    return lines


def _timed(pupil: Pupil, contest: Contest, rows: Rows) -> float:
    """Seconds a response, of the data's own."""
    first = [rows[index] for index in range(min(_TRIED, len(rows)))]
    numbered = [replace(row, number=place) for place, row in enumerate(first)]
    store = pupil.of_text("timed", FromFile(numbered), contest.prompted.pool)
    half = len(first) // 2
    store(np.arange(half))  # Warms up.
    started = time.perf_counter()
    store(np.arange(half, len(first)))
    return (time.perf_counter() - started) / max(1, len(first) - half)


def _unwatched(cell: Cell, losses: Losses) -> None:
    del cell, losses


def _unsaid(sentence: str) -> None:
    del sentence
