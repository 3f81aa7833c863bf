"""A report's page in its run's folder, with the pictures of the page before where nothing changed.

Drawing takes longer than judging, and a run that is judged again mostly looks the same.
"""

import json
from pathlib import Path

from markupsafe import Markup

from preceptor.evaluate.drawing import Picture
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report
from preceptor.files import write_text

PAGE, PICTURES = "report.html", "pictures.json"


def write_page(report: Report, folder: Path) -> None:
    """Write a report's page, and beside it its pictures by the hash of what they were drawn from.

    Data, drawing code and matplotlib are in the hash, so a picture that is not drawn again is the
    one that would be drawn.
    """
    before, kept = _pictures(folder / PICTURES), dict[str, str]()

    def drawn(picture: Picture) -> Markup:
        key = picture.key
        kept[key] = before[key] if key in before else str(picture.drawn())
        return Markup(kept[key])  # It was escaped when it was drawn.

    write_text(folder / PAGE, render_html(report, drawn))
    if kept != before:
        write_text(folder / PICTURES, json.dumps(kept))


def _pictures(file: Path) -> dict[str, str]:
    """Those that were drawn before; none where there are none to be read."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
