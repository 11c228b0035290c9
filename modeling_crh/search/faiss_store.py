"""Store the codes of an index in memory, and search them with FAISS."""

import math
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from modeling_crh.search.code_index import Distances, Positions

KINDS = ("flat", "ivf")
FLAT_LIMIT = 2_000_000
"""Most codes that `auto` scans: about a millisecond per query of 64 bits and core, `benchmarks/bench_search.py`."""

_POINTS_PER_LIST = 39  # least number of points for FAISS to train a list's center
_TRAINING_POINTS = 64  # per list: ten times as fast as FAISS's 256 in 25 rounds, at the same recall
_TRAINING_ROUNDS = 10
_NUMBER = np.dtype("<i4")  # of a list, in a file
_SHIFT = 40  # a key holds the position in the lower 40 bits, and the distance above


def choose_kind(kind: str, num_codes: int) -> str:
    """Choose the kind of index to build.

    `flat` scans all codes and is exact. `ivf` searches the lists of the nearest centers: it finds nearly all neighbours
    of learned codes, which form clusters, in a small part of the time, and fewer of codes without clusters. FAISS's
    graphs and hash tables are slower at the same recall, see docs/scale.md.

    Args:
        kind: `flat` or `ivf`; or `auto`, which is `flat` up to `FLAT_LIMIT` codes, else `ivf`.
        num_codes: Number of codes, N.

    Raises:
        ValueError: If the kind is unknown.

    Example:
        >>> choose_kind("auto", 60_000), choose_kind("auto", 100_000_000)
        ('flat', 'ivf')
    """
    if kind == "auto":
        return "flat" if num_codes <= FLAT_LIMIT else "ivf"
    if kind not in KINDS:
        raise ValueError(f"`kind` must be auto, {' or '.join(KINDS)}, but got {kind!r:.80}.")
    return kind


