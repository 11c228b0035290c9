"""The codes of an index in memory, searched by FAISS."""

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
"""Most codes that `auto` scans: about a millisecond a query of 64 bits on one core, `benchmarks/bench_search.py`."""

_POINTS_PER_LIST = 39  # what FAISS asks for to train a list's center
_TRAINING_POINTS = 64  # a list, and no more: ten times as fast as FAISS's 256 in 25 rounds, at the same recall
_TRAINING_ROUNDS = 10
_LINKS, _BUILD_EFFORT, _SEARCH_EFFORT = 16, 40, 128


def choose_kind(kind: str, num_codes: int) -> str:
    """Name the kind of index to build.

    `flat` scans all codes and is exact. `ivf` looks through the lists of the nearest centers: of learned codes, which
    lie in clusters, it finds nearly all neighbours in a small part of the time, of codes without clusters fewer. `hnsw`
    walks a graph and `multihash` looks up parts of the code; both miss more of either and take more memory, `multihash`
    is the fastest for codes in tight clusters. With several threads FAISS builds another graph for `hnsw` each time.

    A million codes of 64 bits, `benchmarks/bench_search.py`, one core: clustered, milliseconds a query and recall at 10
    are 0.62 and 1 for `flat`, 0.05 and 1.00 for `ivf`, 0.09 and 0.94 for `hnsw`, 0.03 and 0.94 for `multihash`; random,
    0.45 and 1, 0.04 and 0.83, 0.20 and 0.44, 0.02 and 0.09. Bytes a code: 8, 34, 153 and 133 or more.

    Args:
        kind: `flat`, `ivf`, `hnsw` or `multihash`; or `auto`, which is `flat` up to `FLAT_LIMIT` codes, else `ivf`.
        num_codes: `N`.

    Raises:
        ValueError: If there is no such kind.

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
    """About the square root of N lists, of which a sixteenth is looked through."""
    num_bits = 8 * packed.shape[1]
    fitting = max(1, len(packed) // _POINTS_PER_LIST)
    num_lists = min(2 ** math.ceil(math.log2(math.sqrt(len(packed)))), fitting)
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(num_bits), num_bits, num_lists)
    index.cp.max_points_per_centroid, index.cp.niter = _TRAINING_POINTS, _TRAINING_ROUNDS
    index.cp.min_points_per_centroid = 1  # fewer are no reason to print a warning
    index.nprobe = min(num_lists, max(8, num_lists // 16))
    index.train(packed)
    return index


def _hnsw(packed: NDArray[np.uint8]) -> Any:
    index = faiss.IndexBinaryHNSW(8 * packed.shape[1], _LINKS)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_EFFORT, _SEARCH_EFFORT
    return index


def _multihash(packed: NDArray[np.uint8]) -> Any:
    """Tables over parts of about log2 N bits, each looked up with up to one bit flipped."""
    num_bits = 8 * packed.shape[1]
    part = min(num_bits, max(8, round(math.log2(len(packed)) / 4) * 4))
    index = faiss.IndexBinaryMultiHash(num_bits, num_bits // part, part)
    index.nflip = 1
    return index


_STRUCTURES = {"ivf": _ivf, "hnsw": _hnsw, "multihash": _multihash}
_SHIFT = 40  # a key is the distance above, and the position in the lower 40 bits


@dataclass(eq=False)
class CodeStore:
    """All codes in the order of the database, and a structure that finds some of them faster than a scan.

    Args:
        kind: `flat`, `ivf`, `hnsw` or `multihash`.
        flat: Every code, as `IndexBinaryFlat`; the structures of hnsw and multihash hold one themselves.
        structure: What FAISS searches instead of `flat`; None for the kind `flat`.
    """

    kind: str
    flat: Any
    structure: Any = None

    @classmethod
    def build(cls, packed: NDArray[np.uint8], kind: str) -> "CodeStore":
        """A store of `packed` `(N, K / 8)`, contiguous, at least one code."""
        structure = _STRUCTURES[kind](packed) if kind in _STRUCTURES else None
        store = cls(kind, faiss.IndexBinaryFlat(8 * packed.shape[1]), structure)
        store.add(packed)
        return store

    def __len__(self) -> int:
        return int(self.flat.ntotal)

    @property
    def num_bits(self) -> int:
        """`K`."""
        return int(self.flat.d)

    def add(self, packed: NDArray[np.uint8]) -> None:
        """Put `(M, K / 8)` codes after those that are there."""
        if self.structure is not None:
            self.structure.add(packed)
        if self.kind in ("flat", "ivf"):
            self.flat.add(packed)
        else:
            self.flat = faiss.downcast_IndexBinary(self.structure.storage)

    def codes(self, positions: Positions | None = None) -> NDArray[np.uint8]:
        """A copy of the packed codes at `positions`, of any shape; None stands for all."""
        num_bytes = self.num_bits // 8
        if not len(self):
            return np.empty((0, num_bytes), np.uint8)
        view = faiss.rev_swig_ptr(self.flat.xb.data(), len(self) * num_bytes).reshape(len(self), num_bytes)
        found: NDArray[np.uint8] = view.copy() if positions is None else view[positions]
        return found

    def nearest(self, packed: NDArray[np.uint8], k: int) -> tuple[Positions, Distances]:
        """The `k` nearest of at least `k` codes: positions and distances `(Q, k)`, ties by position.

        A query for which a structure finds fewer than `k` is answered by a scan. `flat` is exact, and of codes that tie
        for the last place it takes the first; the others choose among those they have looked at.
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
        """All codes within `radius` bits of each query, exactly: nearest first, ties by position."""
        if not len(packed):
            return [], []
        index = self.flat
        if self.kind == "multihash" and radius < int(self.structure.nhash) * (int(self.structure.nflip) + 1):
            index = self.structure  # a code within reach differs in at most `nflip` bits in one of its parts
        limits, distances, positions = index.range_search(packed, radius + 1)  # FAISS means smaller than
        keys = distances.astype(np.int64) << _SHIFT | positions
        parts = [np.sort(part) for part in np.split(keys, limits[1:-1].astype(np.int64))]
        return [part & (1 << _SHIFT) - 1 for part in parts], [(part >> _SHIFT).astype(np.int32) for part in parts]

    def parts(self) -> dict[str, NDArray[np.uint8]]:
        """The bytes that a file holds of the store: `codes`, or `structure`, or both."""
        parts = {"codes": self.codes().reshape(-1)} if self.kind in ("flat", "ivf") else {}
        if self.structure is not None:
            parts["structure"] = faiss.serialize_index_binary(self.structure)
        return parts

    @classmethod
    def of_parts(cls, kind: str, num_bits: int, parts: dict[str, NDArray[np.uint8]]) -> "CodeStore":
        """Undo `parts`.

        Raises:
            ValueError: If they are not those of such a store.
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
