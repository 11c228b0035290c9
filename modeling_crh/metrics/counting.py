"""Count items and relevant items at each distance from each query."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.metrics.packing import check_codes, pack_label_pair, pack_words

# A task of one thread is so small that the threads end together, and that Ctrl-C stops them.
QUERIES_AT_ONCE = 64
PAIRS_AT_ONCE = 2**26
MAX_THREADS = 16  # each holds 8 bytes for every relevant item of the queries that it ranks together


@dataclass(frozen=True, eq=False)
class DistanceCounts:
    """Numbers of items, and of relevant items, at each distance from each query.

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
        """Number of relevant items in the whole database, `(Q,)` `int64`."""
        return self.relevant.sum(dim=1)


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Queries and database, checked and packed.

    Attributes:
        words: Codes of both sides, `(W, Q)` and `(W, N)`, from `pack_words`.
        labels: Labels of both sides, from `pack_label_pair`.
        num_bits: Number of bits of a code, `K`.
        leave_one_out: Whether a query is left out of its own ranking.
    """

    words: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    labels: tuple[NDArray[Any], NDArray[Any]]
    num_bits: int
    leave_one_out: bool

    @property
    def num_items(self) -> int:
        """Number of items that each query ranks."""
        return int(self.words[1].shape[1]) - int(self.leave_one_out)

    def rank(self, cuts: Sequence[int] = ()) -> tuple[DistanceCounts, Tensor]:
        """Rank the database for every query, in as many threads as torch may use, up to `MAX_THREADS`.

        Args:
            cuts: Numbers of places to rank, each from 1 up.

        Returns:
            The counts by distance; and the average precision over the first places, up to each cut, as in
            `convention_average_precision`: `(Q, len(cuts))` `float64`.
        """
        from modeling_crh.metrics.kernel import rank_queries  # here, since Numba is slow to import

        num_queries, num_columns = self.words[0].shape[1], self.num_bits + 2
        items = np.zeros((num_queries, num_columns), np.int64)
        relevant = np.zeros((num_queries, num_columns), np.int64)
        scores = np.zeros((num_queries, len(cuts)))
        places = np.array(cuts, dtype=np.int64)
        step = max(1, min(QUERIES_AT_ONCE, PAIRS_AT_ONCE // self.words[1].shape[1]))

        def rank_from(first: int) -> None:
            rows = slice(first, first + step)
            outputs = (items[rows], relevant[rows], scores[rows])
            rank_queries(self.words, self.labels, first, self.leave_one_out, places, *outputs)

        with ThreadPoolExecutor(min(torch.get_num_threads(), MAX_THREADS)) as pool:
            list(pool.map(rank_from, range(0, num_queries, step)))
        # the last column has the item that was left out
        counts = DistanceCounts(torch.from_numpy(items[:, :-1]), torch.from_numpy(relevant[:, :-1]))
        return counts, torch.from_numpy(scores)


def prepare_retrieval(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    leave_one_out: bool,
) -> RetrievalTask:
    """Check the arguments of `count_by_distance` and pack them.

    Args:
        query_codes: `(Q, K)`, every entry -1 or +1.
        database_codes: `(N, K)`, every entry -1 or +1.
        query_labels: `(Q,)` class numbers, -100 for no label, or `(Q, C)` multi-hot rows of 0 and 1.
        database_labels: `(N,)` or `(N, C)`, of the same kind.
        leave_one_out: Whether both sides are one set in one order, and a query is left out of its own ranking.

    Returns:
        The task, on the CPU.

    Raises:
        ValueError: If a side is empty, codes or labels are malformed, the two sides do not fit together, or
            `leave_one_out` is set with two sides that differ or with a single item.
    """
    check_codes("query_codes", query_codes)
    check_codes("database_codes", database_codes)
    if query_codes.shape[1] != database_codes.shape[1]:
        raise ValueError(
            "`query_codes` and `database_codes` must have the same number of bits K, "
            f"but got K={query_codes.shape[1]} and K={database_codes.shape[1]}."
        )
    sizes = (len(query_codes), len(database_codes))
    words = (pack_words(query_codes), pack_words(database_codes))
    labels = pack_label_pair(query_labels, database_labels, sizes, leave_one_out=leave_one_out)
    if leave_one_out:
        _check_one_set(words, labels, sizes)
    return RetrievalTask(words, labels, query_codes.shape[1], leave_one_out)


def check_top(name: str, top: int, num_items: int) -> None:
    """Check that a ranking has `top` places.

    Args:
        name: Name of the argument, for the message.
        top: Number of places.
        num_items: Number of items that each query ranks.

    Raises:
        ValueError: If `top` is no whole number from 1 to `num_items`.
    """
    if not is_whole(top) or not 1 <= top <= num_items:
        raise ValueError(f"`{name}` must be a whole number from 1 to N={num_items}, but got {top!r}.")


def _check_one_set(words: tuple[Any, Any], labels: tuple[Any, Any], sizes: tuple[int, int]) -> None:
    if not all(np.array_equal(query, database) for query, database in (words, labels)):
        raise ValueError(
            "`leave_one_out` must be False unless query and database are the same set in the same order, "
            f"but their codes or labels differ (Q={sizes[0]}, N={sizes[1]})."
        )
    if sizes[1] < 2:
        raise ValueError("`leave_one_out` must be False unless the database has at least 2 items, but it has 1.")


def count_by_distance(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    leave_one_out: bool = False,
) -> DistanceCounts:
    """Count the items, and the relevant ones, at each Hamming distance from each query.

    An item is relevant if it shares a label with the query. An item without a label, which has -100 or a row of zeros,
    is relevant to nothing, and nothing is relevant to it. Counting runs on the CPU, whatever the device of the codes,
    and takes some megabytes beyond the packed input and the result.

    Args:
        query_codes: `(Q, K)`, every entry -1 or +1, any `K`.
        database_codes: `(N, K)`, every entry -1 or +1.
        query_labels: `(Q,)` class numbers, -100 for no label, or `(Q, C)` multi-hot rows of 0 and 1.
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
