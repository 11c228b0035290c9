"""Codes and labels as 64-bit words."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_tensor
from modeling_crh.codes import check_signs

_ROWS_AT_ONCE = 2**18  # so that no copy of all codes is made


def check_codes(name: str, codes: Tensor) -> None:
    """Check that `codes` is a non-empty table of -1 and +1.

    Args:
        name: What the caller calls `codes`, for the message.
        codes: `(N, K)`.

    Raises:
        ValueError: If `codes` is no tensor, has another shape, no row, no bit, or an entry other than -1 and +1.
    """
    check_tensor(name, codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"`{name}` must be (N, K) with at least one row and one bit, but got shape {tuple(codes.shape)}."
        )
    check_signs(name, codes)


def pack_words(bits: Tensor) -> NDArray[np.uint64]:
    """Pack the positive entries of each row into 64-bit words, the last of them filled up with zeros.

    Args:
        bits: `(N, K)`, any `K` from 1 up; a positive entry is a set bit.

    Returns:
        `(W, N)` with `W` = `K / 64` rounded up: one contiguous row per word.
    """
    parts = [np.packbits((part > 0).cpu().numpy(), axis=1) for part in bits.split(_ROWS_AT_ONCE)]
    packed = np.concatenate(parts)  # (N, K / 8 rounded up)
    missing = -packed.shape[1] % 8
    filled = np.pad(packed, ((0, 0), (0, missing)))  # (N, 8 * W)
    return np.ascontiguousarray(filled.view(np.uint64).T)
