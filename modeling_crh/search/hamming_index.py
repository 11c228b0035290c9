"""HammingIndex: search packed codes and their items in memory by distance in bits."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import faiss
import numpy as np
import pyarrow as pa
from huggingface_hub import CommitInfo
from numpy.typing import ArrayLike, NDArray

from modeling_crh.data.rows import check_distinct
from modeling_crh.hub.published_codes import push_codes
from modeling_crh.hub.push import Destination
from modeling_crh.search.code_files import find_codes, read_codes, write_codes
from modeling_crh.search.code_index import CodeIndex, Distances, Hits, Packed, Positions, check_packed, check_positions
from modeling_crh.search.index_file import (
    COLUMNS,
    Column,
    items_of_bytes,
    items_to_bytes,
    make_items,
    read_index_file,
    with_types_of,
    write_index_file,
)
from modeling_crh.search.inverted_lists import choose_kind, flat_index, index_of_parts, index_parts, train_lists

_NO_CODES = np.empty(0, np.uint8)
_SHIFT = 40  # a key holds the position in the lower 40 bits, and the distance above


class HammingIndex(CodeIndex):
    """An index over packed codes.

    Args:
        packed: Packed codes `(N, K / 8)` uint8, at least one.
        ids: Ids of the caller, `(N,)`, all distinct: whole numbers of 64 bits, or strings. None uses positions.
        labels: Labels `(N,)`: names, numbers, or lists of names; None for an item without a label.
        paths: Paths of the items, `(N,)` strings. They are never opened here.
        kind: `flat`, `ivf`, or `auto`, which decides by N; see `modeling_crh.search.inverted_lists`.
        model: Name of the model that made the codes.
        revision: Commit on the Hub, or digest of the weights, of the model that made the codes.
        dtype: Precision that they were computed in, such as `float32`.

    Raises:
        ValueError: If an argument has a wrong type, shape or value.

    Example:
        >>> packed = np.array([[0b00000000], [0b00000001], [0b11111111]], np.uint8)
        >>> index = HammingIndex(packed, ids=["none", "one", "all"])
        >>> ids, distances = index.search(np.array([[0b00000011]], np.uint8), k=2)
        >>> ids.tolist(), distances.tolist()
        ([['one', 'none']], [[1, 2]])
    """

    def __init__(
        self,
        packed: Packed,
        ids: Column | None = None,
        *,
        labels: Column | None = None,
        paths: Column | None = None,
        kind: str = "auto",
        model: str = "",
        revision: str = "",
        dtype: str = "",
    ) -> None:
        codes = check_packed("packed", packed)
        for name, value in (("model", model), ("revision", revision), ("dtype", dtype)):
            if not isinstance(value, str):
                raise ValueError(f"`{name}` must be a string, but got {value!r:.80}.")
        chosen, items = choose_kind(kind, len(codes)), make_items(len(codes), ids, labels, paths)
        lists = train_lists(codes) if chosen == "ivf" else None
        self._fill(flat_index(codes), lists, items, model, revision, dtype)

    def _fill(self, flat: Any, lists: Any, items: pa.Table, model: str, revision: str, dtype: str) -> None:
        self._flat, self._lists = flat, lists  # all codes by position; the same codes in lists, for `ivf`
        self.items = items  # columns `id`, `label` and `path`, as far as given
        self.num_bits, self.model, self.revision, self.dtype = int(flat.d), model, revision, dtype

    def __len__(self) -> int:
        return int(self._flat.ntotal)

    def __repr__(self) -> str:
        return f"HammingIndex({len(self)} codes of {self.num_bits} bits, kind={self.kind!r}, model={self.model!r})"

    @property
    def kind(self) -> str:
        """Kind of the index: `flat` or `ivf`."""
        return "flat" if self._lists is None else "ivf"

    @property
    def packed(self) -> NDArray[np.uint8]:
        """Copy of all packed codes, `(N, K / 8)`, by position."""
        return self._codes().copy()

    def _codes(self) -> NDArray[np.uint8]:
        """View all packed codes until others are added."""
        shape = len(self), self.num_bits // 8
        view: NDArray[np.uint8] = faiss.rev_swig_ptr(self._flat.xb.data(), shape[0] * shape[1]).reshape(shape)
        return view

    def add(
        self, packed: Packed, ids: Column | None = None, *, labels: Column | None = None, paths: Column | None = None
    ) -> None:
        """Append codes. The kind does not change, and the lists of `ivf` keep their centers.

        Args:
            packed: Packed codes `(M, K / 8)` uint8.
            ids: New ids `(M,)`, if and only if the index has ids.
            labels: Labels `(M,)`, if and only if the index has labels.
            paths: Paths `(M,)`, if and only if the index has paths.

        Raises:
            ValueError: If an argument has a wrong type, shape or value; the index is then unchanged.
        """
        codes = check_packed("packed", packed, self.num_bits)
        if not len(codes):
            return
        added = make_items(len(codes), ids, labels, paths)
        own = with_types_of(self.items, added.schema)
        items = pa.concat_tables([own, with_types_of(added, own.schema, "index")]).combine_chunks()
        if "id" in items.column_names:
            check_distinct(items["id"])
        self._flat.add(codes)
        if self._lists is not None:
            self._lists.add(codes)
        self.items = items

    def _nearest(self, queries: NDArray[np.uint8], k: int, *, with_codes: bool) -> tuple[Hits, NDArray[np.uint8]]:
        count = min(k, len(self))
        positions, distances = np.empty((0, count), np.int64), np.empty((0, count), np.int32)
        if len(queries) and self._lists is None:
            distances, positions = self._flat.search(queries, count)  # breaks ties by position itself
        elif len(queries):
            distances, positions = self._lists.search(queries, count)
            if positions.min() < 0:  # lists hold too few
                short = (positions < 0).any(1)
                distances[short], positions[short] = self._flat.search(queries[short], count)
            positions, distances = _divide(np.sort(_keys(positions, distances), axis=1))
        return self._hits(positions, distances), self._codes()[positions] if with_codes else _NO_CODES

    def _within(self, queries: NDArray[np.uint8], radius: int) -> list[Hits]:
        if not len(queries):
            return []
        limits, distances, positions = self._flat.range_search(queries, radius + 1)  # finds distances below its radius
        parts = np.split(_keys(positions, distances), limits[1:-1].astype(np.int64))
        return [self._hits(*_divide(np.sort(part))) for part in parts]

    def _hits(self, positions: Positions, distances: Distances) -> Hits:
        if "id" not in self.items.column_names:
            return Hits(positions, positions, distances)
        ids = self.items["id"].take(pa.array(positions.reshape(-1))).to_numpy().copy()
        return Hits(ids.reshape(positions.shape), positions, distances)

    def records(self, positions: ArrayLike) -> list[dict[str, Any]]:
        """Return id, label and path of the items at `(P,)` positions; see `CodeIndex`."""
        numbers = check_positions(positions)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise ValueError(
                f"`positions` must be from 0 to {len(self) - 1}, but got {numbers.min()} to {numbers.max()}."
            )
        rows = self.items.take(pa.array(numbers)).to_pylist() if self.items.column_names else [{}] * len(numbers)
        known = zip(numbers.tolist(), rows, strict=True)
        return [{"id": number, "label": None, "path": None} | row for number, row in known]

    def save(self, path: str | Path) -> None:
        """Write the index into one file, atomically; `modeling_crh.search.index_file` describes the format.

        Raises:
            OSError: If the file cannot be written; an older file is then unchanged.
        """
        header = {"kind": self.kind, **self.origin, "num_bits": self.num_bits, "num_items": len(self)}
        write_index_file(path, header, {"items": items_to_bytes(self.items), **index_parts(self._flat, self._lists)})

    @classmethod
    def load(cls, path: str | Path) -> "HammingIndex":
        """Read an index that `save` wrote.

        No other library reads the file: sizes, types and numbers in it are checked before FAISS gets the codes.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is damaged, of another format version, or not an index.
        """
        header, parts = read_index_file(path)
        index = cls.__new__(cls)
        try:
            if "items" not in parts:
                raise ValueError("it lacks its table of items")
            items = items_of_bytes(header["num_items"], parts["items"])
            flat, lists = index_of_parts(header["kind"], header["num_bits"], parts)
            if flat.ntotal != header["num_items"]:
                raise ValueError(f"it holds {flat.ntotal} codes for {header['num_items']} items")
        except ValueError as error:
            raise ValueError(f"`path` must be an index, but {str(path)!r} is not: {error}.") from error
        index._fill(flat, lists, items, header["model"], header["revision"], header["dtype"])
        return index

    def push_to_hub(
        self, repo_id: str, *, model: str | None = None, license: str | None = None, **destination: Unpack[Destination]
    ) -> CommitInfo | None:
        """Upload codes, ids, labels and relative paths as a dataset, which `load_dataset` and `from_pretrained` read.

        Args:
            repo_id: Repository such as `org/name`, created if it does not exist.
            model: Hub id of the model that made the codes; None takes that of the index.
            license: Hub name of the licence, such as `cc-by-4.0`.
            **destination: Branch, access token and commit message, see `modeling_crh.hub.push.Destination`.

        Returns:
            The commit; None for a dry run.

        Raises:
            ValueError: If an item has no path, or an argument has a value that its rule does not allow.
            OSError: If the upload failed; nothing is then uploaded.
        """
        metadata = {**self.origin, "num_bits": str(self.num_bits)}
        with TemporaryDirectory() as folder:
            write_codes(Path(folder), self.packed, self.items, metadata)
            return push_codes(folder, repo_id, model=model, license=license, **destination)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        kind: str = "auto",
        num_bits: int | None = None,
    ) -> "HammingIndex":
        """Index codes that `push_to_hub` or `crh push` uploaded as a dataset.

        Args:
            repo_id: Hub id of the dataset, such as `org/codes`.
            revision: Branch, tag or commit of the dataset; None takes the main branch.
            token: Access token; None means the token that `hf auth login` has stored.
            kind: Kind of the index, see `HammingIndex`.
            num_bits: Number of first bits to index of every code, see `index_codes`.

        Raises:
            ValueError: If there is no such dataset, or its codes cannot be read.
        """
        return index_codes(find_codes(repo_id, revision=revision, token=token), kind=kind, num_bits=num_bits)


def _keys(positions: Positions, distances: Distances) -> NDArray[np.int64]:
    """Make keys that sort by distance, then by position."""
    return distances.astype(np.int64) << _SHIFT | positions


def _divide(keys: NDArray[np.int64]) -> tuple[Positions, Distances]:
    return keys & (1 << _SHIFT) - 1, (keys >> _SHIFT).astype(np.int32)


def index_codes(
    codes: str | Path, *, kind: str = "auto", model: str | None = None, num_bits: int | None = None
) -> HammingIndex:
    """Index codes in memory.

    Args:
        codes: Parquet file, folder of parquet files or Hub id, see `read_codes`. Its columns `id`, `label` and `path`,
            if they exist, become those of the index.
        kind: Kind of the index, see `HammingIndex`.
        model: Name of the model that replaces the one in the metadata.
        num_bits: Number of first bits to index of every code, see `read_codes`.

    Raises:
        ValueError: If the codes cannot be read, see `read_codes`.
    """
    settings, parts = read_codes(codes, model, COLUMNS, num_bits)
    packed, read = zip(*parts, strict=True)
    columns = {f"{name}s": pa.chunked_array([part[name] for part in read]) for name in read[0]}
    origin = {"model": settings.model, "revision": settings.revision, "dtype": settings.dtype}
    return HammingIndex(np.concatenate(packed), **columns, kind=kind, **origin)
