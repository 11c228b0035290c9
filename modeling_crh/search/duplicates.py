"""Find near-duplicates: groups of items connected by steps of a few bits, and items that another index has already."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.search.code_files import check_same_origin
from modeling_crh.search.code_index import Distances, Positions, check_radius
from modeling_crh.search.hamming_index import HammingIndex

_MOST_WAITING = 1 << 21


class Components:
    """Connected components of a growing graph.

    Args:
        size: Number of nodes; at first each is its own component.

    Example:
        >>> components = Components(4)
        >>> components.connect(np.array([0, 3]), np.array([2, 2]))
        >>> components.settle().tolist()
        [0, 1, 0, 0]
    """

    def __init__(self, size: int) -> None:
        self._labels = np.arange(size, dtype=np.int64)
        self._waiting: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._num_waiting = 0

    def connect(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Connect `(E,)` nodes with as many others; `settle` updates the components."""
        self._waiting.append((one, other))
        self._num_waiting += len(one)
        if self._num_waiting > _MOST_WAITING:  # bounds the memory of connections
            self.settle()

    def settle(self) -> NDArray[np.int64]:
        """Return the number of the component of each node, `(size,)`."""
        if self._num_waiting:
            one, other = (self._labels[np.concatenate(side)] for side in zip(*self._waiting, strict=True))
            size = int(self._labels.max()) + 1
            graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(size, size))
            joined = connected_components(graph, directed=False)[1]
            self._labels = joined.astype(np.int64)[self._labels]
        self._waiting, self._num_waiting = [], 0
        return self._labels


Words = list[NDArray[np.uint64]]
"""Codes as columns of 64 bits, `(N,)` each, with zeros after the last bit."""

_REACH = 64  # following rows of its bucket that each row is compared with
_MOST_AT_ONCE = 1 << 20  # pairs of a large bucket compared at a time
_SETTLE_AFTER = 1 << 27  # compared pairs, about half a second


def near_duplicates(index: HammingIndex, radius: int) -> list[Positions]:
    """Find groups of items that are connected by chains of items, each within `radius` bits of the next.

    The search is exact. The bits are split into `radius + 1` chunks: two codes that differ in at most `radius` bits
    agree in one of them, so only codes that share a chunk are compared, and only if they are not connected yet. Equal
    codes are joined first. Memory grows with N, not with the number of pairs; the time depends on how many codes share
    a chunk.

    Args:
        index: Index of any kind.
        radius: Largest step of a chain, from 0 (equal codes) to K bits.

    Returns:
        Ascending positions of every group of two or more items; groups in the order of their first items.

    Raises:
        ValueError: If `radius` is out of range.

    Example:
        >>> packed = np.array([[0b00000000], [0b11110000], [0b00000001], [0b00000011]], np.uint8)
        >>> near_duplicates(HammingIndex(packed), radius=1)
        [array([0, 2, 3])]
    """
    check_radius(radius, index.num_bits)
    words = _to_words(index.packed)
    equal = _share(words)
    distinct = [word[equal.order[equal.starts]] for word in words]
    labels = np.empty(len(index), np.int64)
    labels[equal.order] = np.repeat(_connect(distinct, index.num_bits, int(radius)), equal.sizes)
    return _members(labels)


class _Buckets(NamedTuple):
    """Buckets of rows that agree in some bits, as consecutive rows of an order."""

    order: Positions  # (D,) rows
    starts: Positions  # place of the first row of each bucket in `order`
    sizes: Positions  # number of rows of each bucket


def _to_words(packed: NDArray[np.uint8]) -> Words:
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return [np.ascontiguousarray(column, np.uint64) for column in padded.view(">u8").T]


