"""The histogram of distances, from which every tie-aware figure follows exactly."""

from torch import Tensor

from modeling_crh.metrics.task import DistanceCounts, prepare_retrieval


def count_by_distance(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    leave_one_out: bool = False,
) -> DistanceCounts:
    """Count the items, and the relevant ones, at each Hamming distance from each query.

    Relevant is what shares at least one label; a multi-hot row without a label is relevant to nothing. The counting
    goes on the CPU, whatever the device of the codes, in some megabytes beyond the packed input and the result.

    Args:
        query_codes: `(Q, K)`, every entry -1 or +1, any `K`.
        database_codes: `(N, K)`, every entry -1 or +1.
        query_labels: `(Q,)` class numbers from 0 up, or `(Q, C)` multi-hot rows of 0 and 1.
        database_labels: `(N,)` or `(N, C)`, of the same kind.
        leave_one_out: Whether both sides are one set in one order, and a query is left out of its own ranking.

    Returns:
        The counts, on the CPU.

    Raises:
        ValueError: If a side is empty, codes or labels are malformed, the two sides do not fit together, or
            `leave_one_out` is set with two sides that differ or with a single item.

    Example:
        >>> codes = torch.tensor([[1, 1], [1, -1], [-1, -1]])
        >>> counts = count_by_distance(codes[:1], codes, torch.tensor([0]), torch.tensor([0, 1, 0]))
        >>> counts.items, counts.relevant
        (tensor([[1, 1, 1]]), tensor([[1, 0, 1]]))
    """
    task = prepare_retrieval(query_codes, database_codes, query_labels, database_labels, leave_one_out=leave_one_out)
    return task.rank()[0]
