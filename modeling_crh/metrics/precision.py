"""Average precision, tie-aware with bounds, by class, and by the convention of papers, and precision and recall.

All figures but the convention are computed from the counts of `count_by_distance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from modeling_crh.checks import check_whole
from modeling_crh.losses import NO_LABEL, check_labels
from modeling_crh.metrics.counting import DistanceCounts, check_top, prepare_retrieval


def average_precision(counts: DistanceCounts) -> Tensor:
    """Compute the expected average precision of each query over all orders of the items at equal distance.

    This is the closed form of McSherry and Najork (ECIR 2008), summed over the distances. It does not depend on the
    order of the database. The divisor is the number of relevant items in the whole database; a query without one
    scores 0.

    Returns:
        `(Q,)` `float64`, from 0 to 1.

    Example:
        >>> average_precision(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])))
        tensor([0.7083], dtype=torch.float64)
    """
    return _per_relevant(expected_precision_sums(*_groups(counts)), counts)


def average_precision_at_r(counts: DistanceCounts) -> Tensor:
    """Compute the expected average precision at R of each query over all orders of the items at equal distance.

    This is MAP@R of Musgrave et al. (A Metric Learning Reality Check, ECCV 2020) before its mean over the queries: R is
    the number of relevant items of the query in the whole database, only the first R places count, and the divisor is
    R. A query without a relevant item scores 0.

    Returns:
        `(Q,)` `float64`, from 0 to 1.

    Example:
        >>> average_precision_at_r(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])))
        tensor([0.3750], dtype=torch.float64)
    """
    n, r, n0, r0 = _groups(counts)
    places = (counts.num_relevant[:, None] - n0).clamp(min=0).minimum(n)  # of each group, among the first R
    return _per_relevant(expected_precision_sums(n, r, n0, r0, places), counts)


def expected_precision_sums(n: Tensor, r: Tensor, n0: Tensor, r0: Tensor, places: Tensor | None = None) -> Tensor:
    """Compute, for each group of tied items, the expected sum of the precision at its relevant items.

    Args:
        n: Items of each group, any shape, `float64`.
        r: Relevant items of each group, in the same shape.
        n0: Items before each group.
        r0: Relevant items before each group.
        places: First places of each group to sum over, up to `n`; None sums over all.
    """
    places = n if places is None else places
    # Place i of the group is relevant with probability r / n, and then (i - 1) * slope relevant ones of the group are
    # expected before it. The bracket is the sum over i of (r0 + 1 + (i - 1) * slope) / (n0 + i).
    slope = torch.where(n > 1, (r - 1) / (n - 1), 1.0)  # a group of one has no (i - 1); 1.0 keeps its sum exact
    return r / n.clamp(min=1) * (slope * places + (r0 + 1 - slope * (n0 + 1)) * _reciprocals(n0, places))


def average_precision_bounds(counts: DistanceCounts) -> tuple[Tensor, Tensor]:
    """Compute the average precision of each query with every tie resolved against the query, and for it.

    Returns:
        The lower and the upper bound, each `(Q,)` `float64`. A query without a relevant item has 0 for both.

    Example:
        >>> average_precision_bounds(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])))
        (tensor([0.5833], dtype=torch.float64), tensor([0.8333], dtype=torch.float64))
    """
    n, r, n0, r0 = _groups(counts)
    bounds = []
    for before in (n0 + n - r, n0):  # the relevant items of the group come last, then first
        # The sum over i = 1..r of (r0 + i) / (before + i).
        bounds.append(_per_relevant(r + (r0 - before) * _reciprocals(before, r), counts))
    return bounds[0], bounds[1]


def _groups(counts: DistanceCounts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, r = counts.items.double(), counts.relevant.double()
    return n, r, n.cumsum(dim=1) - n, r.cumsum(dim=1) - r


def _reciprocals(start: Tensor, length: Tensor) -> Tensor:
    """Sum 1 / (start + i) over i = 1..length, a difference of harmonic numbers, by the digamma function."""
    return torch.digamma(start + length + 1) - torch.digamma(start + 1)


def _per_relevant(sums: Tensor, counts: DistanceCounts) -> Tensor:
    return sums.sum(dim=1) / counts.num_relevant.clamp(min=1)


class ClassFigures(NamedTuple):
    """Figures of one class.

    Attributes:
        name: Name of the class.
        map: Mean of the average precision over the queries of the class; None without a query.
        queries: Number of queries of the class.
        database: Number of items of the class in the database.
    """

    name: str
    map: float | None
    queries: int
    database: int


def figures_by_class(
    precision: Tensor, query_labels: Tensor, database_labels: Tensor, names: Sequence[str]
) -> list[ClassFigures]:
    """Average the average precision over the queries of each class; a query with several labels counts in each.

    Args:
        precision: Average precision of each query, `(Q,)`, such as from `average_precision`.
        query_labels: Class numbers `(Q,)`, -100 for no label, or multi-hot rows `(Q, C)` of 0 and 1.
        database_labels: Labels of the database, `(N,)` or `(N, C)`, of the same kind.
        names: Names of the C classes.

    Returns:
        The figures of every class, in the order of `names`.

    Raises:
        ValueError: If labels are out of range or fractional, or not one a query.

    Example:
        >>> labels = torch.tensor([0, 0, 1])
        >>> figures_by_class(torch.tensor([0.5, 1.0, 0.25]), labels, labels, ["cat", "dog"])[0]
        ClassFigures(name='cat', map=0.75, queries=2, database=2)
    """
    (queries, items), size = (query_labels.cpu(), database_labels.cpu()), len(names)
    check_labels(queries, size, len(precision))
    check_labels(items, size)
    sums = _sums_by_class(queries, precision.cpu().double(), size).tolist()
    counts = [_sums_by_class(labels, torch.ones(len(labels), dtype=torch.float64), size) for labels in (queries, items)]
    rows = zip(names, sums, counts[0].long().tolist(), counts[1].long().tolist(), strict=True)
    return [ClassFigures(name, total / found if found else None, found, stored) for name, total, found, stored in rows]


def worst_classes(figures: Sequence[ClassFigures], most: int = 10) -> list[ClassFigures]:
    """Return the classes with the lowest `map`, lowest first; classes without a query are left out.

    Example:
        >>> worst_classes([ClassFigures("cat", 0.75, 2, 2), ClassFigures("dog", 0.25, 1, 1)], most=1)
        [ClassFigures(name='dog', map=0.25, queries=1, database=1)]
    """
    return sorted((one for one in figures if one.map is not None), key=lambda one: one.map or 0.0)[:most]


def _sums_by_class(labels: Tensor, values: Tensor, size: int) -> Tensor:
    """Sum the `(Q,)` values of the rows of each class, `(C,)`."""
    if labels.ndim == 2:
        return labels.double().T @ values
    known = labels != NO_LABEL
    return torch.zeros(size, dtype=torch.float64).index_add_(0, labels[known].long(), values[known])


def convention_average_precision(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    top_r: int | None = None,
    leave_one_out: bool = False,
) -> Tensor:
    """Compute the average precision of each query over the first `top_r` places of a stable sort by distance.

    Ties keep the order of the database. The arguments are those of `count_by_distance`; `top_r` is from 1 to the number
    of items that each query ranks, the default.

    Returns:
        `(Q,)` `float64`. The divisor is the number of relevant items in the first `top_r` places; a query that finds
        none there scores 0.

    Raises:
        ValueError: If `top_r` is out of range, or codes or labels are invalid, see `count_by_distance`.

    Example:
        >>> database = torch.tensor([[1, 1], [1, -1], [-1, -1]])
        >>> labels = torch.tensor([1, 1, 0])
        >>> convention_average_precision(database[:1], database, torch.tensor([0]), labels)
        tensor([0.3333], dtype=torch.float64)
    """
    task = prepare_retrieval(query_codes, database_codes, query_labels, database_labels, leave_one_out=leave_one_out)
    places = task.num_items if top_r is None else top_r
    check_top("top_r", places, task.num_items)
    return task.rank([places])[1].squeeze(1)


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Mean precision and recall of lookups within each radius.

    Attributes:
        radius: `(K + 1,)` `int64`, from 0 to `K`.
        precision: `(K + 1,)` `float64`, mean over the queries; a query that finds nothing counts 0.
        recall: `(K + 1,)` `float64`, mean over the queries; a query without a relevant item counts 0.
    """

    radius: Tensor
    precision: Tensor
    recall: Tensor


