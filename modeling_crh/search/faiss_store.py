"""Store the codes of an index in memory, and search them with FAISS."""

import math
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from modeling_crh.search.code_index import Distances, Positions

FAISS_CLASSES = {
    "flat": "IndexBinaryFlat",
    "ivf": "IndexBinaryIVF",
    "hnsw": "IndexBinaryHNSW",
    "multihash": "IndexBinaryMultiHash",
}
FLAT_LIMIT = 2_000_000
"""Most codes that `auto` scans: about a millisecond per query of 64 bits and core, `benchmarks/bench_search.py`."""

_POINTS_PER_LIST = 39  # least number of points for FAISS to train a list's center
_TRAINING_POINTS = 64  # per list: ten times as fast as FAISS's 256 in 25 rounds, at the same recall
_TRAINING_ROUNDS = 10
_LINKS, _BUILD_EFFORT, _SEARCH_EFFORT = 16, 40, 128


def choose_kind(kind: str, num_codes: int) -> str:
    """Choose the kind of index to build.

    `flat` scans all codes and is exact. `ivf` searches the lists of the nearest centers: it finds nearly all neighbours
    of learned codes, which form clusters, in a small part of the time, and fewer of codes without clusters. `hnsw`
    walks a graph and `multihash` looks up parts of the code; both miss more neighbours and take more memory.
    `multihash` is the fastest for tight clusters. With several threads FAISS builds another `hnsw` graph each time.

    A million codes of 64 bits, `benchmarks/bench_search.py`, one core: for clusters, milliseconds per query and recall
    at 10 are 0.62 and 1 for `flat`, 0.05 and 1.00 for `ivf`, 0.09 and 0.94 for `hnsw`, 0.03 and 0.94 for `multihash`;
    for random codes 0.45 and 1, 0.04 and 0.83, 0.20 and 0.44, 0.02 and 0.09. Bytes per code: 8, 34, 153, 133 or more.

    Args:
        kind: `flat`, `ivf`, `hnsw` or `multihash`; or `auto`, which is `flat` up to `FLAT_LIMIT` codes, else `ivf`.
        num_codes: Number of codes, N.

    Raises:
        ValueError: If the kind is unknown.

    Example:
        >>> choose_kind("auto", 60_000), choose_kind("auto", 100_000_000)
        ('flat', 'ivf')
    """
    if kind == "auto":
        return "flat" if num_codes <= FLAT_LIMIT else "ivf"
    if kind not in FAISS_CLASSES:
        raise ValueError(f"`kind` must be auto, {', '.join(FAISS_CLASSES)}, but got {kind!r:.80}.")
    return kind


