"""The canvas of all plots: two palettes, and figures that become PNG bytes whatever matplotlib is set to."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib import style
from matplotlib.figure import Figure

PIXELS_PER_INCH = 100  # of the page's own pixels; files have twice as many, for dense screens


@dataclass(frozen=True)
class Palette:
    """Colours of plots; the stylesheet of the pages has the same ones.

    Args:
        surface: Background.
        ink: Text that matters.
        muted: Text of axes.
        line: Grids and frames.
        accent: First series.
        second: Second series.
        hit: Frame of a relevant item.
        miss: Frame of any other item.
    """

    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    second: str
    hit: str
    miss: str


LIGHT = Palette("#ffffff", "#1c1b19", "#5f5d57", "#e4e2dc", "#2566c8", "#b4541a", "#1a7f37", "#c62828")
DARK = Palette("#1e1d1b", "#edece8", "#a9a79f", "#3a3834", "#78acff", "#f0995c", "#4ac26b", "#ff7b72")


def draw_png(
    draw: Callable[[Figure], None],
    size: tuple[float, float],
    palette: Palette,
    layout: Literal["constrained", "compressed"] | None = "constrained",
) -> bytes:
    """Draw a figure as a PNG file.

    Args:
        draw: Function that adds axes to the figure it is given.
        size: Width and height in pixels of the page.
        palette: Colours of the figure.
        layout: How matplotlib places the axes; None where `draw` places them.

    Returns:
        A PNG file of twice that size.
    """
    with style.context(["default", _settings(palette)]):
        width, height = size
        figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), layout=layout)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=2 * PIXELS_PER_INCH, metadata={"Software": None})
    return file.getvalue()


def shorten(text: str, limit: int) -> str:
    r"""Fit a label into one line of a plot, of at most `limit` characters, without what no font can draw.

    Example:
        >>> shorten("a label\nof two lines", 9)
        'a label…'
    """
    line = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _settings(palette: Palette) -> dict[str, Any]:
    return {
        "font.size": 9,
        "text.color": palette.ink,
        "text.parse_math": False,  # a label with two dollar signs is no formula
        "figure.facecolor": palette.surface,
        "axes.facecolor": palette.surface,
        "axes.edgecolor": palette.line,
        "axes.labelcolor": palette.muted,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": palette.line,
        "grid.linewidth": 0.8,
        "xtick.color": palette.line,
        "ytick.color": palette.line,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "lines.linewidth": 2,
        "legend.frameon": False,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
    }
