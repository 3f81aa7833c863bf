import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from preceptor.evaluate import drawing
from preceptor.evaluate.album import PAGE, PICTURES, write_page
from preceptor.evaluate.drawing import Picture, draw, plain_numbers

LETTER = 10.5


def texts(svg: str) -> dict[str, tuple[float, float]]:
    """Where each text stands."""
    found = re.findall(r'<text[^>]* x="([^"]*)" y="([^"]*)"[^>]*>([^<]*)', svg)
    return {said: (float(x), float(y)) for x, y, said in found}


@pytest.mark.parametrize("most", [1.2, 1.9, 3.0, 8.0, 900.0])
def test_sizes_however_near_have_ticks_that_do_not_touch(most: float) -> None:
    def paint(axes: Any) -> None:
        axes.plot([144.0, 144.0 * most], [0.0, 1.0])
        axes.set_xscale("log")
        axes.margins(x=0.2)
        plain_numbers(axes.xaxis)

    places = texts(draw(paint, "sizes"))
    lowest = max(y for _, y in places.values())
    ticks = sorted((x, said) for said, (x, y) in places.items() if y > lowest - 2)
    assert len(ticks) >= 2
    for (left, _), (right, said) in pairwise(ticks):
        assert right - left > 0.55 * LETTER * len(said)


def test_a_label_stands_in_the_picture_whatever_ticks_its_layout_is_made_for() -> None:
    def paint(axes: Any) -> None:
        # With room for these ticks there would be others, and with room for those there are these.
        axes.plot([0.8, 5.8, 1.8, -0.2, 0.0], [1.12, 0.4, 0.01, -0.46, 0.0], ls="none", marker="o")
        axes.set_xlabel("gain, points")
        axes.set_ylabel("change in kappa, hundredths")

    x, _ = texts(draw(paint, "changes"))["change in kappa, hundredths"]
    assert x > 0.8 * LETTER  # Turned: its letters stand to the left of it.


def test_only_a_picture_that_changed_is_drawn_again(
    report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page(report, tmp_path)
    page = (tmp_path / PAGE).read_text()
    drawn: list[str] = []

    def noted(picture: Picture) -> Markup:
        drawn.append(picture.what)
        return Markup("<svg></svg>")

    monkeypatch.setattr(Picture, "drawn", noted)
    write_page(report, tmp_path)
    assert (drawn, (tmp_path / PAGE).read_text()) == ([], page)
    *others, last = report.curves
    write_page(replace(report, curves=(*others, replace(last, mean=last.low))), tmp_path)
    assert drawn == [f"losses: {last.term}"]
    (tmp_path / PICTURES).write_text("broken")
    write_page(report, tmp_path)
    assert len(drawn) == 1 + page.count("<svg")


def test_other_drawing_code_is_another_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Picture(plain_numbers, (1.0, "a"), "numbers")
    assert picture.key == Picture(plain_numbers, (1.0, "a"), "numbers").key
    others = [
        Picture(plain_numbers, (1.0, "b"), "numbers"),
        Picture(plain_numbers, (1.0, "a"), "?"),
    ]
    assert len({picture.key, *(other.key for other in others)}) == 3
    before = picture.key
    monkeypatch.setattr(drawing, "_code", lambda _: "another")
    assert picture.key != before
