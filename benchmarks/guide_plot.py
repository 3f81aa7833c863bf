"""Gap reduction by size and budget, as a picture without a library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guide_language import BATCH, Course
from guide_text import WINDOW

from preceptor.ops.resampling import Interval

_COLOURS = {"GUIDE": "#1b6ca8", "KD": "#c8553d", "GUIDE + KD": "#3d8361"}
_PANEL, _HEIGHT, _LEFT, _TOP = 250, 240, 60, 56
_GAP = 26


def draw(found: Sequence[tuple[Course, Any]], place: Path) -> None:
    """One panel a budget: widths across, R upwards, a line an arm with its intervals."""
    usual = [(c, each) for c, each in found if c.vocabulary == 1024 and not c.tied]
    budgets = sorted({course.steps for course, _ in usual})
    widths = sorted({course.width for course, _ in usual})
    points = {(course.steps, course.width): _values(each) for course, each in usual}
    held = [v for each in points.values() for v in each.values() if isinstance(v, Interval)]
    low = min(-0.1, *(v.low for v in held))
    high = max(1.0, *(v.high for v in held))
    panels = [_panel(i, steps, widths, points, (low, high)) for i, steps in enumerate(budgets)]
    size = _LEFT + len(budgets) * (_PANEL + _GAP), _TOP + _HEIGHT + 60
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        'font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="{size[0]}" height="{size[1]}" fill="white"/>'
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("\n".join([head, _legend(), *panels, "</svg>"]) + "\n")


def _values(each: Any) -> dict[str, Interval | str]:
    _, taught, guide, both = each.arms
    pairs = zip(_COLOURS, (guide, taught, both), strict=True)
    return {name: each.reduction(arm) for name, arm in pairs}


def _legend() -> str:
    parts = ['<text x="8" y="20">share of the teacher\'s lead made up, %</text>']
    for i, (name, colour) in enumerate(_COLOURS.items()):
        x = 300 + 130 * i
        parts.append(f'<rect x="{x}" y="11" width="18" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 24}" y="18">{name}</text>')
    return "".join(parts)


def _panel(
    index: int,
    steps: int,
    widths: Sequence[int],
    points: dict[tuple[int, int], dict[str, Interval | str]],
    limits: tuple[float, float],
) -> str:
    left = _LEFT + index * (_PANEL + _GAP)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (limits[1] - value) / (limits[1] - limits[0])

    def x(width: int, shift: float) -> float:
        return left + _PANEL * (widths.index(width) + 0.5) / len(widths) + shift

    tokens = steps * BATCH * (WINDOW - 1)
    parts = [f'<text x="{left}" y="{_TOP - 12}">{steps} steps, {tokens / 1e6:.2f} M tokens</text>']
    for tenth in range(-10, 21, 2):
        value = tenth / 10
        if limits[0] <= value <= limits[1]:
            colour = "#888" if tenth == 0 else "#e4e4e4"
            parts.append(_line(left, y(value), left + _PANEL, y(value), colour))
            if index == 0:
                label = f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">'
                parts.append(f"{label}{tenth * 10}</text>")
    for width in widths:
        label = f'<text x="{x(width, 0):.1f}" y="{_TOP + _HEIGHT + 20}" text-anchor="middle">'
        parts.append(f"{label}{width}</text>")
    for shift, (name, colour) in zip((-6, 0, 6), _COLOURS.items(), strict=True):
        known = [(w, points.get((steps, w), {}).get(name)) for w in widths]
        dots = [(x(w, shift), v) for w, v in known if isinstance(v, Interval)]
        line = " ".join(f"{at:.1f},{y(v.estimate):.1f}" for at, v in dots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for at, v in dots:
            parts.append(_line(at, y(v.low), at, y(v.high), colour))
            parts.append(f'<circle cx="{at:.1f}" cy="{y(v.estimate):.1f}" r="3" fill="{colour}"/>')
    parts.append(
        f'<text x="{left + _PANEL / 2}" y="{_TOP + _HEIGHT + 42}" text-anchor="middle">'
        "width of the student (teacher: 128)</text>"
    )
    return "\n".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="1"/>'
    )
