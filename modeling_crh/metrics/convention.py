"""mAP@R as papers print it: ties keep database order, and the divisor is what was found.

Kept for comparison with published tables. It depends on the order of the database, so the headline is the tie-aware
figure of `average_precision`.
"""

from torch import Tensor

from modeling_crh.metrics.task import check_top, prepare_retrieval


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

    Args:
        query_codes: `(Q, K)`, every entry -1 or +1, any `K`.
        database_codes: `(N, K)`, every entry -1 or +1, in the order that resolves ties.
        query_labels: `(Q,)` class numbers from 0 up, or `(Q, C)` multi-hot rows of 0 and 1.
        database_labels: `(N,)` or `(N, C)`, of the same kind.
        top_r: From 1 to the number of items that each query ranks, which is the default.
        leave_one_out: Whether both sides are one set in one order, and a query is left out of its own ranking.

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
