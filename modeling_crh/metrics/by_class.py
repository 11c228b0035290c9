"""Retrieval figures of each class, to find the classes that a model searches worst."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from modeling_crh.losses import NO_LABEL


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

    Example:
        >>> labels = torch.tensor([0, 0, 1])
        >>> figures_by_class(torch.tensor([0.5, 1.0, 0.25]), labels, labels, ["cat", "dog"])[0]
        ClassFigures(name='cat', map=0.75, queries=2, database=2)
    """
    (queries, items), size = (query_labels.cpu(), database_labels.cpu()), len(names)
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
