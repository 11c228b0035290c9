"""Rank the database by a counting sort, with NumPy and SciPy.

SciPy's conversion of a sparse table from rows to columns is a counting sort: compiled, stable, and linear in the number
of pairs. The column of an item is its distance, and its value tells whether it is relevant: after the conversion, a
relevant item stands at its place in the ranking, and the start of each column counts the items at smaller distances.
"""

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

SORTED_AT_ONCE = 2**17  # pairs; smaller sorts spend their time in Python


def rank_queries(
    words: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    labels: tuple[NDArray[Any], NDArray[Any]],
    first: int,
    leave_one_out: bool,
    cuts: NDArray[np.int64],
    items: NDArray[np.int64],
    relevant: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> None:
    """Rank the whole database for some queries; arguments and outputs are those of `kernel.rank_queries`."""
    num_items, num_columns = words[1].shape[1], items.shape[1]
    step = max(1, SORTED_AT_ONCE // num_items)
    for start in range(0, len(items), step):
        rows = slice(start, start + step)
        queries = slice(first + start, first + min(start + step, len(items)))
        columns, hits = _columns(words, queries, num_columns), relevance_of(labels, queries)
        if leave_one_out:
            own = np.arange(len(hits)), np.arange(queries.start, queries.stop)
            columns[own] = np.arange(1, len(hits) + 1) * num_columns - 1  # the last of each query
            hits[own] = False
        ends = np.array([0, hits.size], np.int32)  # wider ones would make SciPy copy all columns as wide
        one_row = (hits.ravel(), columns.ravel(), ends)
        ranking = csr_array(one_row, shape=(1, len(hits) * num_columns)).tocsc()
        found = np.flatnonzero(ranking.data)
        found_before = np.searchsorted(found, ranking.indptr)
        items[rows] = np.diff(ranking.indptr).reshape(len(hits), num_columns)
        relevant[rows] = np.diff(found_before).reshape(len(hits), num_columns)
        for query, (begin, end) in enumerate(pairwise(found_before[::num_columns])):
            scores[start + query] = _average_precision(found[begin:end] - (query * num_items - 1), cuts)


def _columns(
    words: tuple[NDArray[np.uint64], NDArray[np.uint64]], queries: slice, num_columns: int
) -> NDArray[np.int32]:
    """Compute the column of each item for some queries: its distance, and `num_columns` for each query before."""
    columns = np.empty((queries.stop - queries.start, words[1].shape[1]), np.int32)
    columns[:] = np.arange(len(columns))[:, None] * num_columns
    for query, database in zip(words[0][:, queries], words[1], strict=True):
        columns += np.bitwise_count(query[:, None] ^ database)
    return columns


def _average_precision(places: NDArray[np.intp], cuts: NDArray[np.int64]) -> list[float]:
    """Average the precision at the ascending places of the relevant items, up to each cut; 0 where there is none."""
    precision = np.arange(1, len(places) + 1) / places
    return [precision[:inside].sum() / max(inside, 1) for inside in np.searchsorted(places, cuts, side="right")]


def relevance_of(labels: tuple[NDArray[Any], NDArray[Any]], queries: slice) -> NDArray[np.bool_]:
    """Compute which items share a label with each of some queries, `(B, N)`, from the labels of `pack_label_pair`."""
    if labels[0].ndim == 1:
        same: NDArray[np.bool_] = labels[0][queries, None] == labels[1]
        return same
    pairs = zip(labels[0][:, queries], labels[1], strict=True)
    shared: NDArray[np.uint64] = reduce(np.bitwise_or, (query[:, None] & database for query, database in pairs))
    return shared.astype(bool)
