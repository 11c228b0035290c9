"""How well codes use their bits."""

import torch
from torch import Tensor

from modeling_crh.metrics.words import check_codes

ROWS_PER_PRODUCT = 2**16  # float32 holds every integer up to 2**24, so a product of so many rows is exact


def bit_balance(codes: Tensor) -> float:
    """Compute how far bits are from being +1 half of the time: the mean over bits of |mean over rows|.

    Args:
        codes: `(N, K)`, every entry -1 or +1.

    Returns:
        From 0, every bit balanced, to 1, every bit constant.

    Raises:
        ValueError: If `codes` has another shape, is empty, or has an entry other than -1 and +1.

    Example:
        >>> bit_balance(torch.tensor([[1, 1], [1, -1]]))
        0.5
    """
    check_codes("codes", codes)
    sums = codes.sum(dim=0, dtype=torch.int64)  # (K,)
    return sums.abs().sum().item() / codes.numel()


def bit_correlation(codes: Tensor) -> float:
    """Compute the mean absolute Pearson correlation between different bits.

    A constant bit has no correlation. A pair with one counts 1: the bit tells nothing that the others do not, and a
    code that collapses must not look independent.

    Args:
        codes: `(N, K)`, every entry -1 or +1, `K` at least 2.

    Returns:
        From 0, bits uncorrelated, to 1, every bit tells the same or nothing.

    Raises:
        ValueError: If `codes` has another shape, no row, fewer than two bits, or an entry other than -1 and +1.

    Example:
        >>> bit_correlation(torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]))
        0.0
    """
    check_codes("codes", codes)
    num_rows, num_bits = codes.shape
    if num_bits < 2:
        raise ValueError("`codes` must have at least 2 bits to correlate, but has 1.")
    products = torch.zeros(num_bits, num_bits, dtype=torch.float64)
    for first in range(0, num_rows, ROWS_PER_PRODUCT):
        rows = codes[first : first + ROWS_PER_PRODUCT].float()
        products += (rows.T @ rows).cpu()
    mean = codes.sum(dim=0, dtype=torch.int64).cpu().double() / num_rows  # (K,)
    deviation = (1 - mean**2).sqrt()  # (K,), since every square is 1
    scale = deviation[:, None] * deviation  # (K, K)
    correlation = torch.where(scale > 0, (products / num_rows - mean[:, None] * mean) / scale, 1.0).abs()
    above = torch.triu_indices(num_bits, num_bits, offset=1)
    return correlation[above[0], above[1]].clamp(max=1).mean().item()
