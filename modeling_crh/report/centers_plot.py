"""How similar the centers of classes are, before the first and after the last reassignment."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from modeling_crh.report.canvas import Palette, draw_png, shorten
from modeling_crh.report.center_tables import Branch, center_tables
from modeling_crh.report.content import ReportContent

MOST_NAMES = {False: 40, True: 20}  # by `narrow`


def draw_centers(content: ReportContent, palette: Palette, *, narrow: bool) -> bytes:
    """Draw both tables of similarities in one order and on one colour scale.

    Args:
        content: With both sets of centers.
        palette: The colours.
        narrow: One below the other, for a phone, rather than side by side.

    Returns:
        A PNG file.
    """
    tables = center_tables(content)
    cells, rows = [tables.before, tables.after], len(tables.names)
    limit = color_limit(cells)
    named = rows <= MOST_NAMES[narrow]
    points = min(9.0, (170 if narrow else 260) / rows) if named else 8.0
    marks: list[tuple[float, str]] = list(enumerate(tables.names)) if named else _name_branches(tables.branches, narrow)
    names = [(place, shorten(name, 12 if narrow else 18)) for place, name in marks]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        images = [_draw_table(axes, table, limit, palette) for axes, table in zip(panels, cells, strict=True)]
        panels[0].set_title("Before" if narrow else "Before the first reassignment")
        panels[1].set_title("After" if narrow else "After the last reassignment")
        for axes, has_column_names, has_row_names in zip(panels, (not narrow, True), (True, narrow), strict=True):
            _name_places(axes, names, points, has_column_names, has_row_names)
            _part_branches(axes, tables.branches, palette)
        bar = figure.colorbar(
            images[0], ax=panels, location="bottom" if narrow else "right", shrink=0.7, aspect=30, pad=0.02
        )
        bar.set_label("mean similarity" if tables.has_nodes else "similarity", color=palette.muted)
        bar.outline.set_visible(False)

    return draw_png(draw, (350, 760) if narrow else (1000, 520), palette, "compressed")


def color_limit(tables: Sequence[NDArray[np.float64]]) -> float:
    """Largest similarity in magnitude, rounded up to a tenth.

    Args:
        tables: With NaN for what has no colour of the scale.

    Returns:
        Above 0 and at most 1.
    """
    values = np.abs(np.stack(tables))
    largest = float(values[~np.isnan(values)].max(initial=0.0))
    return min(1.0, np.ceil(10 * largest - 1e-9) / 10) or 1.0


def _draw_table(axes: Axes, table: NDArray[np.float64], limit: float, palette: Palette) -> AxesImage:
    colors = LinearSegmentedColormap.from_list("similarity", [palette.low, palette.middle, palette.high])
    scale = colors.with_extremes(bad=palette.muted)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return axes.imshow(table, cmap=scale, vmin=-limit, vmax=limit, interpolation="nearest")


def _name_branches(branches: list[Branch], narrow: bool) -> list[tuple[float, str]]:
    """Middle and name of each branch that is large enough for a line of text."""
    ends = np.cumsum([branch.size for branch in branches]).tolist()
    return [
        (end - (branch.size + 1) / 2, branch.name)
        for branch, end in zip(branches, ends, strict=True)
        if branch.size * MOST_NAMES[narrow] >= ends[-1]
    ]


def _part_branches(axes: Axes, branches: list[Branch], palette: Palette) -> None:
    for end in np.cumsum([branch.size for branch in branches])[:-1]:
        axes.axhline(end - 0.5, color=palette.ink, linewidth=0.5)
        axes.axvline(end - 0.5, color=palette.ink, linewidth=0.5)


def _name_places(
    axes: Axes, names: Sequence[tuple[float, str]], points: float, has_column_names: bool, has_row_names: bool
) -> None:
    places, texts = [place for place, _ in names], [text for _, text in names]
    axes.tick_params(length=0)
    axes.set_xticks(places if has_column_names else [])
    axes.set_yticks(places if has_row_names else [])
    if has_column_names:
        axes.set_xticklabels(texts, rotation=90, fontsize=points)
    if has_row_names:
        axes.set_yticklabels(texts, fontsize=points)
