"""Count items and relevant items at each distance from each query, over codes and labels packed into words."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.codes import check_signs, check_tensor
from modeling_crh.losses import NO_LABEL

# Tasks of a thread are small, so that the threads end together and Ctrl-C stops them soon.
QUERIES_AT_ONCE = 64
PAIRS_AT_ONCE = 2**26
MAX_THREADS = 16  # each holds some bytes for every item of the database
_ROWS_AT_ONCE = 2**18  # so that no copy of all codes is made


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
    """Queries and database, checked and packed."""

    words: tuple[NDArray[np.uint64], NDArray[np.uint64]]  # codes of both sides, (W, Q) and (W, N), from `pack_words`
    labels: tuple[NDArray[Any], NDArray[Any]]  # of both sides, from `pack_label_pair`
    num_bits: int  # K
    leave_one_out: bool  # whether to leave each query out of its own ranking

    @property
    def num_items(self) -> int:
        """Number of items that each query ranks."""
        return int(self.words[1].shape[1]) - int(self.leave_one_out)

    def rank(self, cuts: Sequence[int] = ()) -> tuple[DistanceCounts, Tensor]:
        """Rank the database for every query, in as many threads as torch may use, up to `MAX_THREADS`.

        Args:
            cuts: Numbers of first places to average precision over, each from 1 up.

        Returns:
            The counts by distance; and the average precision over the first places up to each cut, with
            ties in database order: `(Q, len(cuts))` `float64`.
        """
        if find_spec("numba"):  # imported here, since it is slow to import
            from modeling_crh.metrics.kernel import rank_queries
        else:
            from modeling_crh.metrics.ranking import rank_queries

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
        # the last column counts the item that was left out
        counts = DistanceCounts(torch.from_numpy(items[:, :-1]), torch.from_numpy(relevant[:, :-1]))
        return counts, torch.from_numpy(scores)


def prepare_retrieval(
    query_codes: Tensor, database_codes: Tensor, query_labels: Tensor, database_labels: Tensor, *, leave_one_out: bool
) -> RetrievalTask:
    """Check the arguments of `count_by_distance`, with the errors that it documents, and pack them."""
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
    if leave_one_out and not all(np.array_equal(query, database) for query, database in (words, labels)):
        raise ValueError(
            "`leave_one_out` must be False unless query and database are the same set in the same order, "
            f"but their codes or labels differ (Q={sizes[0]}, N={sizes[1]})."
        )
    if leave_one_out and sizes[1] < 2:
        raise ValueError("`leave_one_out` must be False unless the database has at least 2 items, but it has 1.")
    return RetrievalTask(words, labels, query_codes.shape[1], leave_one_out)


def check_top(name: str, top: int, num_items: int) -> None:
    """Check that a ranking of `num_items` has `top` places, with `name` in the error."""
    if not is_whole(top) or not 1 <= top <= num_items:
        raise ValueError(f"`{name}` must be a whole number from 1 to N={num_items}, but got {top!r}.")


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
    is relevant to no query, and as a query finds nothing relevant. Counting runs on the CPU, regardless of the device
    of the codes: by a sort, or by Numba where the extra `fast` is installed. Beyond the packed input and the result,
    each thread takes 20 bytes for each item of the database and 32 for each relevant one, or by Numba 64 for each
    relevant one.

    Args:
        query_codes: Codes of the queries, `(Q, K)`, every entry -1 or +1, any `K`.
        database_codes: Codes of the database, `(N, K)`, every entry -1 or +1.
        query_labels: Class numbers `(Q,)`, -100 for no label, or multi-hot rows `(Q, C)` of 0 and 1.
        database_labels: Labels of the database, `(N,)` or `(N, C)`, of the same kind.
        leave_one_out: Whether to leave each query out of its own ranking; both sides must be one set in one order.

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


def check_codes(name: str, codes: Tensor) -> None:
    """Check that `codes` is a non-empty `(N, K)` table of -1 and +1, with `name` in the error."""
    check_tensor(name, codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"`{name}` must be (N, K) with at least one row and one bit, but got shape {tuple(codes.shape)}."
        )
    check_signs(name, codes)


def pack_words(bits: Tensor) -> NDArray[np.uint64]:
    """Pack the signs of the rows of an `(N, K)` table into words of 64 bits, the last padded with zeros.

    Returns:
        `(W, N)` with `W` = `K / 64` rounded up: one contiguous row per word.
    """
    parts = [np.packbits((part > 0).cpu().numpy(), axis=1) for part in bits.split(_ROWS_AT_ONCE)]
    packed = np.concatenate(parts)  # (N, K / 8 rounded up)
    filled = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))  # (N, 8 * W)
    return np.ascontiguousarray(filled.view(np.uint64).T)


def pack_label_pair(
    query_labels: Tensor, database_labels: Tensor, sizes: tuple[int, int], *, leave_one_out: bool = False
) -> tuple[Any, Any]:
    """Check the labels of both sides, of `sizes` Q and N, and lay them out for the kernel; see `count_by_distance`.

    Returns:
        For class numbers, `int64` arrays `(Q,)` and `(N,)`, in which every item without a label has its own negative
        number; for multi-hot rows, the `uint64` words `(W, Q)` and `(W, N)` of `pack_words`.
    """
    _check_labels("query_labels", query_labels, sizes[0])
    _check_labels("database_labels", database_labels, sizes[1])
    if query_labels.shape[1:] != database_labels.shape[1:]:
        raise ValueError(
            "`query_labels` and `database_labels` must both be class numbers, or both be multi-hot with the same C, "
            f"but got shapes {tuple(query_labels.shape)} and {tuple(database_labels.shape)}."
        )
    if query_labels.ndim == 2:
        return pack_words(query_labels), pack_words(database_labels)
    return _own_numbers(query_labels, 1), _own_numbers(database_labels, 1 if leave_one_out else 1 + sizes[0])


def _own_numbers(labels: Tensor, first: int) -> NDArray[np.int64]:
    """Return class numbers, with distinct -`first`, -`first` - 1, ... for the items without a label."""
    numbers = labels.long().contiguous().cpu().numpy()  # contiguous, or the kernel would be compiled once more
    return np.where(numbers == NO_LABEL, -np.arange(first, first + len(numbers)), numbers)


def _check_labels(name: str, labels: Tensor, size: int) -> None:
    check_tensor(name, labels)
    if labels.ndim not in (1, 2) or len(labels) != size or 0 in labels.shape:
        raise ValueError(
            f"`{name}` must be ({size},) class numbers or ({size}, C) multi-hot rows, one for each code, "
            f"but got shape {tuple(labels.shape)}."
        )
    if labels.ndim == 2:
        wrong, rule = labels[(labels != 0) & (labels != 1)], "only 0 and 1 where it is (N, C)"
    else:
        whole = torch.isfinite(labels) & (labels == labels.floor()) if labels.is_floating_point() else labels == labels
        is_label = (labels >= 0) | (labels == NO_LABEL if labels.is_signed() else False)
        wrong, rule = labels[~(whole & is_label)], f"class numbers from 0 up, or {NO_LABEL} for none, where it is (N,)"
    if len(wrong):
        raise ValueError(f"`{name}` must hold {rule}, but holds {wrong[0].item()}.")
