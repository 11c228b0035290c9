"""Loss, mAP and the share of classes moved, over the epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from modeling_crh.report.canvas import Palette, draw_png

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
