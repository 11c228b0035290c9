"""`CodeIndex`: search, argument checks and re-ranking shared by all indexes of packed codes."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modeling_crh.checks import check_whole, is_whole

Ids = NDArray[np.int64] | NDArray[np.object_]
Positions = NDArray[np.int64]
Distances = NDArray[np.int32]
Packed = NDArray[np.uint8] | Tensor
Logits = NDArray[np.floating] | Tensor | None


class Hits(NamedTuple):
    """Items that queries found, nearest first.

    Attributes:
        ids: Ids `(Q, k)`, or `(n,)` for the items within a radius of one query: whole numbers, or strings as objects.
        positions: Positions in the database, in the same shape.
        distances: Distances in bits, in the same shape.
    """

    ids: Ids
    positions: Positions
    distances: Distances


class CodeIndex(ABC):
    """Packed codes with ids, searched by distance in bits: `HammingIndex` in memory, `LanceIndex` in a table."""

    num_bits: int
    model: str
    revision: str
    dtype: str

    @property
    def origin(self) -> dict[str, str]:
        """Where the codes come from: `model`, `revision` and `dtype`."""
        return {"model": self.model, "revision": self.revision, "dtype": self.dtype}

    @property
    @abstractmethod
    def kind(self) -> str:
        """Kind of the index, such as `flat` or `ivf`."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def records(self, positions: ArrayLike) -> list[dict[str, Any]]:
        """Return id, label and path of the items at `(P,)` positions; None for a missing label or path.

        Raises:
            ValueError: If there is no item at one of the positions.
        """

    def where(self, condition: Any) -> "CodeIndex":
        """Make an index of the items that meet a condition; only tables support conditions.

        Raises:
            ValueError: If the table does not accept the condition, or the index is not a table.
        """
        raise ValueError(f"`where` must be given with a table (NAME{TABLE_SUFFIX}) only, but got {condition!r:.80}.")

    @abstractmethod
    def _nearest(self, queries: NDArray[np.uint8], k: int, *, with_codes: bool) -> tuple[Hits, NDArray[np.uint8]]:
        """Find the `min(k, N)` nearest items of each query, with their codes `(Q, min(k, N), K / 8)` if asked for."""

    @abstractmethod
    def _within(self, queries: NDArray[np.uint8], radius: int) -> list[Hits]:
        """Find all items within `radius` bits of each query."""

    def search(
        self, packed_queries: Packed, k: int = 10, *, rerank_logits: Logits = None, num_candidates: int | None = None
    ) -> tuple[Ids, Distances]:
        """Find the `k` nearest items of each query.

        Args:
            packed_queries: Packed codes `(Q, K / 8)` uint8; Q may be 0.
            k: Number of items to find, 1 or larger; an index of fewer items returns all.
            rerank_logits: Hash logits `(Q, K)` of the same queries. The `num_candidates` nearest items are then sorted
                by the dot product of the logits with their codes, largest first, and distances need not ascend.
            num_candidates: Number of items to re-rank, at least `k`. None is ten times `k`, and at least 1,000.

        Returns:
            Ids (int64, or strings as objects) and distances in bits (int32), both `(Q, min(k, N))`, nearest first.
            Items at the same distance are sorted by position in a `HammingIndex`, and by id in a table. `flat` is
            exact, also among the items that tie for the last place; other kinds may miss an item.

        Raises:
            ValueError: If an argument has a wrong type, shape or value.
        """
        hits = self.find(packed_queries, k, rerank_logits=rerank_logits, num_candidates=num_candidates)
        return hits.ids, hits.distances

    def search_radius(self, packed_queries: Packed, radius: int) -> tuple[list[Ids], list[Distances]]:
        """Find all items within `radius` bits of each query; every kind of index is exact here.

        Args:
            packed_queries: Packed codes `(Q, K / 8)` uint8; Q may be 0.
            radius: Largest distance of an item, from 0 to K bits.

        Returns:
            Ids and distances of each query, nearest first; ties as in `search`.

        Raises:
            ValueError: If an argument has a wrong type, shape or value.
        """
        found = self.find_within(packed_queries, radius)
        return [hits.ids for hits in found], [hits.distances for hits in found]

    def find(
        self, packed_queries: Packed, k: int, *, rerank_logits: Logits = None, num_candidates: int | None = None
    ) -> Hits:
        """Like `search`, with the positions in the database, which `records` takes."""
        queries = check_packed("packed_queries", packed_queries, self.num_bits)
        count = check_whole("k", k)
        if rerank_logits is None:
            if num_candidates is not None:
                raise ValueError("`num_candidates` must be given with `rerank_logits` only, but is given without.")
            return self._nearest(queries, count, with_codes=False)[0]
        logits = check_logits(rerank_logits, queries)
        default = max(_LEAST_CANDIDATES, _CANDIDATES * count)
        wanted = check_whole("num_candidates", default if num_candidates is None else num_candidates)
        if wanted < count:
            raise ValueError(f"`num_candidates` must be at least k={count}, but got {wanted}.")
        hits, codes = self._nearest(queries, wanted, with_codes=True)
        order = rerank(logits, codes, min(count, codes.shape[1]))
        ids: Any = np.take_along_axis(hits.ids, order, 1)
        return Hits(ids, np.take_along_axis(hits.positions, order, 1), np.take_along_axis(hits.distances, order, 1))

    def find_within(self, packed_queries: Packed, radius: int) -> list[Hits]:
        """Like `search_radius`, with the positions in the database."""
        queries = check_packed("packed_queries", packed_queries, self.num_bits)
        return self._within(queries, check_radius(radius, self.num_bits))


