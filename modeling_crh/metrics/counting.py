"""The histogram of distances, from which every tie-aware figure follows exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modeling_crh.metrics.blocks import prepare_retrieval
from modeling_crh.metrics.ranking import RankedBlock, rank_block


@dataclass(frozen=True, eq=False)
class DistanceCounts:
    """How many items of the database, and how many relevant ones, lie at each distance from each query.

    Attributes:
        items: `(Q, K + 1)` `int64`; column d counts the items at distance d.
        relevant: `(Q, K + 1)` `int64`; column d counts the relevant ones among them.
    """

    items: Tensor
    relevant: Tensor

    @property
    def num_items(self) -> int:
        """Number of items that each query ranks."""
        return int(self.items[0].sum())

    @property
    def num_relevant(self) -> Tensor:
        """`(Q,)` `int64`, the number of relevant items in the whole database."""
        return self.relevant.sum(dim=1)


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
    goes block by block on the CPU, whatever the device of the codes, in some tens of megabytes beyond the result.

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
    return join_counts(task.map_blocks(lambda block: count_block(rank_block(block))))


def join_counts(parts: Sequence[DistanceCounts]) -> DistanceCounts:
    """Put the counts of several blocks of queries into one table."""
    return DistanceCounts(torch.cat([part.items for part in parts]), torch.cat([part.relevant for part in parts]))


def count_block(block: RankedBlock) -> DistanceCounts:
    """Count one block: an item left out counts nowhere.

    Args:
        block: Some queries and their rankings.
    """
    relevant_before = np.searchsorted(block.relevant_places, block.starts)  # (B, K + 2)
    return DistanceCounts(
        items=torch.from_numpy(np.diff(block.starts).astype(np.int64)),
        relevant=torch.from_numpy(np.diff(relevant_before).astype(np.int64)),
    )
