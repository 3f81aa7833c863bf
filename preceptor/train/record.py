"""What happened, step by step: `metrics.jsonl`, and experiment trackers by name."""

import json
from pathlib import Path
from typing import Any, final

from accelerate import Accelerator

from preceptor.errors import RecipeError
from preceptor.files import storage, write_text
from preceptor.train.fit import Losses


def line(losses: Losses) -> dict[str, Any]:
    """One step as it is written; it holds no times, so that a resumed run writes the same."""
    entry: dict[str, Any] = {
        "step": losses.step,
        "epoch": round(losses.epoch, 6),
        "loss": losses.total,
        "lr": losses.lr,
        "terms": losses.terms,
    }
    for name in ("shares", "weights"):
        if value := getattr(losses, name):
            entry[name] = value
    return entry


@final
class Metrics:
    """A file of one JSON object a line; a resumed run first forgets what came after its start."""

    def __init__(self, path: Path, step: int) -> None:
        """Open for the steps after `step`."""
        self.path = path
        kept = [entry for entry in read(path) if entry["step"] <= step] if path.exists() else []
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        write_text(path, text)
        self._file = path.open("a")

    def add(self, entry: dict[str, Any]) -> None:
        """Append one line."""
        with storage(self.path):
            self._file.write(json.dumps(entry) + "\n")

    def flush(self) -> None:
        """Hand the lines to the system; called before each checkpoint, which relies on them."""
        with storage(self.path):
            self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        with storage(self.path):
            self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of metrics; a last line cut by a kill is left out."""
    entries: list[dict[str, Any]] = []
    for text in path.read_text().splitlines():
        try:
            entries.append(json.loads(text))
        except ValueError:
            break
    return entries


@final
class Trackers:
    """Experiment trackers, through Accelerate: "tensorboard", "wandb", "trackio"."""

    def __init__(self, names: tuple[str, ...], folder: Path, project: str) -> None:
        self.accelerator: Accelerator | None = None
        if not names:
            return
        try:
            self.accelerator = Accelerator(log_with=list(names), project_dir=str(folder))
            self.accelerator.init_trackers(project)
        except (ImportError, ValueError) as error:
            raise RecipeError(
                f"trackers: {', '.join(names)}",
                f"a tracker could not be started ({error})",
                f"Install it (pip install {' '.join(names)}), or leave it out.",
            ) from error

    def log(self, entry: dict[str, Any], prefix: str) -> None:
        """Send one step's numbers under "prefix/"."""
        if self.accelerator is None:
            return
        flat = {f"{prefix}/loss": entry["loss"], f"{prefix}/lr": entry["lr"]}
        for part in ("terms", "shares"):
            flat |= {f"{prefix}/{part}/{k}": v for k, v in entry.get(part, {}).items()}
        self.accelerator.log(flat, step=entry["step"])

    def close(self) -> None:
        """Let the trackers finish writing."""
        if self.accelerator is not None:
            self.accelerator.end_training()
