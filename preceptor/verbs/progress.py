"""What a run shows while it runs: one bar over all its steps, and its trackers."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import final

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from preceptor.recipe.schema import Recipe
from preceptor.train.fit import Losses
from preceptor.train.processes import is_main_process
from preceptor.train.record import Trackers, line
from preceptor.train.update import SETTLING_STEPS
from preceptor.verbs.cells import Cell


@final
class Progress:
    """A bar with loss and time left, where somebody looks; and every number to the trackers."""

    def __init__(self, recipe: Recipe, folder: Path, *, show: bool) -> None:
        self.main = is_main_process()
        self.show = show and self.main
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            disable=not self.show,
        )
        self._task = self._bar.add_task("starting", total=0, loss=float("nan"), visible=False)
        self._trackers = Trackers(recipe.trackers if self.main else (), folder, recipe.name)
        self._planned: set[Path] = set()

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._trackers.close()

    def plan(self, cells: Sequence[Cell]) -> None:
        """Cells that are still to come; their steps are what is left to do."""
        new = [cell for cell in cells if cell.folder not in self._planned and not cell.done()]
        self._planned |= {cell.folder for cell in new}
        known = self._bar.tasks[0].total or 0
        self._bar.update(self._task, total=known + sum(cell.steps for cell in new))

    def watch(self, cell: Cell, losses: Losses) -> None:
        """One step is done."""
        if cell.folder not in self._planned:
            self.plan([cell])
        words = f"{cell.arm}, seed {cell.seed}"
        shown = {"description": words, "loss": losses.total, "visible": True}
        self._bar.update(self._task, advance=1, **shown)
        self._trackers.log(line(losses), f"{cell.arm}/seed-{cell.seed}")
        if losses.weights and losses.step == SETTLING_STEPS:
            found = ", ".join(f"{name} {weight:.3g}" for name, weight in losses.weights.items())
            self.say(f"{words}: weights found in {SETTLING_STEPS} steps and kept: {found}")

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        if self.show:
            self._bar.console.print(sentence, soft_wrap=True)
