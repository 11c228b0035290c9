"""What every call on an index checks: packed codes, and whole numbers within bounds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import is_whole


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