def check_packed(name: str, packed: Any, num_bits: int | None = None) -> NDArray[np.uint8]:
    """Check codes `(N, K / 8)` uint8, and return them as a contiguous array.

    `num_bits` is the K of an index; without it the codes are those of a new index, which needs at least one.
    """
    array = packed.cpu().numpy() if isinstance(packed, Tensor) else packed
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"`{name}` must be (N, K / 8) uint8, but got {_describe(array)}.")
    if num_bits is not None and 8 * array.shape[1] != num_bits:
        raise ValueError(
            f"`{name}` must hold codes of {num_bits} bits, as the index does, but got {8 * array.shape[1]}."
        )
    if num_bits is None and not len(array):
        raise ValueError(f"`{name}` must hold at least one code, but holds none.")
    return np.ascontiguousarray(array)


def check_positions(positions: Any) -> NDArray[np.int64]:
    """Check that positions are `(P,)` whole numbers, and return them as an array."""
    numbers = np.asarray(positions)
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
        raise ValueError(f"`positions` must be (P,) whole numbers, but got {_describe(numbers)}.")
    return numbers.astype(np.int64)


def check_logits(rerank_logits: Any, packed_queries: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Check the hash logits `(Q, K)` of queries, whose signs must be `packed_queries`, and return them as an array."""
    logits = rerank_logits.detach().cpu().float().numpy() if isinstance(rerank_logits, Tensor) else rerank_logits
    shape = (len(packed_queries), 8 * packed_queries.shape[1])
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f" or logits.shape != shape:
        raise ValueError(
            f"`rerank_logits` must be {shape} floating point, one row a query, but got {_describe(logits)}."
        )
    if not np.isfinite(logits).all():
        raise ValueError("`rerank_logits` must be finite, but some are not.")
    if not np.array_equal(np.packbits(logits >= 0, axis=1), packed_queries):
        raise ValueError("`rerank_logits` must have the signs of `packed_queries`, but some differ.")
    return np.asarray(logits, np.float32)


def _describe(value: Any) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def check_radius(radius: Any, num_bits: int) -> int:
    """Check that `radius` is a whole number of bits from 0 to `num_bits`, and return it."""
    if not is_whole(radius) or not 0 <= radius <= num_bits:
        raise ValueError(f"`radius` must be a whole number of bits from 0 to {num_bits}, but got {radius!r:.80}.")
    return int(radius)


_CANDIDATES = 10  # candidates of re-ranking, as a multiple of k
_LEAST_CANDIDATES = 1000  # for 0.99 of the ten best of a whole database: docs/search.md
_BLOCK = 1 << 24  # bits of candidates unpacked at a time


def rerank(logits: NDArray[np.float32], candidates: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Choose the `k` of C candidates `(Q, C, K / 8)`, C >= k, with the largest dot product of hash logits and code.

    Returns:
        Numbers of the candidates, `(Q, k)` from 0 to C - 1, closest first; ties keep their order.

    Example:
        >>> logits = np.array([[0.1, 3, 3, 3, 3, 3, 3, 3]], np.float32)
        >>> first_bit_off, second_bit_off = 0b01111111, 0b10111111
        >>> rerank(logits, np.array([[[second_bit_off], [first_bit_off]]], np.uint8), 2)
        array([[1, 0]])
    """
    chosen = np.empty((len(logits), k), np.int64)
    block = max(1, _BLOCK // max(1, 8 * candidates.shape[1] * candidates.shape[2]))
    for start in range(0, len(logits), block):
        rows = slice(start, start + block)
        bits = np.unpackbits(candidates[rows], axis=2).astype(np.float32)  # (q, C, K)
        scores = (bits @ logits[rows, :, None])[..., 0]  # (q, C), half of the dot product plus a constant per query
        chosen[rows] = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return chosen


def label_text(label: str | int | list[str | None] | None, separator: str = ", ") -> str:
    """Write the label of an item in one line; empty without a label.

    Example:
        >>> label_text(["cat", None, "dog"]), label_text(7), label_text(None)
        ('cat, dog', '7', '')
    """
    names = label if isinstance(label, list) else [label]
    return separator.join(str(name) for name in names if name is not None)


def path_below(path: str | None, root: str | Path | None) -> str | None:
    """Write the path of an item relative to a folder; a path that does not begin with the folder stays as it is.

    Example:
        >>> path_below("/photos/2024/a.png", "/photos"), path_below("/other/b.png", "/photos")
        ('2024/a.png', '/other/b.png')
    """
    for folder in () if path is None or root is None else (os.path.abspath(root), os.path.realpath(root)):
        if Path(str(path)).is_relative_to(folder):
            return os.path.relpath(str(path), folder)
    return path


TABLE_SUFFIX = ".lance"


def is_table_uri(uri: str | Path) -> bool:
    """Whether a path or URI names a table: `NAME.lance`, or anything with a scheme such as `s3://`.

    Example:
        >>> is_table_uri("photos.lance"), is_table_uri("s3://bucket/photos.lance"), is_table_uri("photos.crh")
        (True, True, False)
    """
    return "://" in str(uri) or Path(uri).suffix == TABLE_SUFFIX
