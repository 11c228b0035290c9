"""Codes and labels packed into 64-bit words."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_tensor
from modeling_crh.codes import check_signs
from modeling_crh.labels import NO_LABEL

_ROWS_AT_ONCE = 2**18  # so that no copy of all codes is made


def check_codes(name: str, codes: Tensor) -> None:
    """Check that `codes` is a non-empty table of -1 and +1.

    Args:
        name: Name of the argument, for the message.
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


def pack_label_pair(
    query_labels: Tensor, database_labels: Tensor, sizes: tuple[int, int], *, leave_one_out: bool = False
) -> tuple[Any, Any]:
    """Check the labels of both sides and lay them out for the kernel.

    Args:
        query_labels: `(Q,)` class numbers, -100 without a label, or `(Q, C)` multi-hot rows of 0 and 1.
        database_labels: `(N,)` or `(N, C)`, of the same kind.
        sizes: Numbers of codes of both sides, `Q` and `N`.
        leave_one_out: Whether both sides are one set, in which an item has one label.

    Returns:
        For class numbers, `int64` arrays `(Q,)` and `(N,)`, in which every item without a label has a negative number
        of its own; for multi-hot rows, the `uint64` words `(W, Q)` and `(W, N)` of `pack_words`.

    Raises:
        ValueError: If a side is no tensor, has another shape or length or an entry that is no label, or if one side is
            multi-hot and the other not.
    """
    for name, labels, size in zip(
        ("query_labels", "database_labels"), (query_labels, database_labels), sizes, strict=True
    ):
        _check_labels(name, labels, size)
    if query_labels.shape[1:] != database_labels.shape[1:]:
        raise ValueError(
            "`query_labels` and `database_labels` must both be class numbers, or both be multi-hot with the same C, "
            f"but got shapes {tuple(query_labels.shape)} and {tuple(database_labels.shape)}."
        )
    if query_labels.ndim == 2:
        return pack_words(query_labels), pack_words(database_labels)
    return _own_numbers(query_labels, 1), _own_numbers(database_labels, 1 if leave_one_out else 1 + sizes[0])


def _own_numbers(labels: Tensor, first: int) -> NDArray[np.int64]:
    """Class numbers, with -`first`, -`first` - 1, ... for the items without a label: no two of them are equal."""
    numbers = labels.long().contiguous().cpu().numpy()  # contiguous, or Numba would compile another version
    return np.where(numbers == NO_LABEL, -np.arange(first, first + len(numbers)), numbers)


def _check_labels(name: str, labels: Tensor, size: int) -> None:
    check_tensor(name, labels)
    if labels.ndim not in (1, 2) or len(labels) != size or 0 in labels.shape:
        raise ValueError(
            f"`{name}` must be ({size},) class numbers or ({size}, C) multi-hot rows, one for each code, "
            f"but got shape {tuple(labels.shape)}."
        )
    if labels.ndim == 2:
        wrong, rule = labels[(labels != 0) & (labels != 1)], "only 0 and 1 where it is (N, C)"
    else:
        whole = torch.isfinite(labels) & (labels == labels.floor()) if labels.is_floating_point() else labels == labels
        is_label = (labels >= 0) | (labels == NO_LABEL if labels.is_signed() else False)
        wrong, rule = labels[~(whole & is_label)], f"class numbers from 0 up, or {NO_LABEL} for none, where it is (N,)"
    if len(wrong):
        raise ValueError(f"`{name}` must hold {rule}, but holds {wrong[0].item()}.")