@dataclass(eq=False)
class CodeStore:
    """All codes in the order of the database, and lists of them for faster approximate search.

    Args:
        flat: All codes, as `IndexBinaryFlat`.
        lists: The same codes by the nearest of about sqrt(N) centers, as `IndexBinaryIVF`, which searches a sixteenth
            of its lists; None for the kind `flat`.
    """

    flat: Any
    lists: Any = None

    @classmethod
    def build(cls, packed: NDArray[np.uint8], kind: str) -> "CodeStore":
        """Build a store of `packed` `(N, K / 8)`, contiguous, at least one code."""
        num_bits = 8 * packed.shape[1]
        lists = _empty_lists(_train_centers(packed)) if kind == "ivf" else None
        store = cls(faiss.IndexBinaryFlat(num_bits), lists)
        store.add(packed)
        return store

    def __len__(self) -> int:
        return int(self.flat.ntotal)

    @property
    def kind(self) -> str:
        """Kind of the index: `flat` or `ivf`."""
        return "flat" if self.lists is None else "ivf"

    @property
    def num_bits(self) -> int:
        """Number of bits of a code, K."""
        return int(self.flat.d)

    def add(self, packed: NDArray[np.uint8]) -> None:
        """Append `(M, K / 8)` codes."""
        self.flat.add(packed)
        if self.lists is not None:
            self.lists.add(packed)

    def codes(self, positions: Positions | None = None) -> NDArray[np.uint8]:
        """Copy the packed codes at `positions`, of any shape; None copies all."""
        if not len(self):
            return np.empty((0, self.num_bits // 8), np.uint8)
        return _stored_codes(self.flat)[() if positions is None else positions].copy()

    def nearest(self, packed: NDArray[np.uint8], k: int) -> tuple[Positions, Distances]:
        """Find the `k` nearest of at least `k` codes: positions and distances `(Q, k)`, ties by position.

        A query is answered by a scan if its lists hold fewer than `k` codes. `flat` is exact, and takes the first of
        the codes that tie for the last place; `ivf` chooses among the codes that it has compared.
        """
        if not len(packed):
            return np.empty((0, k), np.int64), np.empty((0, k), np.int32)
        if self.lists is None:
            distances, positions = self.flat.search(packed, k)  # FAISS breaks ties by position itself
            return positions, distances
        distances, positions = self.lists.search(packed, k)
        if positions.min() < 0:
            short = (positions < 0).any(1)
            distances[short], positions[short] = self.flat.search(packed[short], k)
        keys = distances.astype(np.int64)
        keys <<= _SHIFT
        keys |= positions
        keys.sort(axis=1)
        np.bitwise_and(keys, (1 << _SHIFT) - 1, out=positions)
        keys >>= _SHIFT
        distances[:] = keys
        return positions, distances

    def within(self, packed: NDArray[np.uint8], radius: int) -> tuple[list[Positions], list[Distances]]:
        """Find all codes within `radius` bits of each query by a scan: nearest first, ties by position."""
        if not len(packed):
            return [], []
        limits, distances, positions = self.flat.range_search(packed, radius + 1)  # finds distances below its radius
        keys = distances.astype(np.int64) << _SHIFT | positions
        parts = [np.sort(part) for part in np.split(keys, limits[1:-1].astype(np.int64))]
        return [part & (1 << _SHIFT) - 1 for part in parts], [(part >> _SHIFT).astype(np.int32) for part in parts]

    def parts(self) -> dict[str, NDArray[np.uint8]]:
        """Write the store as bytes: `codes`; for ivf the `centers` of its lists, and the list of each code, `lists`."""
        parts = {"codes": self.codes().reshape(-1)}
        if self.lists is not None:
            parts["centers"] = _stored_codes(self.lists.quantizer).copy().reshape(-1)
            parts["lists"] = self._list_numbers().view(np.uint8)
        return parts

    def _list_numbers(self) -> NDArray[np.int32]:
        numbers = np.empty(len(self), _NUMBER)
        stored = self.lists.invlists
        for number in range(self.lists.nlist):
            size = stored.list_size(number)
            if size:
                numbers[faiss.rev_swig_ptr(stored.get_ids(number), size)] = number
        return numbers

    @classmethod
    def of_parts(cls, kind: str, num_bits: int, parts: dict[str, NDArray[np.uint8]]) -> "CodeStore":
        """Restore a store from its `parts`, none of which FAISS itself reads: they are checked numbers.

        Raises:
            ValueError: If the parts do not form a store of this kind.
        """
        needed = {"flat": {"codes"}, "ivf": {"codes", "centers", "lists"}}
        if kind not in needed:
            raise ValueError(f"its kind is {kind!r:.80}, and not {' or '.join(needed)}")
        if not needed[kind] <= set(parts):
            raise ValueError(f"it lacks {', '.join(sorted(needed[kind] - set(parts)))} of the kind {kind}")
        codes = _as_codes("codes", parts["codes"], num_bits)
        flat = faiss.IndexBinaryFlat(num_bits)
        flat.add(codes)
        if kind == "flat":
            return cls(flat)
        lists = _empty_lists(_as_codes("centers", parts["centers"], num_bits))
        if parts["lists"].size != _NUMBER.itemsize * len(codes):
            raise ValueError(f"its lists have {parts['lists'].size} bytes for {len(codes)} codes")
        numbers = parts["lists"].copy().view(_NUMBER).astype(np.int64)
        if not 0 <= numbers.min() <= numbers.max() < lists.nlist:
            raise ValueError(f"its lists have the numbers {numbers.min()} to {numbers.max()} of {lists.nlist} lists")
        lists.add_core(len(codes), faiss.swig_ptr(codes), None, faiss.swig_ptr(numbers))
        return cls(flat, lists)


def _train_centers(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Find centers of about sqrt(N) lists by k-means, packed."""
    num_bits = 8 * packed.shape[1]
    fitting = max(1, len(packed) // _POINTS_PER_LIST)
    num_lists = min(2 ** math.ceil(math.log2(math.sqrt(len(packed)))), fitting)
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(num_bits), num_bits, num_lists)
    index.cp.max_points_per_centroid, index.cp.niter = _TRAINING_POINTS, _TRAINING_ROUNDS
    index.cp.min_points_per_centroid = 1  # silences a warning
    index.train(packed)
    return _stored_codes(index.quantizer).copy()


def _empty_lists(centers: NDArray[np.uint8]) -> Any:
    """Make lists with these packed centers."""
    num_lists, num_bits = len(centers), 8 * centers.shape[1]
    quantizer = faiss.IndexBinaryFlat(num_bits)
    quantizer.add(centers)
    lists = faiss.IndexBinaryIVF(quantizer, num_bits, num_lists)
    lists.is_trained = True
    lists.nprobe = min(num_lists, max(8, num_lists // 16))
    return lists


def _stored_codes(index: Any) -> NDArray[np.uint8]:
    """View the packed codes `(N, K / 8)` of an `IndexBinaryFlat`, which must outlive the view."""
    flat: Any = faiss.downcast_IndexBinary(index)
    shape = int(flat.ntotal), int(flat.code_size)
    view: NDArray[np.uint8] = faiss.rev_swig_ptr(flat.xb.data(), shape[0] * shape[1]).reshape(shape)
    return view


def _as_codes(name: str, content: NDArray[np.uint8], num_bits: int) -> NDArray[np.uint8]:
    """Check the size of packed codes from a file, and give them their shape."""
    if num_bits % 8 or not 8 <= num_bits <= 8 * content.size or content.size % (num_bits // 8):
        raise ValueError(f"its {name} have {num_bits} bits in {content.size} bytes")
    return np.ascontiguousarray(content.reshape(-1, num_bits // 8))
