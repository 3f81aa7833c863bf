"""`preceptor export`: the student of a finished run in a form that others run, with its card."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, final, get_args

import numpy as np
import torch
from torch import nn

from preceptor.batches import map_tensors
from preceptor.errors import RecipeError
from preceptor.evaluate.cost import measure
from preceptor.evaluate.report import Report
from preceptor.evaluate.significance import valued
from preceptor.evaluate.timing import Timing, quantile, ratio
from preceptor.evaluate.words import in_words
from preceptor.models.export import Exported, OnnxModel, write_onnx
from preceptor.models.tapped import TappedModel
from preceptor.recipe.data import TextData
from preceptor.recipe.load import load_recipe
from preceptor.recipe.schema import STUDENT
from preceptor.types import Inputs
from preceptor.verbs.beforehand import decided
from preceptor.verbs.cards import CARD, write_cards
from preceptor.verbs.cells import student_folder
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.finished import require_finished
from preceptor.verbs.progress import Progress
from preceptor.verbs.tuning import tuned

Format = Literal["onnx", "folder"]
FILE = "model.onnx"
_SIZES = (1, 3, 32)
"""Examples in the batches that are compared and timed; the rest of them in one more."""
_EXAMPLES = 100
_ROUNDS = 40


@final
@dataclass(frozen=True)
class Export:
    """What was written where, and what is said of it."""

    folder: Path
    exported: Exported | None
    sentences: tuple[str, ...]


def export(
    run: Path, *, to: Format | None = None, out: Path | None = None, show: bool = False
) -> Export:
    """Write the first seed's student for use elsewhere.

    Args:
        run: a finished run's folder.
        to: "onnx" for classifiers and encoders, compared with the student on the run's own inputs
            and timed beside it; "folder", the student as it was saved. Where not given, folder for
            language models, which servers load so, and onnx for others.
        out: where; RUN/export where not given. A folder is copied only where this is given.
        show: print what is said.

    Raises:
        RecipeError: the run is not finished.
        ModelError: the student cannot be written as ONNX, or the file would answer otherwise.
    """
    recipe = load_recipe(require_finished(run))
    report = Report.from_json((run / "report.json").read_text(encoding="utf-8"))
    with Progress(recipe, run, show=False) as progress:
        found = decided(recipe, run, progress)
        experiment = Experiment(found.recipe, run, progress.watch)
    first = found.recipe.seed.first
    cell = experiment.distilled(first, tuned(experiment, STUDENT))[-1]
    (card,) = write_cards(found.recipe, report, [cell])
    kind = to or ("folder" if isinstance(recipe.data, TextData) else "onnx")
    if kind == "folder":  # The run's data need not be there.
        done = _as_folder(student_folder(cell), out)
    else:
        student = experiment.subject.saved(student_folder(cell))
        done = _as_onnx(experiment, student, card, out or run / "export", report)
    if show:
        print("\n".join(done.sentences))
    return done


def format_of(text: str) -> Format | None:
    """What a command line says after --to; None where it says nothing.

    Raises:
        RecipeError: there is no such form.

    >>> format_of("onnx")
    'onnx'
    """
    if text and text not in get_args(Format):
        raise RecipeError(
            f"--to {text}", f"a student is written as {' or '.join(get_args(Format))}", "Say one."
        )
    return cast("Format", text) if text else None


def _as_folder(student: Path, out: Path | None) -> Export:
    where = student
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RecipeError(
                f"{out} is there already",
                "what is in it would be mixed with the student",
                "Choose another folder with --out.",
            )
        shutil.copytree(student, out, dirs_exist_ok=True)
        where = out
    return Export(where, None, (f"{where} is the student's folder, with its card in {CARD}.",))


def _as_onnx(
    experiment: Experiment, student: TappedModel, card: Path, out: Path, report: Report
) -> Export:
    batches = _batches(experiment.subject.calibration(_EXAMPLES))
    notes: dict[str, Any] = {"run": report.name, "input": "pixels from 0 to 1, not normalised"}
    if report.classes:
        notes["classes"] = [each.name for each in report.classes]
    else:
        notes["input"] = "token ids padded on the right, and their mask"
    exported = write_onnx(student, batches, out / FILE, notes)
    copied = [card, *sorted(card.parent.glob("*token*.json")), *card.parent.glob("vocab.txt")]
    for file in copied:
        shutil.copyfile(file, out / file.name)
    shapes = ", ".join("x".join(map(str, shape)) for shape in exported.shapes)
    sentences = (
        f"{exported.file} answers as the student does: max |difference| "
        f"{exported.difference:.2g}, largest answer {exported.largest:.3g}, over "
        f"{exported.examples} training examples in batches of {shapes}.",
        *(_timed(student, OnnxModel(exported.file), inputs) for inputs in batches[: len(_SIZES)]),
        f"Beside it: {', '.join(file.name for file in copied)}.",
    )
    return Export(out, exported, sentences)


def _batches(given: Sequence[Inputs]) -> list[Inputs]:
    """Batches of several sizes; those of text no longer than their longest row."""
    every = given[0]
    count = len(every if isinstance(every, torch.Tensor) else next(iter(every.values())))
    found: list[Inputs] = []
    for size in (*(s for s in _SIZES if s < count), count):
        found.append(_shortened(map_tensors(every, lambda tensor, size=size: tensor[:size])))
    return found


def _shortened(inputs: Inputs) -> Inputs:
    if isinstance(inputs, torch.Tensor) or "attention_mask" not in inputs:
        return inputs
    longest = int(inputs["attention_mask"].sum(dim=1).max())
    return {name: tensor[:, :longest] for name, tensor in inputs.items()}


@final
class _Logits(nn.Module):
    """The student's answer alone."""

    def __init__(self, model: TappedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return self.model(inputs).logits


def _timed(student: TappedModel, written: OnnxModel, inputs: Inputs) -> str:
    """Both in turns on one thread: their medians, and the ratio within a round."""
    draw = np.random.default_rng(0)
    models = {"torch": _Logits(student), "onnxruntime": written}
    timing = measure(models, inputs, generator=draw, threads=1, rounds=_ROUNDS)
    times = ", ".join(f"{name} {_median(timing, name, draw)}" for name in models)
    gain = valued(ratio(timing, "torch", "onnxruntime", draw), _ROUNDS, "times")
    return (
        f"{timing.batch} at once, 1 thread, {timing.device}, median of {_ROUNDS} rounds: {times}; "
        f"torch takes {in_words(gain)} as long."
    )


def _median(timing: Timing, name: str, draw: np.random.Generator) -> str:
    return in_words(valued(quantile(timing, name, 0.5, draw), _ROUNDS, "seconds"))
