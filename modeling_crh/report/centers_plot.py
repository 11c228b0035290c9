"""Compare the similarity of centers before and after training, in tables of one order and in a plot."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist
from torch import Tensor

from modeling_crh.metrics import center_similarity
from modeling_crh.report.content import ReportContent
from modeling_crh.report.plots import Palette, draw_png, shorten

MOST_CLASSES = 40
"""Most classes with a taxonomy that are drawn as rows; if there are more, their parent nodes are drawn."""

MOST_FLIPPED = 300  # most classes with an optimal order of leaves, which takes cubic time


class Branch(NamedTuple):
    """Consecutive classes in a table that lie under one node of a taxonomy."""

    name: str  # of the node; empty for classes without a node
    size: int  # number of classes


class CenterTables(NamedTuple):
    """Similarities of centers before the first and after the last reassignment, in one order."""

    before: NDArray[np.float64]  # (R, R); NaN where a row and a column have no pair of different classes
    after: NDArray[np.float64]  # (R, R), with the same NaN
    names: list[str]  # of the R rows: classes, or nodes above them
    branches: list[Branch]  # separated by lines, in the order of the rows; empty without a taxonomy
    has_nodes: bool  # whether rows are nodes of the taxonomy, and cells means over pairs of different classes


def center_tables(content: ReportContent) -> CenterTables:
    """Make both tables of a report, in the order of the taxonomy, or else of the final similarity."""
    order, branches = taxonomy_order(content.taxonomy or [()] * len(content.centers_after))
    if content.taxonomy is None:
        order, branches = cluster_order(content.centers_after), []
    before, after = (
        center_similarity(centers).fill_diagonal_(np.nan).numpy()[np.ix_(order, order)]
        for centers in (content.centers_before, content.centers_after)
    )
    if content.taxonomy is None or len(order) <= MOST_CLASSES:
        return CenterTables(before, after, [content.label_names[row] for row in order], branches, has_nodes=False)
    paths = [tuple(content.taxonomy[row]) for row in order]
    nodes = list(dict.fromkeys(paths))
    names = [path[0] if path else "" for path in nodes]
    before, after = mean_by_node(before, paths), mean_by_node(after, paths)
    return CenterTables(before, after, names, taxonomy_order(nodes)[1], has_nodes=True)


def mean_by_node(table: NDArray[np.float64], nodes: Sequence[tuple[str, ...]]) -> NDArray[np.float64]:
    """Average a table `(C, C)` over the rows and columns of each node, without the diagonal.

    Returns:
        `(R, R)` for R different nodes; NaN for a node of one row with itself.

    Example:
        >>> mean_by_node(np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]]), [("a",), ("a",), ("b",)])
        array([[0.5, 0.2],
               [0.2, nan]])
    """
    ids = {node: number for number, node in enumerate(dict.fromkeys(nodes))}
    member = np.zeros((len(ids), len(nodes)))
    member[[ids[node] for node in nodes], np.arange(len(nodes))] = 1
    sizes = member.sum(1)
    pairs = np.outer(sizes, sizes) - np.diag(sizes)  # (R, R), pairs of different rows
    sums = member @ np.where(np.eye(len(nodes)), 0.0, table) @ member.T
    means: NDArray[np.float64] = np.where(pairs > 0, sums / np.maximum(pairs, 1), np.nan)
    return means


def cluster_order(centers: Tensor) -> list[int]:
    """Order the rows of centers `(C, K)` so that similar ones are neighbours, by average linkage of Hamming distances.

    Example:
        >>> cluster_order(torch.tensor([[1, 1, 1, 1], [-1, -1, -1, -1], [1, 1, 1, -1], [-1, -1, 1, -1]]))
        [0, 2, 3, 1]
    """
    if len(centers) < 3:
        return list(range(len(centers)))
    distance = pdist(centers.cpu().numpy(), "hamming")
    order: list[int] = leaves_list(linkage(distance, "average", optimal_ordering=len(centers) <= MOST_FLIPPED)).tolist()
    return order


def taxonomy_order(taxonomy: Sequence[Sequence[str]]) -> tuple[list[int], list[Branch]]:
    """Order the classes by a taxonomy: branches, and the branches in them, in the order of their first class.

    Args:
        taxonomy: Names of the nodes above each class, the parent first.

    Returns:
        The C rows in that order, and the branches of the highest level with more than one.

    Example:
        >>> taxonomy_order([["birds", "animals"], ["cars", "things"], ["cats", "animals"], ["birds", "animals"]])
        ([0, 3, 2, 1], [Branch(name='animals', size=3), Branch(name='things', size=1)])
    """
    down = [tuple(reversed(path)) for path in taxonomy]
    nodes = [[path[: depth + 1] for depth in range(len(path))] for path in down]
    rank = {node: number for number, node in enumerate(dict.fromkeys(node for path in nodes for node in path))}
    order = sorted(range(len(down)), key=lambda row: [rank[node] for node in nodes[row]])
    level = 0
    while len({path[: level + 1] for path in down}) == 1 and level < len(down[0]):
        level += 1
    keys = [down[row][: level + 1] for row in order]
    sizes = {key: keys.count(key) for key in dict.fromkeys(keys)}
    return order, [Branch(key[level] if len(key) > level else "", size) for key, size in sizes.items()]


MOST_NAMES = {False: 40, True: 20}  # most rows that are all named, by `narrow`


def draw_centers(tables: CenterTables, palette: Palette, *, narrow: bool) -> bytes:
    """Draw both tables of `center_tables` in one order and on one colour scale.

    The other arguments and the result are those of `draw_precision_recall`.
    """
    rows, limit = len(tables.names), color_limit([tables.before, tables.after])
    named = rows <= MOST_NAMES[narrow]
    points = min(9.0, (170 if narrow else 260) / rows) if named else 8.0
    marks = list(enumerate(tables.names)) if named else _name_branches(tables.branches, narrow)
    names = [(place, shorten(name, 12 if narrow else 18)) for place, name in marks]
    titles = ("Before", "After") if narrow else ("Before the first reassignment", "After the last reassignment")
    scale = colormaps["coolwarm"].with_extremes(bad=palette.surface)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        for axes, title, table in zip(panels, titles, (tables.before, tables.after), strict=True):
            axes.set_title(title)
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            image = axes.imshow(table, cmap=scale, vmin=-limit, vmax=limit, interpolation="nearest")
            is_first = axes is panels[0]
            _name_places(axes, names, points, columns=not (narrow and is_first), rows=narrow or is_first)
            for end in np.cumsum([branch.size for branch in tables.branches])[:-1]:
                axes.axhline(end - 0.5, color="black", linewidth=0.5)
                axes.axvline(end - 0.5, color="black", linewidth=0.5)
        place = "bottom" if narrow else "right"
        bar = figure.colorbar(image, ax=panels, location=place, shrink=0.7, aspect=30, pad=0.02)
        bar.set_label("mean similarity" if tables.has_nodes else "similarity", color=palette.muted)
        bar.outline.set_visible(False)

    return draw_png(draw, (350, 760) if narrow else (1000, 520), palette, "compressed")


def color_limit(tables: Sequence[NDArray[np.float64]]) -> float:
    """Find the largest absolute similarity, without NaN, rounded up to a tenth: above 0 and at most 1."""
    values = np.abs(np.stack(tables))
    largest = float(values[~np.isnan(values)].max(initial=0.0))
    return min(1.0, np.ceil(10 * largest - 1e-9) / 10) or 1.0


def _name_branches(branches: list[Branch], narrow: bool) -> list[tuple[float, str]]:
    """Return the middle and name of each branch that is large enough for a line of text."""
    ends = np.cumsum([branch.size for branch in branches]).tolist()
    return [
        (end - (branch.size + 1) / 2, branch.name)
        for branch, end in zip(branches, ends, strict=True)
        if branch.size * MOST_NAMES[narrow] >= ends[-1]
    ]


def _name_places(axes: Axes, names: Sequence[tuple[float, str]], points: float, *, columns: bool, rows: bool) -> None:
    places, texts = [place for place, _ in names], [text for _, text in names]
    axes.tick_params(length=0)
    axes.set_xticks(places if columns else [], texts if columns else [], rotation=90, fontsize=points)
    axes.set_yticks(places if rows else [], texts if rows else [], fontsize=points)
