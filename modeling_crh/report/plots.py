"""Plots of a report: precision and recall, training, and the contact sheet."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from modeling_crh.metrics import PrecisionRecallCurve
from modeling_crh.report.canvas import Palette, draw_png, shorten
from modeling_crh.report.content import SearchResult
from modeling_crh.runtime.html import SMALL_SIDE

LEAST_GAP = 0.13  # between two points that are labelled, so that their labels do not touch


def draw_precision_recall(curve: PrecisionRecallCurve, palette: Palette, *, narrow: bool) -> bytes:
    """Draw mean precision against mean recall, a point for each radius.

    Args:
        curve: From `precision_recall_curve`.
        palette: The colours.
        narrow: For a phone rather than a desk.

    Returns:
        A PNG file.
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
    """Choose the radii that have room for a label: each far enough from the one labelled before.

    Args:
        recall: By radius.
        precision: By radius.

    Returns:
        Radii, ascending, the first one 0.

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


MARKED_POINTS = 40  # a series with more has no markers


def draw_training(history: Sequence[Mapping[str, Any]], palette: Palette, *, narrow: bool) -> bytes:
    """Draw three panels; one whose keys are nowhere in `history` says so.

    Args:
        history: `log_history` of the trainer's state; may be empty.
        palette: The colours.
        narrow: Panels below one another, for a phone, rather than in a row.

    Returns:
        A PNG file.
    """

    def draw(figure: Figure) -> None:
        grid = (3, 1) if narrow else (1, 3)
        panels = [figure.add_subplot(*grid, number) for number in (1, 2, 3)]
        _draw_loss(panels[0], history, palette)
        _draw_map(panels[1], history, palette)
        _draw_moved(panels[2], history, palette)
        for axes in panels:
            axes.grid(visible=False, axis="x")
            if axes.lines:
                axes.set_xlim(0, 1.04 * max(1.0, axes.dataLim.x1))
                axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        for axes in panels[-1:] if narrow else panels:
            axes.set_xlabel("epoch")

    return draw_png(draw, (350, 640) if narrow else (1000, 300), palette)


def read_series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Take one key out of a trainer's log.

    Args:
        history: `log_history` of the trainer's state.
        key: Such as `loss`.

    Returns:
        The epochs and the values of the entries that have both.

    Example:
        >>> read_series([{"loss": 2.0, "epoch": 1.0}, {"eval_map": 0.5, "epoch": 1.0}], "loss")
        ([1.0], [2.0])
    """
    entries = [entry for entry in history if "epoch" in entry and key in entry]
    return [float(entry["epoch"]) for entry in entries], [float(entry[key]) for entry in entries]


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, Any]], palette: Palette) -> None:
    axes.set_title("Loss")
    drawn = _plot(axes, history, "loss", color=palette.accent, label="training")
    if _plot(axes, history, "eval_loss", color=palette.second, label="validation", linestyle="--"):
        axes.legend(labelcolor=palette.muted)
    elif not drawn:
        _say_missing(axes, palette)
    if drawn:
        axes.set_ylim(bottom=0)


def _draw_map(axes: Axes, history: Sequence[Mapping[str, Any]], palette: Palette) -> None:
    axes.set_title("mAP on validation")
    if not _plot(axes, history, "eval_map", color=palette.accent):
        _say_missing(axes, palette)
    epochs, lower = read_series(history, "eval_map_lower")
    upper_epochs, upper = read_series(history, "eval_map_upper")
    if lower and epochs == upper_epochs:
        axes.fill_between(epochs, lower, upper, color=palette.accent, alpha=0.18, linewidth=0)


def _draw_moved(axes: Axes, history: Sequence[Mapping[str, Any]], palette: Palette) -> None:
    axes.set_title("Share of classes moved")
    if _plot(axes, history, "eval_centers_moved", color=palette.accent):
        axes.set_ylim(-0.03, 1.03)
    else:
        _say_missing(axes, palette)


def _plot(axes: Axes, history: Sequence[Mapping[str, Any]], key: str, **look: Any) -> bool:
    epochs, values = read_series(history, key)
    if epochs:
        marker = "o" if len(epochs) <= MARKED_POINTS else None
        axes.plot(epochs, values, marker=marker, markersize=4, **look)
    return bool(epochs)


def _say_missing(axes: Axes, palette: Palette) -> None:
    axes.set(xticks=[], yticks=[])
    place = axes.transAxes
    axes.text(0.5, 0.5, "not logged", color=palette.muted, ha="center", va="center", transform=place)


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
