"""CodeStore: packed codes inside FAISS, found by their position in the database."""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from modeling_crh.checks import is_whole
from modeling_crh.search.kinds import FAISS_CLASSES, make_structure

Positions = NDArray[np.int64]
Distances = NDArray[np.int32]

_SHIFT = 40  # a key is the distance above, and the position in the lower 40 bits


@dataclass(eq=False)
class CodeStore:
    """All codes in the order of the database, and a structure that finds some of them faster than a scan.

    Args:
        kind: `flat`, `ivf`, `hnsw` or `multihash`.
        flat: Every code, as `IndexBinaryFlat`; hnsw and multihash hold one themselves.
        structure: Of the other kinds; None with `flat`.
    """

    kind: str
    flat: Any
    structure: Any = None

    @classmethod
    def build(cls, packed: NDArray[np.uint8], kind: str) -> "CodeStore":
        """A store of `packed` `(N, K / 8)`, contiguous."""
        if kind in ("flat", "ivf"):
            flat = faiss.IndexBinaryFlat(8 * packed.shape[1])
            flat.add(packed)
            return cls(kind, flat, make_structure(kind, packed) if kind == "ivf" else None)
        return cls._of_structure(kind, make_structure(kind, packed))

    @classmethod
    def _of_structure(cls, kind: str, structure: Any) -> "CodeStore":
        return cls(kind, faiss.downcast_IndexBinary(structure.storage), structure)

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
        """A copy of the packed codes at `positions`, of any shape; or of all."""
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
        index = self.structure if self._reaches(radius) else self.flat
        limits, distances, positions = index.range_search(packed, radius + 1)  # FAISS means smaller than
        keys = distances.astype(np.int64) << _SHIFT | positions
        parts = [np.sort(part) for part in np.split(keys, limits[1:-1].astype(np.int64))]
        return [part & (1 << _SHIFT) - 1 for part in parts], [(part >> _SHIFT).astype(np.int32) for part in parts]

    def _reaches(self, radius: int) -> bool:
        """Whether hash tables hold every code within `radius`: one of T parts then differs in at most `nflip` bits."""
        if self.kind != "multihash":
            return False
        return radius < int(self.structure.nhash) * (int(self.structure.nflip) + 1)

    def parts(self) -> dict[str, NDArray[np.uint8]]:
        """What a file holds of it: `codes`, or `structure`, or both, as bytes."""
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
        flat = structure = None
        if not is_whole(num_bits) or num_bits < 8 or num_bits % 8:
            raise ValueError(f"its codes have {num_bits!r:.80} bits")
        if "codes" in parts:
            flat = faiss.IndexBinaryFlat(num_bits)
            flat.add(parts["codes"].reshape(-1, num_bits // 8))
        if "structure" in parts:
            try:
                structure = faiss.deserialize_index_binary(parts["structure"])
            except RuntimeError as error:
                raise ValueError("FAISS cannot read its structure") from error
            if type(structure).__name__ != FAISS_CLASSES.get(kind) or structure.d != num_bits:
                raise ValueError(f"its structure is a {type(structure).__name__} of {structure.d} bits")
        if (flat is None, structure is None) != (kind in ("hnsw", "multihash"), kind == "flat"):
            raise ValueError(f"it lacks a part of kind {kind!r}")
        store = cls._of_structure(kind, structure) if flat is None else cls(kind, flat, structure)
        if type(store.flat).__name__ != FAISS_CLASSES["flat"] or (structure and structure.ntotal != len(store)):
            raise ValueError("its structure holds other codes")
        return store
