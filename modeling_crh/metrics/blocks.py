"""Distances and relevance, a block of queries at a time, so that no Q x N matrix is ever in memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.metrics.labels import pack_label_pair, relevance
from modeling_crh.metrics.words import check_codes, pack_words, word_distance

PAIRS_PER_BLOCK = 2**19  # some 15 MB a block; fewer or more were slower
MAX_THREADS = 8  # so the blocks in work at one time stay near 100 MB

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class RetrievalBlock:
    """Some queries against the whole database.

    Attributes:
        distance: `(B, N)`, from 0 to `K`; `K + 1` marks the query itself, left out of its own ranking.
        relevant: `(B, N)`, False for the item left out.
        num_bits: `K`.
    """

    distance: NDArray[np.integer[Any]]
    relevant: NDArray[np.bool_]
    num_bits: int


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """All queries and the database, checked and packed.

    Attributes:
        words: Codes of the queries `(W, Q)` and of the database `(W, N)`, from `pack_words`.
        labels: Labels of the queries and of the database, from `pack_label_pair`.
        num_bits: `K`.
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

    def block(self, first: int, stop: int) -> RetrievalBlock:
        """Compare the queries from `first` to before `stop` with the whole database."""
        distance = word_distance(self.words[0][:, first:stop], self.words[1])  # (B, N)
        relevant = relevance(self.labels[0][..., first:stop], self.labels[1])  # (B, N)
        if self.leave_one_out:
            rows = np.arange(len(distance))
            distance[rows, first + rows] = self.num_bits + 1
            relevant[rows, first + rows] = False
        return RetrievalBlock(distance, relevant, self.num_bits)

    def map_blocks(self, compute: Callable[[RetrievalBlock], Result]) -> list[Result]:
        """Apply `compute` to every block, in as many threads as torch may use, up to `MAX_THREADS`.

        Args:
            compute: What to do with a block. NumPy lets go of the interpreter lock in all that takes time here.

        Returns:
            The results, in the order of the queries.
        """
        num_queries = self.words[0].shape[1]
        width = max(self.words[1].shape[1], 2 * (self.num_bits + 2))  # the histogram of a query counts as well
        step = max(1, PAIRS_PER_BLOCK // width)

        def compute_from(first: int) -> Result:
            return compute(self.block(first, min(first + step, num_queries)))

        with ThreadPoolExecutor(min(torch.get_num_threads(), MAX_THREADS)) as pool:
            return list(pool.map(compute_from, range(0, num_queries, step)))


def prepare_retrieval(
    query_codes: Tensor,
    database_codes: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    leave_one_out: bool,
) -> RetrievalTask:
    """Check the input and pack it.

    Args:
        query_codes: `(Q, K)`, every entry -1 or +1.
        database_codes: `(N, K)`, every entry -1 or +1.
        query_labels: `(Q,)` class numbers from 0 up, or `(Q, C)` multi-hot rows of 0 and 1.
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
    labels = pack_label_pair(query_labels, database_labels, sizes)
    if leave_one_out:
        _check_one_set(words, labels, sizes)
    return RetrievalTask(words, labels, query_codes.shape[1], leave_one_out)


def check_top(name: str, top: int, num_items: int) -> None:
    """Check that a ranking of `num_items` has a first `top` places.

    Args:
        name: What the caller calls `top`, for the message.
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
