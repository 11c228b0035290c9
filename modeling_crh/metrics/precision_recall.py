"""Precision and recall, at k places and within a radius, from the counts by distance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.metrics.counting import DistanceCounts, check_top


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

    Args:
        counts: From `count_by_distance`.
        top_k: From 1 to the number of items that each query ranks.

    Returns:
        `(Q,)` `float64`.

    Raises:
        ValueError: If `top_k` is out of range.

    Example:
        >>> precision_at(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])), top_k=1)
        tensor([0.5000], dtype=torch.float64)
    """
    return _expected_found(counts, top_k) / top_k


def recall_at(counts: DistanceCounts, top_k: int) -> Tensor:
    """Compute the expected share of the relevant items that stand among the `top_k` nearest.

    Arguments and errors are those of `precision_at`.

    Returns:
        `(Q,)` `float64`, over all orders of the tied items; 0 for a query without a relevant item.

    Example:
        >>> recall_at(DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]])), top_k=1)
        tensor([0.2500], dtype=torch.float64)
    """
    return _expected_found(counts, top_k) / counts.num_relevant.clamp(min=1)


def precision_within_radius(counts: DistanceCounts, radius: int = 2) -> Tensor:
    """Compute the share of relevant items among those at distance `radius` or less.

    Args:
        counts: From `count_by_distance`.
        radius: Radius in bits, from 0 up; `K` or more includes the whole database.

    Returns:
        `(Q,)` `float64`; 0 for a query that finds nothing.

    Raises:
        ValueError: If `radius` is no whole number from 0 up.

    Example:
        >>> precision_within_radius(DistanceCounts(torch.tensor([[2, 1]]), torch.tensor([[1, 1]])), radius=0)
        tensor([0.5000], dtype=torch.float64)
    """
    if not is_whole(radius) or radius < 0:
        raise ValueError(f"`radius` must be a whole number, 0 or more, but got {radius!r}.")
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
