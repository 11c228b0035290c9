"""Choose the kind of an index in memory; train, write and restore the lists of `ivf`, by FAISS."""

import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from modeling_crh.search.index_file import Parts

KINDS = ("flat", "ivf")
FLAT_LIMIT = 2_000_000
"""Most codes that `auto` scans: about a millisecond per query of 64 bits and core, `benchmarks/bench_search.py`."""

_POINTS_PER_LIST = 39  # least number of points for FAISS to train a list's center
_TRAINING_POINTS = 64  # per list: ten times as fast as FAISS's 256 in 25 rounds, at the same recall
_TRAINING_ROUNDS = 10
_NUMBER = np.dtype("<i4")  # of a list, in a file


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


def flat_index(packed: NDArray[np.uint8]) -> Any:
    """Make an `IndexBinaryFlat` of packed codes `(N, K / 8)`, contiguous."""
    flat = faiss.IndexBinaryFlat(8 * packed.shape[1])
    flat.add(packed)
    return flat


def train_lists(packed: NDArray[np.uint8]) -> Any:
    """Divide codes into about sqrt(N) lists by k-means: an `IndexBinaryIVF` that searches a sixteenth of them."""
    num_bits = 8 * packed.shape[1]
    fitting = max(1, len(packed) // _POINTS_PER_LIST)
    num_lists = min(2 ** math.ceil(math.log2(math.sqrt(len(packed)))), fitting)
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(num_bits), num_bits, num_lists)
    index.cp.max_points_per_centroid, index.cp.niter = _TRAINING_POINTS, _TRAINING_ROUNDS
    index.cp.min_points_per_centroid = 1  # silences a warning
    index.train(packed)
    lists = _empty_lists(_centers(index).reshape(num_lists, -1))
    lists.add(packed)
    return lists


def _centers(lists: Any) -> Any:
    quantizer: Any = faiss.downcast_IndexBinary(lists.quantizer)
    return faiss.vector_to_array(quantizer.xb)


def _empty_lists(centers: NDArray[np.uint8]) -> Any:
    """Make lists with these packed centers."""
    num_lists = len(centers)
    lists = faiss.IndexBinaryIVF(flat_index(centers), 8 * centers.shape[1], num_lists)
    lists.is_trained = True
    lists.nprobe = min(num_lists, max(8, num_lists // 16))
    return lists


def index_parts(flat: Any, lists: Any) -> Parts:
    """Write an index as bytes: `codes`; for ivf the `centers` of its lists, and the list of each code, `lists`."""
    parts = {"codes": faiss.vector_to_array(flat.xb)}
    if lists is not None:
        numbers = np.empty(flat.ntotal, _NUMBER)
        for number in range(lists.nlist):
            size = lists.invlists.list_size(number)
            if size:
                numbers[faiss.rev_swig_ptr(lists.invlists.get_ids(number), size)] = number
        parts |= {"centers": _centers(lists), "lists": numbers.view(np.uint8)}
    return parts


def index_of_parts(kind: str, num_bits: int, parts: Parts) -> tuple[Any, Any]:
    """Restore codes and lists from `index_parts`, none of which FAISS itself reads: they are checked numbers.

    Raises:
        ValueError: If the parts do not form an index of this kind.
    """
    needed = {"flat": {"codes"}, "ivf": {"codes", "centers", "lists"}}
    if kind not in needed:
        raise ValueError(f"its kind is {kind!r:.80}, and not {' or '.join(needed)}")
    if not needed[kind] <= set(parts):
        raise ValueError(f"it lacks {', '.join(sorted(needed[kind] - set(parts)))} of the kind {kind}")
    codes = _as_codes("codes", parts["codes"], num_bits)
    if kind == "flat":
        return flat_index(codes), None
    lists = _empty_lists(_as_codes("centers", parts["centers"], num_bits))
    if parts["lists"].size != _NUMBER.itemsize * len(codes):
        raise ValueError(f"its lists have {parts['lists'].size} bytes for {len(codes)} codes")
    numbers = parts["lists"].copy().view(_NUMBER).astype(np.int64)
    if not 0 <= numbers.min() <= numbers.max() < lists.nlist:
        raise ValueError(f"its lists have the numbers {numbers.min()} to {numbers.max()} of {lists.nlist} lists")
    lists.add_core(len(codes), faiss.swig_ptr(codes), None, faiss.swig_ptr(numbers))
    return flat_index(codes), lists


def _as_codes(name: str, content: NDArray[np.uint8], num_bits: int) -> NDArray[np.uint8]:
    """Check the size of packed codes from a file, and give them their shape."""
    if num_bits % 8 or not 8 <= num_bits <= 8 * content.size or content.size % (num_bits // 8):
        raise ValueError(f"its {name} have {num_bits} bits in {content.size} bytes")
    return np.ascontiguousarray(content.reshape(-1, num_bits // 8))
