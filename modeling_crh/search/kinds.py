"""The kinds of index by name: which one suits how many codes, and how FAISS builds it."""

import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

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
    """Name the kind to build.

    `flat` scans all codes and is exact. `ivf` looks through the lists of the nearest centers: of learned codes, which
    lie in clusters, it finds nearly all neighbours in a small part of the time, of codes without clusters fewer. `hnsw`
    walks a graph and `multihash` looks up parts of the code; both miss more of either and take more memory, `multihash`
    is the fastest for codes in tight clusters. With several threads FAISS builds another graph for `hnsw` each time.

    A million codes of 64 bits, `benchmarks/bench_search.py`, one core: clustered, milliseconds a query and recall at 10
    are 0.62 and 1 for `flat`, 0.05 and 1.00 for `ivf`, 0.09 and 0.94 for `hnsw`, 0.03 and 0.94 for `multihash`; random,
    0.45 and 1, 0.04 and 0.83, 0.20 and 0.44, 0.02 and 0.09. Bytes a code: 8, 34, 153 and 133 or more.

    Args:
        kind: One of them; or `auto`, which is `flat` up to `FLAT_LIMIT` codes and `ivf` above.
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


def make_structure(kind: str, packed: NDArray[np.uint8]) -> Any:
    """What FAISS builds over codes, other than `flat`.

    Args:
        kind: `ivf`, `hnsw` or `multihash`.
        packed: `(N, K / 8)`, contiguous, at least one code.

    Returns:
        An index that holds them.
    """
    index = {"ivf": _ivf, "hnsw": _hnsw, "multihash": _multihash}[kind](packed)
    index.add(packed)
    return index


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
