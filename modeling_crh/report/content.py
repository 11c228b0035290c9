"""Hold and check the content of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.metrics import CenterSemantics, ClassFigures, PrecisionRecallCurve
from modeling_crh.metrics.counting import check_codes


@dataclass(frozen=True, eq=False)
class Neighbour:
    """An item of the database that a query found.

    Args:
        image: Pixels, `(H, W, 3)` uint8.
        labels: Names of the item's labels; any text.
        distance: Distance from the query, in bits.
        relevant: Whether the item shares a label with the query.

    Raises:
        ValueError: If `image` has another shape or type, or `distance` is negative.
    """

    image: NDArray[np.uint8]
    labels: tuple[str, ...]
    distance: int
    relevant: bool

    def __post_init__(self) -> None:
        _check_image(self.image)
        if self.distance < 0:
            raise ValueError(f"`distance` must be 0 or more bits, but got {self.distance}.")


@dataclass(frozen=True, eq=False)
class SearchResult:
    """A query and its nearest items.

    Args:
        image: Pixels of the query, `(H, W, 3)` uint8.
        labels: Names of the query's labels; any text.
        neighbours: Nearest items, at least one, nearest first.

    Raises:
        ValueError: If `image` has another shape or type, or `neighbours` are empty or not sorted.

    Example:
        >>> black = np.zeros((28, 28, 3), np.uint8)
        >>> SearchResult(black, ("Coat",), (Neighbour(black, ("Coat",), distance=3, relevant=True),)).hits
        1
    """

    image: NDArray[np.uint8]
    labels: tuple[str, ...]
    neighbours: tuple[Neighbour, ...]

    def __post_init__(self) -> None:
        _check_image(self.image)
        distances = [item.distance for item in self.neighbours]
        if not distances or distances != sorted(distances):
            raise ValueError(
                f"`neighbours` must hold at least one item, nearest first, but got the distances {distances}."
            )

    @property
    def hits(self) -> int:
        """Number of relevant neighbours."""
        return sum(item.relevant for item in self.neighbours)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same experiment with one thing changed, shown beside the report's own experiment.

    Args:
        own_name: Name of the report's own experiment, such as "reassigned centers".
        name: Name of the other experiment, such as "centers that never move".
        figures: Figures from `retrieval_figures`, as in `ReportContent`.
        results: Searches by the same queries as in `ReportContent`, in the same order.
    """

    own_name: str
    name: str
    figures: Mapping[str, float]
    results: Sequence[SearchResult]


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

    Raises:
        ValueError: If centers, names, taxonomy, curve and comparison do not fit together, or `results` is empty.
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

    def __post_init__(self) -> None:
        check_codes("centers_before", self.centers_before)
        check_codes("centers_after", self.centers_after)
        before, after = tuple(self.centers_before.shape), tuple(self.centers_after.shape)
        if before != after:
            raise ValueError(f"`centers_after` must have the shape of `centers_before`, {before}, but got {after}.")
        if len(self.label_names) != after[0]:
            raise ValueError(f"`label_names` must hold C={after[0]} names, but got {len(self.label_names)}.")
        paths = self.taxonomy
        if paths is not None and (len(paths) != after[0] or any(isinstance(path, str) for path in paths)):
            raise ValueError(f"`taxonomy` must hold C={after[0]} lists of names, but got {paths!r:.80}.")
        if len(self.curve.radius) != after[1] + 1:
            raise ValueError(
                f"`curve` must have a point for each radius from 0 to K={after[1]}, "
                f"but got {len(self.curve.radius)} points."
            )
        if not self.results:
            raise ValueError("`results` must hold at least one search, but is empty.")
        if self.comparison is not None and len(self.comparison.results) != len(self.results):
            raise ValueError(
                f"`comparison` must show the same {len(self.results)} queries, but shows "
                f"{len(self.comparison.results)}."
            )

    @property
    def num_bits(self) -> int:
        """Number of bits of a code, K."""
        return self.centers_after.shape[1]


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        raise ValueError(f"`image` must be (H, W, 3) uint8, but got shape {image.shape} of {image.dtype}.")
