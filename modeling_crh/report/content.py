"""Hold the content of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.metrics import CenterSemantics, ClassFigures, PrecisionRecallCurve


@dataclass(frozen=True, eq=False)
class Neighbour:
    """An item of the database that a query found."""

    image: NDArray[np.uint8]  # pixels, (H, W, 3)
    labels: tuple[str, ...]  # names of the item's labels; any text
    distance: int  # from the query, in bits
    relevant: bool  # whether the item shares a label with the query


@dataclass(frozen=True, eq=False)
class SearchResult:
    """A query and its nearest items.

    Example:
        >>> black = np.zeros((28, 28, 3), np.uint8)
        >>> SearchResult(black, ("Coat",), (Neighbour(black, ("Coat",), distance=3, relevant=True),)).hits
        1
    """

    image: NDArray[np.uint8]  # pixels of the query, (H, W, 3)
    labels: tuple[str, ...]  # names of the query's labels; any text
    neighbours: tuple[Neighbour, ...]  # at least one, nearest first

    @property
    def hits(self) -> int:
        """Number of relevant neighbours."""
        return sum(item.relevant for item in self.neighbours)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same experiment with one thing changed, shown beside the report's own experiment."""

    own_name: str  # name of the report's own experiment, such as "reassigned centers"
    name: str  # name of the other experiment, such as "centers that never move"
    figures: Mapping[str, float]  # from `retrieval_figures`, as in `ReportContent`
    results: Sequence[SearchResult]  # by the same queries as in `ReportContent`, in the same order


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything that a report shows.

    Args:
        title: Title of the page.
        summary: Facts of the run, such as dataset, backbone, seed and seconds, in the order to show them.
        figures: Figures from `retrieval_figures`; missing figures are not shown.
        history: `log_history` of the trainer's state; may be empty.
        curve: Curve from `precision_recall_curve`.
        centers_before: Centers before the first reassignment, `(C, K)`, every entry -1 or +1.
        centers_after: Centers after the last reassignment, `(C, K)`; equal to `centers_before` if no class moved.
        label_names: Names of the C classes, in the order of the centers; any text.
        results: Searches to show, at least one; ten queries with ten neighbours each fit the page best.
        taxonomy: Names of the nodes above each of the C classes, the parent first, as in `tree_similarity`. It orders
            the tables of centers, with thin lines between its branches; None orders them by similarity of the centers.
        semantics: Correlations to show below the tables of centers; None shows none.
        comparison: Other experiment to show beside this one; None shows none.
        classes: Figures of the classes, from `figures_by_class`; the ten lowest are shown; None shows none.
    """

    title: str
    summary: Mapping[str, str | float | int]
    figures: Mapping[str, float]
    history: Sequence[Mapping[str, Any]]
    curve: PrecisionRecallCurve
    centers_before: Tensor
    centers_after: Tensor
    label_names: Sequence[str]
    results: Sequence[SearchResult]
    taxonomy: Sequence[Sequence[str]] | None = None
    semantics: Sequence[CenterSemantics] | None = None
    comparison: Comparison | None = None
    classes: Sequence[ClassFigures] | None = None

    @property
    def num_bits(self) -> int:
        """Number of bits of a code, K."""
        return self.centers_after.shape[1]
