"""Worker processes that train a study's cells, and outlive one another.

Each worker imports torch once, is told one cell's name after another, and writes what comes of it
to the disk. A worker that dies (killed, out of memory) takes one cell with it, which is named, and
a new worker takes its place.
"""

import contextlib
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import final

from preceptor.evaluate.study.cells import Answered
from preceptor.files import write_text
from preceptor.recipe.load import recipe_text, study_of
from preceptor.recipe.study import StudyRecipe
from preceptor.recipe.study_cells import StudyCell, study_plan
from preceptor.recipe.text import from_yaml
from preceptor.train.processes import use_threads
from preceptor.verbs.study_training import cell_file, run_study_cell

Told = Callable[[StudyCell, Answered], None]


def run_cells(
    said: StudyRecipe,
    phases: Sequence[Sequence[StudyCell]],
    folder: Path,
    workers: int,
    told: Told,
) -> None:
    """Train cells, of which none needs another of its phase; `told` hears of each as it ends.

    With one worker they are trained in this process.
    """
    most = min(workers, max(map(len, phases)))
    pool = [_Worker(said, folder) for _ in range(most)] if most > 1 else []
    try:
        for cells in phases:
            if pool:
                _through(pool, list(cells), folder, told)
            else:
                for cell in cells:
                    told(cell, run_study_cell(cell, folder))
    finally:
        for worker in pool:
            worker.stop()


def _through(pool: "list[_Worker]", waiting: list[StudyCell], folder: Path, told: Told) -> None:
    waiting.reverse()
    at_work: dict[Connection, _Worker] = {}
    for worker in pool:
        if waiting:
            at_work[worker.begin(waiting.pop())] = worker
    while at_work:
        for ready in wait(list(at_work)):
            assert isinstance(ready, Connection)
            worker = at_work.pop(ready)
            cell = worker.cell
            assert cell is not None, "a worker at work has a cell"
            found = worker.heard()
            if found is None:
                found = _died(cell, worker, folder)
                worker.start()
            told(cell, found)
            if waiting:
                at_work[worker.begin(waiting.pop())] = worker


def _died(cell: StudyCell, worker: "_Worker", folder: Path) -> Answered:
    worker.stop()
    why = f"the process that trained it ended (exit code {worker.exit_code})"
    found = Answered("failed", why, (), (), 0.0, 0, 0.0)
    write_text(cell_file(folder, cell.name), found.to_json())
    return found


@final
class _Worker:
    """A process, the pipe to it, and the cell that it trains."""

    def __init__(self, said: StudyRecipe, folder: Path) -> None:
        self._arguments = (recipe_text(said), str(folder))
        self.cell: StudyCell | None = None
        self.exit_code: int | None = None
        self.start()

    def start(self) -> None:
        """Begin, or begin anew after a death."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, *self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()  # So that the pipe ends where the process does.

    def begin(self, cell: StudyCell) -> Connection:
        """Tell it a cell; gives what to wait on."""
        self.cell = cell
        with contextlib.suppress(OSError):  # Where it has died, the pipe says so when it is heard.
            self._pipe.send(cell.name)
        return self._pipe

    def heard(self) -> Answered | None:
        """What came of the cell; None where the process died."""
        try:
            return Answered.from_json(self._pipe.recv())
        except (EOFError, OSError):
            return None

    def stop(self) -> None:
        """Let it end."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self.exit_code = self._process.exitcode


def _work(pipe: Connection, recipe: str, folder: str) -> None:
    """A worker's life: the plan is made anew, for it is a function of the recipe."""
    said = study_of(from_yaml(recipe, "the study"))
    cells = {cell.name: cell for cell in study_plan(said).cells}
    threads = next(iter(cells.values())).recipe.threads
    use_threads(threads or 1)
    # The pipe ends where nobody waits for this worker any more.
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            found = run_study_cell(cells[pipe.recv()], Path(folder))
            pipe.send(found.to_json())
