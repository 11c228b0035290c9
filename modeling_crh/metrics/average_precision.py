"""Mean average precision: tie-aware with bounds, and by the convention of papers."""

import torch
from torch import Tensor

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
    n, r, n0, r0 = _groups(counts)
    # Place i of the group is relevant with probability r / n, and then (i - 1) * slope relevant ones of the group are
    # expected before it. The sum over i of (r0 + 1 + (i - 1) * slope) / (n0 + i) is what stands in the brackets.
    slope = torch.where(n > 1, (r - 1) / (n - 1), 1.0)  # a group of one has no (i - 1); 1.0 keeps its sum exact
    expected = r / n.clamp(min=1) * (slope * n + (r0 + 1 - slope * (n0 + 1)) * _reciprocals(n0, n))
    return _per_relevant(expected, counts)


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
    for before in (n0 + n - r, n0):  # the relevant ones of the group stand last, then first
        # The sum over i = 1..r of (r0 + i) / (before + i).
        bounds.append(_per_relevant(r + (r0 - before) * _reciprocals(before, r), counts))
    return bounds[0], bounds[1]


def _groups(counts: DistanceCounts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, r = counts.items.double(), counts.relevant.double()
    return n, r, n.cumsum(dim=1) - n, r.cumsum(dim=1) - r


def _reciprocals(start: Tensor, length: Tensor) -> Tensor:
    """Sum 1 / (start + i) over i = 1..length: a difference of harmonic numbers, which digamma gives."""
    return torch.digamma(start + length + 1) - torch.digamma(start + 1)


def _per_relevant(sums: Tensor, counts: DistanceCounts) -> Tensor:
    return sums.sum(dim=1) / counts.num_relevant.clamp(min=1)


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

    Ties keep the order of the database. The arguments are those of `count_by_distance`, and `top_r` goes from 1 to the
    number of items that each query ranks, which is the default.

    Returns:
        `(Q,)` `float64`. The divisor is the number of relevant items in the first `top_r` places; a query that finds
        none there scores 0.

    Raises:
        ValueError: If `top_r` is out of range, or as `count_by_distance` raises it.

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
