"""Rank the database by a loop over all pairs of a query and an item, which Numba compiles.

One pass over the database gives, for a query, the histograms of distances and the place of every relevant item. The
database is read in chunks whose distances stay in the cache of a core; each chunk is compared with several queries
before the next one is read. Only relevant items are noted.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

CHUNK, QUERIES = 4096, 8  # items and queries at a time; larger sizes were not faster
DISTANCE_SHIFT = 40  # a note of an item: its distance in the high bits, its rank at that distance in the low
RANK_MASK = 2**DISTANCE_SHIFT - 1

_PAIRS, _QUADS, _BYTES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_ONES = np.uint64(0x0101010101010101)

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Compile a function with Numba, and cache the result on disk where that is possible."""

    def compile_one(function: Function) -> Function:
        try:
            made: Function = njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no folder can be written to
            made = njit(nogil=True, **options)(function)
        return made

    return compile_one


@compiled()
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
    """Rank the whole database for the B queries from `first` on; ties keep the order of the database.

    Args:
        words: Codes of both sides, `(W, Q)` and `(W, N)`, from `pack_words`.
        labels: Labels of both sides, from `pack_label_pair`.
        first: Number of the first query.
        leave_one_out: Whether query q is item q, and left out of its own ranking.
        cuts: Places of a ranking, `(R,)`.
        items: Output `(B, K + 2)`: items at each distance; an item left out counts at `K + 1`.
        relevant: Output `(B, K + 2)`, zeros at first: relevant items at each distance.
        scores: Output `(B, R)`: average precision over the places up to each cut; 0 without a relevant item.
    """
    found = np.empty((min(QUERIES, len(items)), words[1].shape[1] + 1), np.int64)  # unwritten pages take no memory
    num_found = np.empty(len(found), np.int64)
    for row in range(0, len(items), len(found)):
        some = items[row : row + len(found)]
        _pass_over(words, labels, first + row, leave_one_out, some, found, num_found)
        for query in range(len(some)):
            at = row + query
            _score(found[query, : num_found[query]], items[at], relevant[at], cuts, scores[at])


@compiled()
def _pass_over(
    words: Any, labels: Any, first: int, leave_one_out: bool, items: Any, found: Any, num_found: Any
) -> None:
    """Count the items at each distance from some queries, and note the relevant items."""
    distance, hit = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint8)
    for at in range(items.shape[1]):
        items[:, at] = at << DISTANCE_SHIFT  # note of the next item at this distance
    num_found[:] = 0
    for start in range(0, words[1].shape[1], CHUNK):
        size = min(CHUNK, words[1].shape[1] - start)
        for query in range(len(items)):
            own = first + query
            _measure(words[0][:, own], words[1], start, distance[:size])
            _compare(labels[0], own, labels[1], start, hit[:size])
            if leave_one_out and start <= own < start + size:
                distance[own - start] = items.shape[1] - 1
                hit[own - start] = 0
            num_found[query] = _collect(distance[:size], hit[:size], items[query], found[query], num_found[query])
    items &= RANK_MASK


@compiled()
def _popcount(word: Any) -> Any:  # LLVM compiles this form to one instruction
    word = word - ((word >> np.uint64(1)) & _PAIRS)
    word = (word & _QUADS) + ((word >> np.uint64(2)) & _QUADS)
    return (((word + (word >> np.uint64(4))) & _BYTES) * _ONES) >> np.uint64(56)


@compiled()
def _measure(query: Any, database: Any, start: int, distance: Any) -> None:
    """Compute the Hamming distances of some items from `start` on."""
    for number in range(len(query)):
        word, row = query[number], database[number][start : start + len(distance)]
        if number == 0:
            for item in range(len(distance)):
                distance[item] = _popcount(word ^ row[item])
        else:
            for item in range(len(distance)):
                distance[item] += np.uint32(_popcount(word ^ row[item]))


@compiled()
def _compare(query: Any, own: int, database: Any, start: int, hit: Any) -> None:
    """Set 1 for each item from `start` on that shares a label with query `own`, else 0."""
    if query.ndim == 1:  # class numbers; Numba compiles one of the two
        label, row = query[own], database[start : start + len(hit)]
        for item in range(len(hit)):
            hit[item] = label == row[item]
    else:
        for number in range(len(query)):
            word, row = query[number, own], database[number][start : start + len(hit)]
            if number == 0:
                for item in range(len(hit)):
                    hit[item] = (word & row[item]) != 0
            else:
                for item in range(len(hit)):
                    hit[item] |= np.uint8((word & row[item]) != 0)


@compiled()
def _collect(distance: Any, hit: Any, following: Any, found: Any, num_found: int) -> np.int64:
    """Count the items and note the relevant ones without a branch: only a hit advances the position to write."""
    pen = np.uint64(num_found)
    for item in range(len(distance)):
        at = distance[item]
        note = following[at]
        following[at] = note + 1
        found[pen] = note
        pen += np.uint64(hit[item])
    return np.int64(pen)


@compiled(fastmath={"reassoc"}, error_model="numpy")  # lets the processor add several numbers at once
def _score(found: Any, items: Any, relevant: Any, cuts: Any, scores: Any) -> None:
    """Count the relevant items of one query, and average the precision at their places."""
    for item in range(len(found)):
        relevant[found[item] >> DISTANCE_SHIFT] += 1
    place_before, rank_before = np.cumsum(items) - items, np.cumsum(relevant) - relevant
    place, precision = np.empty(CHUNK, np.int64), np.empty(CHUNK)
    inside = np.zeros(len(cuts), np.int64)
    scores[:] = 0.0
    for start in range(0, len(found), CHUNK):
        part = found[start : start + CHUNK]
        for item in range(len(part)):
            at = part[item] >> DISTANCE_SHIFT
            rank_before[at] += 1
            place[item] = place_before[at] + (part[item] & RANK_MASK) + 1
            precision[item] = rank_before[at] / place[item]
        for number in range(len(cuts)):
            total, count = 0.0, 0
            for item in range(len(part)):
                within = place[item] <= cuts[number]
                total += precision[item] * within
                count += within
            scores[number] += total
            inside[number] += count
    for number in range(len(cuts)):
        scores[number] /= max(inside[number], 1)
