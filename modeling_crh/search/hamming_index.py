"""HammingIndex: packed codes and what they stand for, searched by distance in bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeling_crh.search.code_index import (
    check_candidates,
    check_count,
    check_logits,
    check_packed,
    check_radius,
    rerank,
)
from modeling_crh.search.faiss_store import CodeStore, Distances, Positions, choose_kind
from modeling_crh.search.index_file import read_index_file, write_index_file
from modeling_crh.search.index_items import Ids, Items


class HammingIndex:
    """An index over packed codes.

    Args:
        packed: `(N, K / 8)` uint8, at least one code.
        ids: `(N,)`, the caller's own: whole numbers of 64 bits, or strings. Without them an id is a position.
        labels: `(N,)` names, numbers, or lists of names; None where an item has none.
        paths: `(N,)` strings: where each item comes from. They are never opened here.
        kind: `flat`, `ivf`, `hnsw`, `multihash`, or `auto`, which decides by N; see `modeling_crh.search.faiss_store`.
        model: Name of the model that made the codes.
        revision: Of that model.

    Raises:
        ValueError: If an argument breaks its rule.

    Example:
        >>> packed = np.array([[0b00000000], [0b00000001], [0b11111111]], np.uint8)
        >>> index = HammingIndex(packed, ids=["none", "one", "all"])
        >>> ids, distances = index.search(np.array([[0b00000011]], np.uint8), k=2)
        >>> ids.tolist(), distances.tolist()
        ([['one', 'none']], [[1, 2]])
    """

    def __init__(
        self,
        packed: Any,
        ids: Any = None,
        *,
        labels: Any = None,
        paths: Any = None,
        kind: str = "auto",
        model: str = "",
        revision: str = "",
    ) -> None:
        codes = check_packed("packed", packed)
        if not len(codes):
            raise ValueError("`packed` must hold at least one code, but holds none.")
        for name, value in (("model", model), ("revision", revision)):
            if not isinstance(value, str):
                raise ValueError(f"`{name}` must be a string, but got {value!r:.80}.")
        chosen = choose_kind(kind, len(codes))
        self.items = Items(len(codes), ids, labels, paths)
        self.model, self.revision = model, revision
        self._store = CodeStore.build(codes, chosen)

    def __len__(self) -> int:
        return len(self._store)

    def __repr__(self) -> str:
        return f"HammingIndex({len(self)} codes of {self.num_bits} bits, kind={self.kind!r}, model={self.model!r})"

    @property
    def kind(self) -> str:
        """`flat`, `ivf`, `hnsw` or `multihash`."""
        return self._store.kind

    @property
    def num_bits(self) -> int:
        """`K`."""
        return self._store.num_bits

    @property
    def packed(self) -> NDArray[np.uint8]:
        """A copy of all codes, `(N, K / 8)`, by position."""
        return self._store.codes()

    def add(self, packed: Any, ids: Any = None, *, labels: Any = None, paths: Any = None) -> None:
        """Put codes after those that are there. The kind stays, and the lists of `ivf` keep their centers.

        Args:
            packed: `(M, K / 8)` uint8.
            ids: `(M,)`, if and only if the index has ids; likewise
            labels: if it has labels, and
            paths: if it has paths.

        Raises:
            ValueError: If an argument breaks its rule; the index is then as it was.
        """
        codes = check_packed("packed", packed, self.num_bits)
        if not len(codes):
            return
        items = self.items.extended(Items(len(codes), ids, labels, paths))
        self._store.add(codes)
        self.items = items

    def search(
        self, packed_queries: Any, k: int = 10, *, rerank_logits: Any = None, num_candidates: int | None = None
    ) -> tuple[Ids, Distances]:
        """Find the `k` nearest items of each query.

        Args:
            packed_queries: `(Q, K / 8)` uint8; Q may be 0.
            k: How many; of a smaller index, all items are found.
            rerank_logits: `(Q, K)` hash logits of the same queries, in an array or a tensor. The `num_candidates`
                nearest are then put in the order of the dot product of the logits with their codes, largest first,
                and their distances need not ascend.
            num_candidates: At least `k`; by default ten times as many.

        Returns:
            Ids (int64, or strings as objects) and distances in bits (int32), both `(Q, min(k, N))`, nearest first.
            Items at the same distance stand in the order of their positions, and with `flat` those that tie for the
            last place are the first ones; other kinds may miss an item.

        Raises:
            ValueError: If an argument breaks its rule.
        """
        positions, distances = self.search_positions(
            packed_queries, k, rerank_logits=rerank_logits, num_candidates=num_candidates
        )
        return self.items.ids(positions), distances

    def search_positions(
        self, packed_queries: Any, k: int = 10, *, rerank_logits: Any = None, num_candidates: int | None = None
    ) -> tuple[Positions, Distances]:
        """As `search`, with positions in the database instead of ids."""
        queries = check_packed("packed_queries", packed_queries, self.num_bits)
        count = min(check_count("k", k), len(self))
        if rerank_logits is None:
            if num_candidates is not None:
                raise ValueError("`num_candidates` must be given with `rerank_logits` only, but is given without.")
            return self._store.nearest(queries, count)
        logits = check_logits(rerank_logits, queries)
        wanted = check_candidates(k, num_candidates)
        positions, distances = self._store.nearest(queries, min(wanted, len(self)))
        order = rerank(logits, self._store.codes(positions), count)
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)

    def search_radius(self, packed_queries: Any, radius: int) -> tuple[list[Ids], list[Distances]]:
        """Find all items within `radius` bits of each query: exactly, whatever the kind.

        Args:
            packed_queries: `(Q, K / 8)` uint8; Q may be 0.
            radius: From 0 to K bits.

        Returns:
            For each query its ids and its distances, nearest first, ties by position.

        Raises:
            ValueError: If an argument breaks its rule.
        """
        positions, distances = self.search_radius_positions(packed_queries, radius)
        return [self.items.ids(found) for found in positions], distances

    def search_radius_positions(self, packed_queries: Any, radius: int) -> tuple[list[Positions], list[Distances]]:
        """As `search_radius`, with positions in the database instead of ids."""
        queries = check_packed("packed_queries", packed_queries, self.num_bits)
        return self._store.within(queries, check_radius(radius, self.num_bits))

    def records(self, positions: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Id, label and path of the items at `(P,)` positions; None where there is none.

        Raises:
            ValueError: If a position is outside of the database.
        """
        numbers = np.asarray(positions, dtype=np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise ValueError(
                f"`positions` must be from 0 to {len(self) - 1}, but got {numbers.min()} to {numbers.max()}."
            )
        return self.items.records(numbers)

    def save(self, path: str | Path) -> None:
        """Write the index into one file, which is there as a whole or not at all; see `modeling_crh.search.index_file`.

        Raises:
            OSError: If it cannot be written; a file that was there is then as it was.
        """
        header = {
            "kind": self.kind,
            "model": self.model,
            "revision": self.revision,
            "num_bits": self.num_bits,
            "num_items": len(self),
        }
        write_index_file(path, header, {"items": self.items.to_bytes(), **self._store.parts()})

    @classmethod
    def load(cls, path: str | Path) -> "HammingIndex":
        """Read an index that `save` wrote.

        A damaged file is refused. One that was made to do harm is not: FAISS itself reads all kinds but `flat`, so take
        those only from whom you trust.

        Raises:
            ValueError: If there is no such file, it is no index, of another format version, or damaged.
        """
        header, parts = read_index_file(path)
        try:
            return cls._of_parts(header, parts)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"`path` must be an index, but {str(path)!r} is not: {error}.") from error

    @classmethod
    def _of_parts(cls, header: dict[str, Any], parts: dict[str, NDArray[np.uint8]]) -> "HammingIndex":
        index = cls.__new__(cls)
        index.model, index.revision = str(header["model"]), str(header["revision"])
        index.items = Items.from_bytes(header["num_items"], parts.pop("items"))
        index._store = CodeStore.of_parts(header["kind"], header["num_bits"], parts)
        if len(index._store) != len(index.items):
            raise ValueError(f"it holds {len(index._store)} codes for {len(index.items)} items")
        return index
