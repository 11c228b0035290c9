"""Draw the plots of a report as PNG files in two palettes: precision and recall, training, and the contact sheet."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from modeling_crh.metrics import PrecisionRecallCurve
from modeling_crh.report.content import SearchResult
from modeling_crh.runtime.html import SMALL_SIDE

PIXELS_PER_INCH = 100  # pixels of the page; files have twice as many, for dense screens


class Palette(NamedTuple):
    """Colours of plots, the same as in the stylesheet of the pages."""

    surface: str  # background
    ink: str  # important text
    muted: str  # text of axes
    line: str  # grids and frames
    accent: str  # first series
    second: str  # second series
    hit: str  # frame of a relevant item
    miss: str  # frame of any other item


LIGHT = Palette("#ffffff", "#1c1b19", "#5f5d57", "#e4e2dc", "#2566c8", "#b4541a", "#1a7f37", "#c62828")
DARK = Palette("#1e1d1b", "#edece8", "#a9a79f", "#3a3834", "#78acff", "#f0995c", "#4ac26b", "#ff7b72")


def draw_png(
    draw: Callable[[Figure], None],
    size: tuple[float, float],
    palette: Palette,
    layout: Literal["constrained", "compressed"] | None = "constrained",
) -> bytes:
    """Draw a figure as the bytes of a PNG file, of twice the `size`, which is in pixels of the page.

    `draw` adds axes to a given figure, which a layout engine of matplotlib places; with `layout` None it places them.
    """
    with style.context(["default", _settings(palette)]):
        width, height = size
        figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), layout=layout)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=2 * PIXELS_PER_INCH, metadata={"Software": None})
    return file.getvalue()


def shorten(text: str, limit: int) -> str:
    r"""Fit a label into one line of at most `limit` characters, without characters that no font can draw.

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


LEAST_GAP = 0.13  # between labelled points, so that their labels do not touch


def draw_precision_recall(curve: PrecisionRecallCurve, palette: Palette, *, narrow: bool) -> bytes:
    """Draw mean precision against mean recall, a point for each radius.

    Args:
        curve: Curve from `precision_recall_curve`.
        palette: Colours of the plot.
        narrow: Whether to draw for a phone, with panels below one another.

    Returns:
        Bytes of a PNG file.
    """
    recall, precision = curve.recall.tolist(), curve.precision.tolist()

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.02, 1.08), xlabel="recall", ylabel="precision")
        axes.axhline(precision[-1], color=palette.muted, linewidth=1.2, linestyle=(0, (4, 3)))
        note = f"everything found: {precision[-1]:.2f}"
        axes.annotate(note, (0, precision[-1]), (0, 5), textcoords="offset points", color=palette.muted)
        axes.plot(recall, precision, color=palette.accent, marker="o", markersize=4, clip_on=False)
        for radius in labelled_radii(recall, precision):
            point = (recall[radius], precision[radius])
            text = axes.annotate(str(radius), point, (5, 5), textcoords="offset points", color=palette.ink)
            text.set_path_effects([withStroke(linewidth=3, foreground=palette.surface)])

    return draw_png(draw, (350, 300) if narrow else (620, 400), palette)


def labelled_radii(recall: list[float], precision: list[float]) -> list[int]:
    """Choose the radii to label, 0 first: each far enough from the last labelled one.

    Example:
        >>> labelled_radii([0.0, 0.05, 0.5, 1.0], [1.0, 1.0, 0.9, 0.1])
        [0, 2, 3]
    """
    chosen = [0]
    for radius in range(1, len(recall)):
        last = chosen[-1]
        if math.hypot(recall[radius] - recall[last], precision[radius] - precision[last]) >= LEAST_GAP:
            chosen.append(radius)
    return chosen


MARKED_POINTS = 40  # longer series have no markers


