"""The ranking of a block of queries: how many items lie at each distance, and in which places relevant ones stand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from modeling_crh.metrics.blocks import RetrievalBlock


@dataclass(frozen=True, eq=False)
class RankedBlock:
    """Some queries, each of which ranks the whole database by distance, ties in the order of the database.

    All rankings lie one after the other, N places a query; an item left out of its own ranking comes last.

    Attributes:
        starts: `(B, K + 2)`; row b has the places before which the items at distance 0 to K + 1 begin.
        relevant_places: `(R,)`, ascending: the places of the relevant items of all queries.
        num_items: `N`.
    """

    starts: NDArray[np.integer[Any]]
    relevant_places: NDArray[np.int64]
    num_items: int


def rank_block(block: RetrievalBlock) -> RankedBlock:
    """Rank a block by one counting sort, which SciPy has: from rows to columns of a sparse matrix.

    The matrix has one row, and a column for each query and distance; an entry of it says whether an item is relevant.
    The sort is stable and takes the entries of a column in the order of the items.

    Args:
        block: Some queries against the whole database.
    """
    num_queries, num_items = block.distance.shape
    width = block.num_bits + 2
    columns = block.distance + np.arange(0, num_queries * width, width, dtype=np.int32)[:, None]  # (B, N)
    ends = np.array([0, block.distance.size], dtype=np.int32)
    entries = (block.relevant.ravel().view(np.int8), columns.ravel(), ends)
    ranked = csr_array(entries, shape=(1, num_queries * width)).tocsc()
    return RankedBlock(
        starts=ranked.indptr[:-1].reshape(num_queries, width),
        relevant_places=np.flatnonzero(ranked.data.view(np.bool_)),
        num_items=num_items,
    )
