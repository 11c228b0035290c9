"""Where the plots are drawn: two palettes, two widths, and PNG bytes."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib import style
from matplotlib.figure import Figure

PIXELS_PER_INCH = 100  # of the page's own pixels; files have twice as many, for dense screens


@dataclass(frozen=True)
class Palette:
    """Colours of plots; the page's stylesheet has the same ones.

    Args:
        surface: Behind everything.
        ink: Text that matters.
        muted: Text of axes.
        line: Grids and frames.
        accent: The first series.
        second: The second series.
        low: End of the colour scale below 0.
        middle: Colour of 0.
        high: End of the colour scale above 0.
        hit: Frame of a relevant item.
        miss: Frame of any other.
    """

    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    second: str
    low: str
    middle: str
    high: str
    hit: str
    miss: str


LIGHT = Palette(
    surface="#ffffff",
    ink="#1c1b19",
    muted="#5f5d57",
    line="#e4e2dc",
    accent="#2566c8",
    second="#b4541a",
    low="#2566c8",
    middle="#f4f3ef",
    high="#b4541a",
    hit="#1a7f37",
    miss="#c62828",
)
DARK = Palette(
    surface="#1e1d1b",
    ink="#edece8",
    muted="#a9a79f",
    line="#3a3834",
    accent="#78acff",
    second="#f0995c",
    low="#78acff",
    middle="#2a2926",
    high="#f0995c",
    hit="#4ac26b",
    miss="#ff7b72",
)


def draw_png(
    draw: Callable[[Figure], None],
    size: tuple[float, float],
    palette: Palette,
    layout: Literal["constrained", "compressed"] | None = "constrained",
) -> bytes:
    """Let `draw` fill a figure, whatever style the user's matplotlib is set to, and encode it.

    Args:
        draw: Adds axes to the figure it is given.
        size: Width and height in pixels of the page.
        palette: Its colours.
        layout: How matplotlib places the axes; None if `draw` does.

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