def _share(words: Words, mask: list[int] | None = None) -> _Buckets:
    """Make buckets of the rows that agree in all bits, or in the bits of a mask."""
    if mask is not None:
        words = [word & np.uint64(bits) for word, bits in zip(words, mask, strict=True) if bits]
    order = np.argsort(words[0], kind="stable") if len(words) == 1 else np.lexsort(words[::-1])
    new = np.zeros(len(order), bool)
    new[0] = True
    for word in words:
        ordered = word[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(new)
    return _Buckets(order, starts, np.diff(starts, append=len(order)))


def _masks(num_bits: int, num_words: int, num_chunks: int) -> list[list[int]]:
    """Make the masks of every word for each chunk of the bits."""
    bounds = [num_bits * chunk // num_chunks for chunk in range(num_chunks + 1)]
    masks = []
    for start, stop in pairwise(bounds):
        bits = (1 << (stop - start)) - 1 << 64 * num_words - stop  # the first bit of a code is the highest
        masks.append([bits >> 64 * (num_words - 1 - word) & (1 << 64) - 1 for word in range(num_words)])
    return masks


def _connect(words: Words, num_bits: int, radius: int) -> NDArray[np.int64]:
    """Find the number of the component of each of `D` distinct codes."""
    size = len(words[0])
    if radius == num_bits:
        return np.zeros(size, np.int64)
    components = Components(size)
    if radius == 0 or size == 1:
        return components.settle()
    buckets = [_share(words, mask) for mask in _masks(num_bits, len(words), radius + 1)]
    all_pairs = size * (size - 1) // 2
    if sum(int((bucket.sizes * (bucket.sizes - 1) // 2).sum()) for bucket in buckets) > all_pairs:
        rows = np.arange(size)  # buckets of such short chunks are large: compare all pairs once
        buckets = [_Buckets(rows, rows[:1], np.array([size]))]
    with progress_bar(total=size * len(buckets), desc="Comparing codes", unit="code", unit_scale=True) as bar:
        for bucket in buckets:
            ordered = [word[bucket.order] for word in words]
            _compare_neighbours(ordered, bucket, components, radius)
            large = bucket.sizes > _REACH + 1
            bar.update(int(bucket.sizes[~large].sum()))
            _compare_large(ordered, bucket, np.flatnonzero(large), components, radius, bar)
    return components.settle()


def _compare_neighbours(words: Words, buckets: _Buckets, components: Components, radius: int) -> None:
    """Compare every row with the next `_REACH` rows of its bucket."""
    order, starts, sizes = buckets
    number = np.repeat(np.arange(len(starts)), sizes)  # (D,), bucket of each row
    ends = (starts + sizes)[number]
    rows = np.arange(len(order))
    labels = components.settle()[order]
    for offset in range(1, _REACH + 1):
        rows = rows[rows + offset < ends[rows]]
        if not rows.size:
            return
        near = rows[_distances(words, rows, rows + offset) <= radius]
        near = near[labels[near] != labels[near + offset]]
        components.connect(order[near], order[near + offset])
        if offset & (offset - 1) == 0:  # 1, 2, 4, ...: leave out buckets that are connected throughout
            labels = components.settle()[order]
            mixed = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
            rows = rows[mixed[number[rows]]]


def _compare_large(
    words: Words, buckets: _Buckets, large: Positions, components: Components, radius: int, bar: "tqdm[None]"
) -> None:
    """In large buckets, compare all rows outside of the largest component with all rows."""
    compared = 0
    known = components.settle()
    for start, size in zip(buckets.starts[large].tolist(), buckets.sizes[large].tolist(), strict=True):
        rows = buckets.order[start : start + size]
        part = [word[start : start + size] for word in words]
        labels, counts = np.unique(known[rows], return_inverse=True, return_counts=True)[1:]
        others = np.flatnonzero(labels != counts.argmax())
        step = max(1, _MOST_AT_ONCE // size)
        for first in range(0, len(others), step):
            chosen = others[first : first + step]
            left, right = np.nonzero(_distances(part, chosen[:, None], slice(None)) <= radius)
            new = labels[chosen[left]] != labels[right]
            components.connect(rows[chosen[left[new]]], rows[right[new]])
        compared += len(others) * size
        if compared > _SETTLE_AFTER:
            compared, known = 0, components.settle()
        bar.update(size)


def _distances(words: Words, left: Positions, right: Positions | slice) -> NDArray[np.uint16]:
    """Count the bits in which rows differ, in the broadcast shape of the two selections."""
    total: NDArray[np.uint16] = np.bitwise_count(words[0][left] ^ words[0][right]).astype(np.uint16)
    for word in words[1:]:
        total += np.bitwise_count(word[left] ^ word[right])
    return total


def _members(labels: NDArray[np.int64]) -> list[Positions]:
    """Group the positions of labels that occur at least twice, in the order of their first positions."""
    sizes = np.bincount(labels)
    order = np.argsort(labels, kind="stable")
    order = order[np.repeat(sizes, sizes) > 1]
    sizes = sizes[sizes > 1]
    if not len(sizes):
        return []
    groups = np.split(order, np.cumsum(sizes)[:-1])
    return [groups[number] for number in np.argsort([group[0] for group in groups])]


class Duplicates(NamedTuple):
    """Items of an index that are in another one.

    Attributes:
        positions: Positions of the items, `(D,)`, ascending.
        originals: Position of the nearest item of the other index, `(D,)`; of several, the first.
        distances: Distance between the two in bits, `(D,)`.
    """

    positions: Positions
    originals: Positions
    distances: Distances


def duplicates_of(index: HammingIndex, other: HammingIndex, radius: int) -> Duplicates:
    """Find the items of an index that have an item of another index within `radius` bits; the search is exact.

    Args:
        index: Index of any kind.
        other: Index of codes of the same model (with the same weights), precision and length.
        radius: Largest distance, from 0 (equal codes) to K bits.

    Raises:
        ValueError: If `radius` is out of range, or the codes of `other` differ in one of these.

    Example:
        >>> new, old = (HammingIndex(np.array(codes, np.uint8)) for codes in ([[0], [255]], [[1], [60]]))
        >>> duplicates_of(new, old, radius=1).positions
        array([0])
    """
    check_radius(radius, index.num_bits)
    check_same_origin("other", other, index, "the index")
    exact = other if other.kind == "flat" else HammingIndex(other.packed, kind="flat")
    _, originals, distances = exact.find(index.packed, k=1)  # (N, 1) each
    positions = np.flatnonzero(distances[:, 0] <= radius)
    return Duplicates(positions, originals[positions, 0], distances[positions, 0])
