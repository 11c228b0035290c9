"""Queries and their nearest items as one picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from modeling_crh.picture_uri import SMALL_SIDE
from modeling_crh.report.canvas import Palette, draw_png, shorten
from modeling_crh.report.content import SearchResult

TILE = 92  # side of a picture, in pixels of the page
COLUMN, ROW = 106, 146  # from one picture to the next
GAP = 24  # between the query and its neighbours
LABEL_LENGTH = 16


def draw_contact_sheet(results: Sequence[SearchResult], palette: Palette) -> bytes:
    """Draw a row for each query: hits with a tick in a solid frame, misses with a cross in a dashed one.

    Args:
        results: At least one.
        palette: The colours.

    Returns:
        A PNG file.
    """
    columns = max(len(result.neighbours) for result in results)
    width, height = (columns + 1) * COLUMN + GAP + 14, len(results) * ROW + 14

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(-14, width - 14), ylim=(height - 14, -14))  # one unit is one pixel, and y grows downwards
        axes.axis("off")
        for row, result in enumerate(results):
            hits = f"{result.hits} of {len(result.neighbours)} hits"
            _draw_tile(axes, result.image, (0, row * ROW))
            _write(axes, (0, row * ROW), _name(result.labels), palette.ink, hits, palette.muted)
            for column, item in enumerate(result.neighbours, 1):
                corner = (column * COLUMN + GAP, row * ROW)
                color = palette.hit if item.relevant else palette.miss
                _draw_tile(axes, item.image, corner)
                axes.add_patch(_frame(corner, color, dashed=not item.relevant))
                mark = f"{'✓' if item.relevant else '✗'} {item.distance} {'bit' if item.distance == 1 else 'bits'}"
                _write(axes, corner, mark, color, _name(item.labels), palette.muted)

    return draw_png(draw, (width, height), palette, None)


def _draw_tile(axes: Axes, image: NDArray[np.uint8], corner: tuple[int, int]) -> None:
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    left, top = corner[0] + (TILE - width * scale) / 2, corner[1] + (TILE - height * scale) / 2
    way = "nearest" if max(height, width) <= SMALL_SIDE else "antialiased"
    axes.imshow(image, extent=(left, left + width * scale, top + height * scale, top), interpolation=way, aspect="auto")


def _frame(corner: tuple[int, int], color: str, *, dashed: bool) -> Rectangle:
    line = (0, (3, 2)) if dashed else "-"
    return Rectangle(
        corner,
        TILE,
        TILE,
        fill=False,
        edgecolor=color,
        linewidth=2.4,
        linestyle=line,
        capstyle="butt",
        joinstyle="miter",
    )


def _write(axes: Axes, corner: tuple[int, int], first: str, first_color: str, second: str, second_color: str) -> None:
    axes.text(corner[0], corner[1] + TILE + 17, first, color=first_color, fontsize=8, weight="bold")
    axes.text(corner[0], corner[1] + TILE + 32, second, color=second_color, fontsize=8)


def _name(labels: tuple[str, ...]) -> str:
    return shorten(", ".join(labels), LABEL_LENGTH) or "no label"