def _ivf(packed: NDArray[np.uint8]) -> Any:
    """Make about sqrt(N) lists, of which a query searches a sixteenth."""
    num_bits = 8 * packed.shape[1]
    fitting = max(1, len(packed) // _POINTS_PER_LIST)
    num_lists = min(2 ** math.ceil(math.log2(math.sqrt(len(packed)))), fitting)
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(num_bits), num_bits, num_lists)
    index.cp.max_points_per_centroid, index.cp.niter = _TRAINING_POINTS, _TRAINING_ROUNDS
    index.cp.min_points_per_centroid = 1  # silences a warning
    index.nprobe = min(num_lists, max(8, num_lists // 16))
    index.train(packed)
    return index


def _hnsw(packed: NDArray[np.uint8]) -> Any:
    index = faiss.IndexBinaryHNSW(8 * packed.shape[1], _LINKS)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_EFFORT, _SEARCH_EFFORT
    return index


def _multihash(packed: NDArray[np.uint8]) -> Any:
    """Make tables over parts of about log2 N bits, each looked up with up to one bit flipped."""
    num_bits = 8 * packed.shape[1]
    part = min(num_bits, max(8, round(math.log2(len(packed)) / 4) * 4))
    index = faiss.IndexBinaryMultiHash(num_bits, num_bits // part, part)
    index.nflip = 1
    return index


_STRUCTURES = {"ivf": _ivf, "hnsw": _hnsw, "multihash": _multihash}
_SHIFT = 40  # a key holds the position in the lower 40 bits, and the distance above


@dataclass(eq=False)
class CodeStore:
    """All codes in the order of the database, and a structure for faster approximate search.

    Args:
        kind: `flat`, `ivf`, `hnsw` or `multihash`.
        flat: All codes as `IndexBinaryFlat`, which the structures of hnsw and multihash share.
        structure: Approximate FAISS index; None for the kind `flat`.
    """

    kind: str
    flat: Any
    structure: Any = None

    @classmethod
    def build(cls, packed: NDArray[np.uint8], kind: str) -> "CodeStore":
        """Build a store of `packed` `(N, K / 8)`, contiguous, at least one code."""
        structure = _STRUCTURES[kind](packed) if kind in _STRUCTURES else None
        store = cls(kind, faiss.IndexBinaryFlat(8 * packed.shape[1]), structure)
        store.add(packed)
        return store

    def __len__(self) -> int:
        return int(self.flat.ntotal)

    @property
    def num_bits(self) -> int:
        """Number of bits of a code, K."""
        return int(self.flat.d)

    def add(self, packed: NDArray[np.uint8]) -> None:
        """Append `(M, K / 8)` codes."""
        if self.structure is not None:
            self.structure.add(packed)
        if self.kind in ("flat", "ivf"):
            self.flat.add(packed)
        else:
            self.flat = faiss.downcast_IndexBinary(self.structure.storage)

    def codes(self, positions: Positions | None = None) -> NDArray[np.uint8]:
        """Copy the packed codes at `positions`, of any shape; None copies all."""
        num_bytes = self.num_bits // 8
        if not len(self):
            return np.empty((0, num_bytes), np.uint8)
        view = faiss.rev_swig_ptr(self.flat.xb.data(), len(self) * num_bytes).reshape(len(self), num_bytes)
        found: NDArray[np.uint8] = view.copy() if positions is None else view[positions]
        return found

    def nearest(self, packed: NDArray[np.uint8], k: int) -> tuple[Positions, Distances]:
        """Find the `k` nearest of at least `k` codes: positions and distances `(Q, k)`, ties by position.

        A query is answered by a scan if the structure finds fewer than `k` codes. `flat` is exact, and takes the first
        of the codes that tie for the last place; other kinds choose among the codes they have compared.
        """
        if not len(packed):
            return np.empty((0, k), np.int64), np.empty((0, k), np.int32)
        if self.structure is None:
            distances, positions = self.flat.search(packed, k)  # FAISS breaks ties by position itself
            return positions, distances
        distances, positions = self.structure.search(packed, k)
        short = (positions < 0).any(1)
        if short.any():
            distances[short], positions[short] = self.flat.search(packed[short], k)
        keys = distances.astype(np.int64) << _SHIFT | positions
        keys.sort(axis=1)
        return keys & (1 << _SHIFT) - 1, (keys >> _SHIFT).astype(np.int32)

    def within(self, packed: NDArray[np.uint8], radius: int) -> tuple[list[Positions], list[Distances]]:
        """Find all codes within `radius` bits of each query, exactly: nearest first, ties by position."""
        if not len(packed):
            return [], []
        index = self.flat
        if self.kind == "multihash" and radius < int(self.structure.nhash) * (int(self.structure.nflip) + 1):
            index = self.structure  # a code within the radius differs in at most `nflip` bits of one part
        limits, distances, positions = index.range_search(packed, radius + 1)  # FAISS finds distances below its radius
        keys = distances.astype(np.int64) << _SHIFT | positions
        parts = [np.sort(part) for part in np.split(keys, limits[1:-1].astype(np.int64))]
        return [part & (1 << _SHIFT) - 1 for part in parts], [(part >> _SHIFT).astype(np.int32) for part in parts]

    def parts(self) -> dict[str, NDArray[np.uint8]]:
        """Serialize the store as bytes of `codes`, `structure`, or both."""
        parts = {"codes": self.codes().reshape(-1)} if self.kind in ("flat", "ivf") else {}
        if self.structure is not None:
            parts["structure"] = faiss.serialize_index_binary(self.structure)
        return parts

    @classmethod
    def of_parts(cls, kind: str, num_bits: int, parts: dict[str, NDArray[np.uint8]]) -> "CodeStore":
        """Restore a store from its `parts`.

        Raises:
            ValueError: If the parts do not form a store of this kind.
        """
        if kind not in FAISS_CLASSES:
            raise ValueError(f"its kind is {kind!r:.80}")
        needed = {"flat": ["codes"], "ivf": ["codes", "structure"]}.get(kind, ["structure"])
        if not set(needed) <= set(parts):
            raise ValueError(f"it lacks a part of kind {kind!r}")
        structure: Any = _read_structure(parts["structure"], kind, num_bits) if "structure" in needed else None
        if "codes" not in needed:
            flat = faiss.downcast_IndexBinary(structure.storage)
        else:
            codes = parts["codes"]
            if num_bits % 8 or not 8 <= num_bits <= 8 * codes.size or codes.size % (num_bits // 8):
                raise ValueError(f"its codes have {num_bits} bits in {codes.size} bytes")
            flat = faiss.IndexBinaryFlat(num_bits)
            flat.add(codes.reshape(-1, num_bits // 8))
        if type(flat).__name__ != FAISS_CLASSES["flat"] or (structure and structure.ntotal != flat.ntotal):
            raise ValueError("its structure holds other codes")
        return cls(kind, flat, structure)


def _read_structure(content: NDArray[np.uint8], kind: str, num_bits: int) -> Any:
    try:
        structure = faiss.deserialize_index_binary(content)
    except RuntimeError as error:  # FAISS has no other class
        raise ValueError("FAISS cannot read its structure") from error
    if type(structure).__name__ != FAISS_CLASSES[kind] or structure.d != num_bits:
        raise ValueError(f"its structure is a {type(structure).__name__} of {structure.d} bits")
    return structure
