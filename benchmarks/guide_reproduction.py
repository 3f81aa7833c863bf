"""What a student gains that begins inside its teacher (GUIDE, its relatives), and where it fades.

Khoa Trinh, Gaurav Menghani, Erik Vee. "GUIDE: Guided Initialization and Distillation of
Embeddings". arXiv 2025. arXiv:2510.06502.

Arms have the same student, data and steps: random start, learning from the teacher (KD), a start
inside the teacher, both. Told are the share of the teacher's lead that each makes up, whether the
two ways add up, tokens to the random start's last loss, and the processor time of a step. A
language model on real English, a sentence encoder, a convolutional network; the bases of the stream
with and without repair; and for GUIDE students of four sizes, three budgets, vocabularies, tied
heads and learning rates. No figure is a bound but the last: a start costs nothing in a step.

Every trained student is a file in `--work`: killed, the script goes on where it was. `--report`
prints what is finished and draws `docs/images/guide_scaling.svg`, and trains nothing.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from guide_cells import Cells
from guide_experiment import Experiment
from guide_images import Images, errors
from guide_language import Course, Language, nats
from guide_overhead import Overhead
from guide_report import report
from guide_sentences import Sentences, misses
from guide_settings import Settings
from guide_text import Texts

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PLOT = Path(__file__).resolve().parents[1] / "docs" / "images" / "guide_scaling.svg"

FULL = Settings(
    widths=(32, 48, 64, 96),
    budgets=(40, 120, 360),
    width=64,
    steps=120,
    seeds=(0, 1, 2, 3, 4),
    vocabularies=(1024, 4096),
)
QUICK = Settings((32,), (20,), 32, 20, (0, 1), (1024,), networks=(("cnn-small", 40),))


def llamas(data: Path, work: Path, quick: bool) -> Callable[[int, bool], Language]:
    """A teacher and its students by vocabulary, and whether head and embeddings are one."""

    @cache
    def language(vocabulary: int, tied: bool) -> Language:
        texts = Texts(data, vocabulary, 30 if quick else None)
        folder = work / f"llama-{vocabulary}{'-tied' if tied else ''}"
        return Language(texts, folder, tied, steps=40 if quick else 2400)

    return language


def languages(
    language: Callable[[int, bool], Language],
    cells: Cells,
    said: Settings,
    quick: bool,
    computes: bool,
) -> Experiment:
    """Students of a Llama."""

    def run(course: Course) -> dict[str, Any]:
        return language(course.vocabulary, course.tied).run(course)

    def judge(course: Course) -> list[float]:
        own = language(course.vocabulary, course.tied)
        return nats(own.teacher, own.texts.test).tolist()

    rates = (3e-3,) if quick else (1e-3, 3e-3, 9e-3, 2.7e-2)
    usual = {"width": said.width, "steps": said.steps, "vocabulary": 1024, "tied": False}
    return Experiment("language", cells, run, judge, rates, usual, computes)


def images(work: Path, cells: Cells, quick: bool, computes: bool) -> Experiment:
    """Students of a convolutional network."""
    own = Images(work / "digits")
    rates = (0.03,) if quick else (0.01, 0.03, 0.1)
    return Experiment(
        "images",
        cells,
        own.run,
        lambda _: errors(own.teacher, own.data.test).tolist(),
        rates,
        computes=computes,
    )


def sentences(data: Path, work: Path, cells: Cells, computes: bool) -> Experiment:
    """Students of a pretrained encoder."""
    own = Sentences(data, work / "sentences")
    return Experiment(
        "sentences",
        cells,
        own.run,
        lambda _: misses(own.teacher, own.parts["test"]).tolist(),
        (2e-4, 1e-3, 5e-3),
        computes=computes,
    )


def order(said: Settings, quick: bool) -> Iterator[tuple[str, Any, int]]:
    """Which experiment, course and seed, what matters most first."""
    for seed in said.seeds:
        for course in said.language():
            yield "language", course, seed
    for seed in said.seeds:
        for network in said.networks:
            for course in said.images(*network):
                yield "images", course, seed
    if quick:
        return
    for seed in said.seeds:
        for course in said.sentences():
            yield "sentences", course, seed
    for course in said.bases():
        for seed in said.seeds:
            yield "language", course, seed
    few, rest = said.seeds[:3], said.seeds[3:]
    for seed in few:
        for course in said.grid():
            yield "language", course, seed
    for seed in few:
        for course in said.beside():
            yield "language", course, seed
    for seed in few:
        for course in said.longest():
            yield "language", course, seed
    for seed in rest:
        for course in (*said.grid(), *said.beside()):
            yield "language", course, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: little is learnt")
    parser.add_argument("--report", action="store_true", help="tables and plot of what is finished")
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    parser.add_argument("--data", type=Path, default=DATA, help="wikitext2, tinyshakespeare")
    parser.add_argument("--work", type=Path, required=True, help="keeps what is finished")
    given = parser.parse_args()
    if not (given.data / "wikitext2").is_dir():
        sys.exit(f"{given.data} holds no wikitext2: give the folder of both texts as --data")
    torch.set_num_threads(1)
    work = given.work / "quick" if given.quick else given.work
    work.mkdir(parents=True, exist_ok=True)
    said, cells, computes = QUICK if given.quick else FULL, Cells(work / "cells"), not given.report
    language = llamas(given.data, work, given.quick)
    every = {
        "language": languages(language, cells, said, given.quick, computes),
        "images": images(work, cells, given.quick, computes),
        "sentences": sentences(given.data, work, cells, computes),
    }
    if computes:
        for name, course, seed in order(said, given.quick):
            found = every[name].under(course, seed)
            print(name, replace(course, seed=seed), found["curve"][-1], flush=True)
        cost = Overhead(said.width, 5 if given.quick else 30)
        cells.once(cost, lambda: cost.measured(language(1024, False)))
    plot = None if given.quick else PLOT
    report(said, every, cells, plot, markdown=given.markdown)


if __name__ == "__main__":
    main()
