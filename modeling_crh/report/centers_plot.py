"""How similar the centers of classes are, before the first and after the last reassignment."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist
from torch import Tensor

from modeling_crh.report.canvas import Palette, draw_png, shorten
from modeling_crh.report.content import ReportContent

MOST_NAMES = {False: 40, True: 20}  # by `narrow`
MOST_FLIPPED = 300  # classes whose tree is turned so that neighbours are alike, which takes the cube of their number


def draw_centers(content: ReportContent, palette: Palette, *, narrow: bool) -> bytes:
    """Draw both tables of similarities in one order and on one colour scale.

    Args:
        content: With both sets of centers.
        palette: The colours.
        narrow: One below the other, for a phone, rather than side by side.

    Returns:
        A PNG file.
    """
    order = cluster_order(content.centers_after)
    tables = [
        similarities(centers)[np.ix_(order, order)] for centers in (content.centers_before, content.centers_after)
    ]
    limit = color_limit(tables)
    named = order if len(order) <= MOST_NAMES[narrow] else []
    names = [shorten(content.label_names[row], 12 if narrow else 18) for row in named]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        images = [_draw_table(axes, table, limit, palette) for axes, table in zip(panels, tables, strict=True)]
        panels[0].set_title("Before" if narrow else "Before the first reassignment")
        panels[1].set_title("After" if narrow else "After the last reassignment")
        points = min(9.0, (170 if narrow else 260) / len(order))
        for axes, has_column_names, has_row_names in zip(panels, (not narrow, True), (True, narrow), strict=True):
            _name_classes(axes, names, points, has_column_names, has_row_names)
        bar = figure.colorbar(
            images[0], ax=panels, location="bottom" if narrow else "right", shrink=0.7, aspect=30, pad=0.02
        )
        bar.set_label("similarity", color=palette.muted)
        bar.outline.set_visible(False)

    return draw_png(draw, (350, 760) if narrow else (1000, 520), palette, "compressed")


def similarities(centers: Tensor) -> NDArray[np.float64]:
    """Similarity z.z'/K of all pairs of centers.

    Args:
        centers: `(C, K)`, every entry -1 or +1.

    Returns:
        `(C, C)`, from -1, opposite, to 1, equal.

    Example:
        >>> similarities(torch.tensor([[1, 1], [1, -1]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    codes = centers.cpu().double().numpy()
    table: NDArray[np.float64] = codes @ codes.T / codes.shape[1]
    return table


def cluster_order(centers: Tensor) -> list[int]:
    """Order the classes so that similar ones stand together: the leaves of average linkage by Hamming distance.

    Args:
        centers: `(C, K)`, every entry -1 or +1.

    Returns:
        The C rows in that order.

    Example:
        >>> cluster_order(torch.tensor([[1, 1, 1, 1], [-1, -1, -1, -1], [1, 1, 1, -1], [-1, -1, 1, -1]]))
        [0, 2, 3, 1]
    """
    if len(centers) < 3:
        return list(range(len(centers)))
    distance = pdist(centers.cpu().numpy(), "hamming")
    order: list[int] = leaves_list(linkage(distance, "average", optimal_ordering=len(centers) <= MOST_FLIPPED)).tolist()
    return order


def color_limit(tables: list[NDArray[np.float64]]) -> float:
    """Largest similarity in magnitude off the diagonals, rounded up to a tenth; the diagonals are 1 anyhow.

    Args:
        tables: Each `(C, C)`.

    Returns:
        Above 0 and at most 1.
    """
    largest = max(float(np.abs(table - np.diag(np.diag(table))).max()) for table in tables)
    return min(1.0, np.ceil(10 * largest - 1e-9) / 10) or 1.0


def _draw_table(axes: Axes, table: NDArray[np.float64], limit: float, palette: Palette) -> AxesImage:
    colors = LinearSegmentedColormap.from_list("similarity", [palette.low, palette.middle, palette.high])
    scale = colors.with_extremes(bad=palette.muted)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return axes.imshow(
        np.where(np.eye(len(table)), np.nan, table), cmap=scale, vmin=-limit, vmax=limit, interpolation="nearest"
    )


def _name_classes(axes: Axes, names: list[str], points: float, has_column_names: bool, has_row_names: bool) -> None:
    places = range(len(names))
    axes.tick_params(length=0)
    axes.set_xticks(places if has_column_names else [])
    axes.set_yticks(places if has_row_names else [])
    if has_column_names:
        axes.set_xticklabels(names, rotation=90, fontsize=points)
    if has_row_names:
        axes.set_yticklabels(names, fontsize=points)