def draw_training(history: Sequence[Mapping[str, Any]], palette: Palette, *, narrow: bool) -> bytes:
    """Draw three panels from the `log_history` of the trainer's state; a panel without data says "not logged".

    The other arguments and the result are those of `draw_precision_recall`.
    """
    accent, second = {"color": palette.accent}, {"color": palette.second, "linestyle": "--", "label": "validation"}
    titles = ("Loss", "mAP on validation", "Share of classes moved")

    def draw(figure: Figure) -> None:
        panels = figure.subplots(3, 1) if narrow else figure.subplots(1, 3)
        loss, quality, moved = panels
        if _plot(loss, history, "loss", label="training", **accent):
            loss.set_ylim(bottom=0)
        if _plot(loss, history, "eval_loss", **second):
            loss.legend(labelcolor=palette.muted)
        _plot(quality, history, "eval_map", **accent)
        epochs, lower = read_series(history, "eval_map_lower")
        upper_epochs, upper = read_series(history, "eval_map_upper")
        if lower and epochs == upper_epochs:
            quality.fill_between(epochs, lower, upper, color=palette.accent, alpha=0.18, linewidth=0)
        if _plot(moved, history, "eval_centers_moved", **accent):
            moved.set_ylim(-0.03, 1.03)
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title)
            axes.grid(visible=False, axis="x")
            if axes.lines:
                axes.set_xlim(0, 1.04 * max(1.0, axes.dataLim.x1))
                axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
            else:
                axes.set(xticks=[], yticks=[])
                place = {"ha": "center", "va": "center", "transform": axes.transAxes}
                axes.text(0.5, 0.5, "not logged", color=palette.muted, **place)
            if axes is moved or not narrow:
                axes.set_xlabel("epoch")

    return draw_png(draw, (350, 640) if narrow else (1000, 300), palette)


def read_series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Read the epochs and values of a key, such as `loss`, from a trainer's log.

    Example:
        >>> read_series([{"loss": 2.0, "epoch": 1.0}, {"eval_map": 0.5, "epoch": 1.0}], "loss")
        ([1.0], [2.0])
    """
    entries = [entry for entry in history if "epoch" in entry and key in entry]
    return [float(entry["epoch"]) for entry in entries], [float(entry[key]) for entry in entries]


def _plot(axes: Axes, history: Sequence[Mapping[str, Any]], key: str, **look: Any) -> bool:
    """Draw a series of the log; return whether there is one."""
    epochs, values = read_series(history, key)
    if epochs:
        axes.plot(epochs, values, marker="o" if len(epochs) <= MARKED_POINTS else None, markersize=4, **look)
    return bool(epochs)


TILE = 92  # side of a picture, in pixels of the page
COLUMN, ROW = 106, 146  # from one picture to the next
GAP = 24  # between the query and its neighbours
LABEL_LENGTH = 16


def draw_contact_sheet(results: Sequence[SearchResult], palette: Palette) -> bytes:
    """Draw a row of pictures per search as PNG; hits have ticks and solid frames, misses crosses and dashed ones."""
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
                color, line = (palette.hit, "-") if item.relevant else (palette.miss, (0, (3, 2)))
                _draw_tile(axes, item.image, corner)
                look: Any = {"edgecolor": color, "linewidth": 2.4, "linestyle": line, "joinstyle": "miter"}
                axes.add_patch(Rectangle(corner, TILE, TILE, fill=False, capstyle="butt", **look))
                mark = f"{'✓' if item.relevant else '✗'} {item.distance} {'bit' if item.distance == 1 else 'bits'}"
                _write(axes, corner, mark, color, _name(item.labels), palette.muted)

    return draw_png(draw, (width, height), palette, None)


def _draw_tile(axes: Axes, image: NDArray[np.uint8], corner: tuple[int, int]) -> None:
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    left, top = corner[0] + (TILE - width * scale) / 2, corner[1] + (TILE - height * scale) / 2
    way = "nearest" if max(height, width) <= SMALL_SIDE else "antialiased"
    axes.imshow(image, extent=(left, left + width * scale, top + height * scale, top), interpolation=way, aspect="auto")


def _write(axes: Axes, corner: tuple[int, int], first: str, first_color: str, second: str, second_color: str) -> None:
    axes.text(corner[0], corner[1] + TILE + 17, first, color=first_color, fontsize=8, weight="bold")
    axes.text(corner[0], corner[1] + TILE + 32, second, color=second_color, fontsize=8)


def _name(labels: tuple[str, ...]) -> str:
    return shorten(", ".join(labels), LABEL_LENGTH) or "no label"