def precision_at(counts: DistanceCounts, top_k: int) -> Tensor:
    """Compute the expected share of relevant items among the `top_k` nearest, over all orders of the tied items.

    Returns:
        `(Q,)` `float64`.

    Raises:
        ValueError: If `top_k` is not a whole number from 1 to the number of items that each query ranks.

    Example:
        >>> precision_at(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])), top_k=1)
        tensor([0.5000], dtype=torch.float64)
    """
    return _expected_found(counts, top_k) / top_k


def recall_at(counts: DistanceCounts, top_k: int) -> Tensor:
    """Compute the expected share of all relevant items that are among the `top_k` nearest.

    Returns:
        `(Q,)` `float64`, over all orders of the tied items; 0 for a query without a relevant item.

    Raises:
        ValueError: If `top_k` is out of range, see `precision_at`.

    Example:
        >>> recall_at(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])), top_k=1)
        tensor([0.2500], dtype=torch.float64)
    """
    return _expected_found(counts, top_k) / counts.num_relevant.clamp(min=1)


def precision_within_radius(counts: DistanceCounts, radius: int = 2) -> Tensor:
    """Compute the share of relevant items among those at distance `radius` or less.

    Returns:
        `(Q,)` `float64`; 0 for a query that finds nothing. A radius of `K` or more includes the whole database.

    Raises:
        ValueError: If `radius` is no whole number from 0 up.

    Example:
        >>> precision_within_radius(DistanceCounts(torch.tensor([[2, 1]]), torch.tensor([[1, 1]])), radius=0)
        tensor([0.5000], dtype=torch.float64)
    """
    check_whole("radius", radius, least=0)
    items, relevant = (part[:, : radius + 1].sum(dim=1) for part in (counts.items, counts.relevant))
    return relevant.double() / items.clamp(min=1)


def precision_recall_curve(counts: DistanceCounts) -> PrecisionRecallCurve:
    """Compute mean precision and recall of a lookup within each radius from 0 to `K`.

    Example:
        >>> precision_recall_curve(DistanceCounts(torch.tensor([[2, 1]]), torch.tensor([[1, 1]]))).recall
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    found = counts.relevant.cumsum(dim=1).double()  # (Q, K + 1)
    return PrecisionRecallCurve(
        radius=torch.arange(found.shape[1]),
        precision=(found / counts.items.cumsum(dim=1).clamp(min=1)).mean(dim=0),
        recall=(found / counts.num_relevant.clamp(min=1)[:, None]).mean(dim=0),
    )


def _expected_found(counts: DistanceCounts, top_k: int) -> Tensor:
    check_top("top_k", top_k, counts.num_items)
    before = counts.items.cumsum(dim=1) - counts.items  # (Q, K + 1)
    places = (top_k - before).clamp(min=0).minimum(counts.items)  # of each distance, among the first top_k
    return (counts.relevant * places / counts.items.clamp(min=1).double()).sum(dim=1)
