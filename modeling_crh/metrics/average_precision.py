"""Average precision over ties: its expected value over all orders of the tied items, and its bounds.

At distance d a query finds n items, r of them relevant, after N0 nearer items of which R0 are relevant. These are the
letters below; each is a column of a `(Q, K + 1)` table.
"""

import torch
from torch import Tensor

from modeling_crh.metrics.task import DistanceCounts


def average_precision(counts: DistanceCounts) -> Tensor:
    """Compute the expected average precision of each query over all orders of the items at equal distance.

    The closed form of McSherry and Najork (ECIR 2008), summed over the distances. It depends on the codes alone, not
    on the order of the database. The divisor is the number of relevant items in the whole database; a query without
    one scores 0.

    Args:
        counts: From `count_by_distance`.

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
    """Compute the average precision of each query with every tie resolved against it, and for it.

    Args:
        counts: From `count_by_distance`.

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
