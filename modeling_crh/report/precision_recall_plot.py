"""The precision-recall curve of lookups within every radius."""

import math

from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from modeling_crh.metrics import PrecisionRecallCurve
from modeling_crh.report.canvas import Palette, draw_png

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
