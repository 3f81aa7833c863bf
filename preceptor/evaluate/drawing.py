"""Pictures as inline SVG that take their colours and their fonts from the page.

Matplotlib is imported here alone, and only when something is drawn. Colours are drawn as marks
that become CSS variables, so one picture serves light and dark pages; text stays text.
"""

import inspect
import io
import math
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

from markupsafe import Markup

# Marks no plot would use by chance -> what the page calls them.
INK, _FAINT = "#010203", "#010204"
ARM_MARKS = tuple(f"#0102{16 + i:02x}" for i in range(8))
_VARIABLES = {INK: "var(--ink)", _FAINT: "var(--rule)"} | {
    mark: f"var(--arm{i})" for i, mark in enumerate(ARM_MARKS)
}
MARKERS = "osD^vP*X"
_DPI = 200
_TICKS = 7
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
} | dict.fromkeys(
    ["text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"], INK
)


@dataclass(frozen=True)
class Picture:
    """What is to be drawn, and not drawn yet.

    Args:
        paint: a module's function that paints on a pair of axes, given them and `data`.
        data: plain values, which their text tells apart.
        what: what the picture is, for those who cannot see it.
        height: in inches.
    """

    paint: Callable[..., None]
    data: tuple[Any, ...]
    what: str
    height: float = 3.2

    @property
    def key(self) -> str:
        """A hash of all that the drawing depends on: data, code, matplotlib."""
        said = (self.paint.__qualname__, self.data, self.what, self.height)
        code = _code(self.paint.__module__)
        return blake2b(f"{code} {said!r}".encode(), digest_size=12).hexdigest()

    def drawn(self) -> Markup:
        """As `draw` draws it."""
        return draw(lambda axes: self.paint(axes, *self.data), self.what, self.height)


@cache
def _code(module: str) -> str:
    """Which drawing code there is: a module's own, this one's, and matplotlib's version."""
    sources = "".join(inspect.getsource(sys.modules[name]) for name in (module, __name__))
    return version("matplotlib") + blake2b(sources.encode()).hexdigest()


def draw(paint: Callable[[Any], None], what: str, height: float = 3.2) -> Markup:
    """A figure 4.3 inches wide (a card's width at its own scale), painted on one pair of axes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": what}), warnings.catch_warnings():
        # The page's fonts draw the text; matplotlib's own need not know every script.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        warnings.filterwarnings("ignore", "Matplotlib currently does not support", UserWarning)
        figure = Figure(figsize=(4.3, height), dpi=_DPI)
        axes = figure.add_subplot()
        # As many ticks as fit would change with the layout, which is made for those before.
        axes.locator_params(nbins=_TICKS)
        paint(axes)
        canvas = FigureCanvasSVG(figure)
        # `savefig` would draw everything twice.
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    return Markup(_inline(text.getvalue(), what))  # matplotlib has escaped all text in it


def _inline(svg: str, what: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r"font(-family)?: ([^;\"']*?)(\d+px )?'[^;\"]*", _font, svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for mark, variable in _VARIABLES.items():
        svg = svg.replace(mark, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(what)}"', 1)


def _font(match: re.Match[str]) -> str:
    size = match.group(3) or ""
    return f"font: {size}sans-serif" if size else "font-family: sans-serif"


def plain_numbers(axis: Any) -> None:
    """Tick labels like 30 k rather than powers of ten; to be called when limits are settled."""
    from matplotlib.ticker import (
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        NullLocator,
    )

    low, high = axis.get_view_interval()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = sum(low <= step * 10.0**decade <= high for decade in decades for step in (1, 3))
    # Where numbers are near each other, even steps: few, as they crowd at the upper end.
    few = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0)) if inside > 1 else few)
    axis.set_major_formatter(FuncFormatter(lambda x, _: _engineering(x)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _engineering(number: float) -> str:
    for power, suffix in ((9, " G"), (6, " M"), (3, " k"), (0, "")):
        if number >= 10**power:
            return f"{number / 10**power:.3g}{suffix}"
    return f"{number:.3g}"


def short(name: str, most: int = 18) -> str:
    """A name that fits beside a plot, without its middle; tables have the whole of it."""
    name, half = " ".join(name.split()), (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
