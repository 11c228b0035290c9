"""Which classes stand where in the tables of centers, and what their cells hold."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist
from torch import Tensor

from modeling_crh.metrics import center_similarity
from modeling_crh.report.content import ReportContent

MOST_CLASSES = 40
"""More of them, where there is a taxonomy, are drawn as the nodes that they lie under."""

MOST_FLIPPED = 300  # classes whose tree is turned so that neighbours are alike, which takes the cube of their number


class Branch(NamedTuple):
    """Classes that stand together in a table, since they lie under one node of a taxonomy.

    Attributes:
        name: Of the node; empty for classes that lie under nothing.
        size: How many classes.
    """

    name: str
    size: int


class CenterTables(NamedTuple):
    """Similarities of centers before the first and after the last reassignment, in one order.

    Attributes:
        before: `(R, R)`, NaN where a row and a column have no pair of different classes.
        after: The same.
        names: Of the R rows: classes, or what they lie under.
        branches: What lines part, in the order of the rows; none without a taxonomy.
        has_nodes: Whether a row is a node of the taxonomy: a cell is then the mean over the pairs of different classes.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    names: list[str]
    branches: list[Branch]
    has_nodes: bool


def center_tables(content: ReportContent) -> CenterTables:
    """Both tables of a report.

    Args:
        content: With both sets of centers.
    """
    order, branches = class_order(content)
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
    """Mean of a table over the rows and columns of each node, without the diagonal.

    Args:
        table: `(C, C)`.
        nodes: Of each of the C rows, equal ones side by side.

    Returns:
        `(R, R)` for R different nodes, NaN for a node of one row with itself.

    Example:
        >>> mean_by_node(np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]]), [("a",), ("a",), ("b",)])
        array([[0.5, 0.2],
               [0.2, nan]])
    """
    ids = {node: number for number, node in enumerate(dict.fromkeys(nodes))}
    member = np.zeros((len(ids), len(nodes)))
    member[[ids[node] for node in nodes], np.arange(len(nodes))] = 1
    sizes = member.sum(1)
    pairs = np.outer(sizes, sizes) - np.diag(sizes)  # (R, R), of different rows
    sums = member @ np.where(np.eye(len(nodes)), 0.0, table) @ member.T
    means: NDArray[np.float64] = np.where(pairs > 0, sums / np.maximum(pairs, 1), np.nan)
    return means


def class_order(content: ReportContent) -> tuple[list[int], list[Branch]]:
    """The C rows in the order of the tables, and the branches that lines part; none without a taxonomy."""
    if content.taxonomy is None:
        return cluster_order(content.centers_after), []
    return taxonomy_order(content.taxonomy)


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


def taxonomy_order(taxonomy: Sequence[Sequence[str]]) -> tuple[list[int], list[Branch]]:
    """Order the classes by a taxonomy: branches, and the branches in them, in the order of their first class.

    Args:
        taxonomy: For each class the names of what it lies under, the nearest first.

    Returns:
        The C rows in that order, and the branches of the highest level that has more than one.

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
