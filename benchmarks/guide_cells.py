"""Results that survive a kill: one JSON file a cell in a folder, named by what the cell is."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from preceptor.files import write_text


@final
@dataclass(frozen=True)
class Cells:
    """A folder of finished cells.

    Args:
        folder: made where it is not there.
    """

    folder: Path

    def once(self, key: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was computed for a dataclass of settings; computed now where it was not yet."""
        found = self.find(key)
        if found is not None:
            return found
        answer = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._place(key), json.dumps({"cell": _said(key), **answer}))
        return answer

    def find(self, key: Any) -> dict[str, Any] | None:
        """A finished cell, or None."""
        place = self._place(key)
        return json.loads(place.read_text()) if place.exists() else None

    def every(self) -> Iterator[dict[str, Any]]:
        """All that is finished."""
        for place in sorted(self.folder.glob("*.json")):
            yield json.loads(place.read_text())

    def _place(self, key: Any) -> Path:
        name = json.dumps(_said(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def _said(key: Any) -> dict[str, Any]:
    return {"kind": type(key).__name__, **asdict(key)}
