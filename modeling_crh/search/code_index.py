"""What every index over packed codes can do, how its arguments are checked, and re-ranking."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.search.faiss_store import Distances, Positions


def check_packed(name: str, packed: Any, num_bits: int | None = None) -> NDArray[np.uint8]:
    """Give packed codes back as a contiguous array.

    Args:
        name: What the caller calls `packed`, for the message.
        packed: `(N, K / 8)` uint8, an array or a tensor.
        num_bits: `K`, where it is known.

    Raises:
        ValueError: If it has another shape or type.
    """
    array = packed.cpu().numpy() if isinstance(packed, Tensor) else packed
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] == 0:
        kind = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(packed).__name__
        raise ValueError(f"`{name}` must be (N, K / 8) uint8, but got {kind}.")
    if num_bits is not None and 8 * array.shape[1] != num_bits:
        raise ValueError(
            f"`{name}` must hold codes of {num_bits} bits, as the index does, but got {8 * array.shape[1]}."
        )
    return np.ascontiguousarray(array)


def check_count(name: str, value: Any) -> int:
    """Give `value` back if it is a whole number, 1 or larger.

    Raises:
        ValueError: If it is not.
    """
    if not is_whole(value) or value < 1:
        raise ValueError(f"`{name}` must be a whole number, 1 or larger, but got {value!r:.80}.")
    return int(value)


def check_radius(radius: Any, num_bits: int) -> int:
    """Give `radius` back if it is a whole number of bits from 0 to `num_bits`.

    Raises:
        ValueError: If it is not.
    """
    if not is_whole(radius) or not 0 <= radius <= num_bits:
        raise ValueError(f"`radius` must be a whole number of bits from 0 to {num_bits}, but got {radius!r:.80}.")
    return int(radius)


class CodeIndex(Protocol):
    """An index: `HammingIndex` in memory, or `LanceIndex` and `LanceView` in a table; see there."""

    @property
    def kind(self) -> str:
        """How it finds codes."""

    @property
    def num_bits(self) -> int:
        """`K`."""

    @property
    def model(self) -> str:
        """Of the codes."""

    @property
    def revision(self) -> str:
        """Of the model."""

    def __len__(self) -> int: ...

    def search_positions(
        self, packed_queries: Any, k: int = 10, *, rerank_logits: Any = None, num_candidates: int | None = None
    ) -> tuple[Positions, Distances]:
        """The `k` nearest items of each query."""

    def search_radius_positions(self, packed_queries: Any, radius: int) -> tuple[list[Positions], list[Distances]]:
        """All items within a radius of each query."""

    def records(self, positions: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Id, label and path of items."""


_CANDIDATES = 10  # times k, that re-ranking looks at
_BLOCK = 1 << 24  # bits of candidates that are unpacked at a time


def check_logits(rerank_logits: Any, packed_queries: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give hash logits back as an array if they belong to the packed queries.

    Args:
        rerank_logits: `(Q, K)` floating point, an array or a tensor.
        packed_queries: `(Q, K / 8)` uint8.

    Raises:
        ValueError: If they have another shape or type, hold NaN, or have other signs than the queries.
    """
    logits = rerank_logits.detach().cpu().float().numpy() if isinstance(rerank_logits, Tensor) else rerank_logits
    shape = (len(packed_queries), 8 * packed_queries.shape[1])
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f" or logits.shape != shape:
        kind = f"{logits.dtype} of shape {logits.shape}" if isinstance(logits, np.ndarray) else type(logits).__name__
        raise ValueError(f"`rerank_logits` must be {shape} floating point, one row a query, but got {kind}.")
    if not np.isfinite(logits).all():
        raise ValueError("`rerank_logits` must be finite, but some are not.")
    if not np.array_equal(np.packbits(logits >= 0, axis=1), packed_queries):
        raise ValueError("`rerank_logits` must have the signs of `packed_queries`, but some differ.")
    return np.asarray(logits, np.float32)


def check_candidates(k: int, num_candidates: int | None) -> int:
    """How many candidates to look at for the `k` best: `num_candidates`, or by default ten times as many.

    Raises:
        ValueError: If it is no whole number, or less than `k`.
    """
    wanted = check_count("num_candidates", _CANDIDATES * k if num_candidates is None else num_candidates)
    if wanted < k:
        raise ValueError(f"`num_candidates` must be at least k={k}, but got {wanted}.")
    return wanted


def rerank(logits: NDArray[np.float32], candidates: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Choose the `k` candidates of each query whose codes have the largest dot product with its hash logits.

    Args:
        logits: `(Q, K)`.
        candidates: `(Q, C, K / 8)` uint8 with `C >= k`; those at the same dot product stay in their order.
        k: How many.

    Returns:
        `(Q, k)` numbers from 0 to C - 1, closest first.

    Example:
        >>> logits = np.array([[0.1, 3, 3, 3, 3, 3, 3, 3]], np.float32)
        >>> first_bit_off, second_bit_off = 0b01111111, 0b10111111
        >>> rerank(logits, np.array([[[second_bit_off], [first_bit_off]]], np.uint8), 2)
        array([[1, 0]])
    """
    chosen = np.empty((len(logits), k), np.int64)
    block = max(1, _BLOCK // (8 * candidates.shape[1] * candidates.shape[2]))
    for start in range(0, len(logits), block):
        rows = slice(start, start + block)
        bits = np.unpackbits(candidates[rows], axis=2).astype(np.float32)  # (q, C, K)
        scores = (bits @ logits[rows, :, None])[..., 0]  # (q, C), half of the dot product plus a constant of the query
        chosen[rows] = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return chosen


TABLE_SUFFIX = ".lance"


def is_table_uri(uri: str | Path) -> bool:
    """Whether a path or URI names a table by its form: `NAME.lance`, or anything with a scheme such as `s3://`.

    Example:
        >>> is_table_uri("photos.lance"), is_table_uri("s3://bucket/photos.lance"), is_table_uri("photos.crh")
        (True, True, False)
    """
    return "://" in str(uri) or Path(uri).suffix == TABLE_SUFFIX
