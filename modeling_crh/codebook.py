"""The codebook: number of bits per head, random codewords, and the centers that codewords make.

Codes of K bits have H heads of `head_dim` d bits each. The codebook `(H, M, d)` holds `codebook_size` M codewords of
each head, every entry -1 or +1, and the assignment `(H, C)` the number of the codeword of each of C classes.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, isqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SHARED_HEAD_DIM = 4
"""Default number of bits of a head whose words are shared."""

MOST_SHARED_BITS = 8
"""Largest number of bits of such a head: all its words are compared with each other."""


def choose_head_dim(num_bits: int, codebook_size: int) -> int:
    """Choose the bits per head: the least power of two d with 2^d >= M that divides K, else the least such divisor.

    Raises:
        ValueError: If K bits make fewer than M words; the message names the least K that is enough.

    Example:
        >>> choose_head_dim(64, 200), choose_head_dim(64, 392), choose_head_dim(24, 200)
        (8, 16, 8)
    """
    least = max(1, (codebook_size - 1).bit_length())  # 2^d >= M
    if num_bits < least:
        needed = f"at least {8 * -(-least // 8)} for M={codebook_size} codewords"
        reason = f"{num_bits} bits make only {2**num_bits} words"
        raise ValueError(f"`num_bits` must be {needed}, since {reason}, but got {num_bits}.")
    power = 1 << (least - 1).bit_length()  # if this one does not divide K, no larger power of two does
    if num_bits % power == 0:
        return power
    small = [d for d in range(1, isqrt(num_bits) + 1) if num_bits % d == 0]
    return min(d for d in [*small, *(num_bits // d for d in small)] if d >= least)


def check_prefixes(prefix_bits: Sequence[int], num_bits: int, head_dim: int) -> None:
    """Check the numbers of first bits, perhaps none, that a model is trained for beside all its bits.

    Raises:
        ValueError: If they are not ascending multiples of 8 and of d below K.
    """
    for least, length in pairwise([0, *prefix_bits, num_bits]):
        if length <= least or length % 8 or length % head_dim:
            rule = f"ascending multiples of 8 and of d={head_dim}, below K={num_bits}"
            raise ValueError(f"`prefix_bits` must be {rule}, but got {list(prefix_bits)}.")


def choose_length(num_bits: int | None, lengths: Sequence[int]) -> int:
    """Choose a number of first bits of codes: the one that was asked for, or all K bits for None.

    The model of the codes is trained for numbers of first bits that ascend to K, the `lengths`.

    Raises:
        ValueError: If the model is not trained for `num_bits`.
    """
    if num_bits is not None and num_bits not in lengths:
        known = " or ".join(map(str, lengths))
        raise ValueError(f"`num_bits` must be {known}, which the model is trained for, but got {num_bits!r}.")
    return lengths[-1] if num_bits is None else num_bits


def word_capacity(num_labels: int, head_dim: int, room: float) -> int:
    """Compute the largest number of classes that may hold a shared word, ceil(beta C / 2^d).

    The room of all words of a head, beta, is a multiple of C, from 1 up.

    Example:
        >>> word_capacity(1611, 4, 1.27)
        128
    """
    num_words: int = 2**head_dim
    return ceil(room * num_labels / num_words)


def draw_codebook(num_heads: int, codebook_size: int, head_dim: int, generator: np.random.Generator) -> Tensor:
    """Draw M different words of d bits for every head, uniformly, as `(H, M, d)` `int8`.

    NumPy's generator has the same streams on every machine.

    Raises:
        ValueError: If there are no M different words of d bits.
    """
    if codebook_size > 2**head_dim:
        most = f"2^d={2**head_dim} for d={head_dim} bits a head"
        raise ValueError(f"`codebook_size` must be at most {most}, but got {codebook_size}.")
    return extend_codebook(torch.empty(num_heads, 0, head_dim), codebook_size, generator)


def draw_assignment(
    num_heads: int, num_labels: int, codebook_size: int, generator: np.random.Generator, capacity: int = 1
) -> Tensor:
    """Draw a codeword for each of the C classes in every head separately, no word for more than `capacity` classes.

    Returns:
        `(H, C)` `int64`, entries from 0 to M - 1; C is at most M times `capacity`.
    """
    places = np.repeat(np.arange(codebook_size), capacity)
    words = [generator.permutation(places)[:num_labels] for _ in range(num_heads)]
    return torch.from_numpy(np.stack(words))


def compose_centers(codebook: Tensor, assignment: Tensor) -> Tensor:
    """Concatenate the codewords of each class in the H heads (Eq. 8), as `(C, H * d)` with the dtype of `codebook`.

    Example:
        >>> codebook = torch.tensor([[[1, 1], [-1, 1]], [[1, -1], [-1, -1]]])
        >>> compose_centers(codebook, torch.tensor([[0, 1], [1, 0]]))
        tensor([[ 1,  1, -1, -1],
                [-1,  1,  1, -1]])
    """
    heads = torch.arange(len(codebook), device=codebook.device).unsqueeze(1)  # (H, 1)
    words = codebook[heads, assignment]  # (H, C, d)
    return words.transpose(0, 1).flatten(1)


def draw_centers(
    num_heads: int,
    codebook_size: int,
    head_dim: int,
    num_labels: int,
    *,
    capacity: int = 1,
    draws: int = 1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw codebooks with an assignment, and keep the pair whose closest centers lie furthest apart.

    No word is held by more than `capacity` classes, so that C is at most M times this number. One draw is the paper's
    method. The first of equal draws is kept, and the same seed gives the same result on every machine.

    Returns:
        The codebook `(H, M, d)` `int8` and the assignment `(H, C)` `int64`.

    Raises:
        ValueError: If `draws` is less than 1, or there are no M different words of d bits.
    """
    if draws < 1:
        raise ValueError(f"`draws` must be at least 1, but got {draws}.")
    generator = np.random.default_rng(seed)
    best_distance = -1
    for _ in range(draws):
        codebook = draw_codebook(num_heads, codebook_size, head_dim, generator)
        assignment = draw_assignment(num_heads, num_labels, codebook_size, generator, capacity)
        distance = center_distances(compose_centers(codebook, assignment)).least if draws > 1 else 0
        if distance > best_distance:
            best, best_distance = (codebook, assignment), distance
    return best


class CenterDistances(NamedTuple):
    """Hamming distances between the centers of different classes, in bits.

    Attributes:
        least: Smallest distance; 0 if two classes have the same codewords.
        mean: Mean distance over all pairs.
    """

    least: int
    mean: float


def center_distances(centers: Tensor, block: int = 1024) -> CenterDistances:
    """Compute the least and the mean Hamming distance over all pairs of different classes, by `(C, K)` centers.

    A block of rows is compared at a time, which bounds the memory to block * C.

    Raises:
        ValueError: If there are fewer than two centers.

    Example:
        >>> center_distances(torch.tensor([[1, 1, 1], [1, 1, -1], [-1, -1, -1]]))
        CenterDistances(least=1, mean=2.0)
    """
    num_labels, num_bits = centers.shape
    if num_labels < 2:
        raise ValueError(f"`centers` must hold at least two centers, but got {num_labels}.")
    floats = centers.float()
    most_agreement = -num_bits
    for start in range(0, num_labels, block):
        agreement = floats[start : start + block] @ floats[start:].T  # (B, C - start), K - 2 distance
        agreement.diagonal().fill_(-num_bits)  # a center and itself are no pair
        most_agreement = max(most_agreement, int(agreement.max()))
    ones = (centers > 0).sum(0)  # (K,); in a bit, each center with +1 differs from each with -1
    pairs = num_labels * (num_labels - 1) // 2
    return CenterDistances((num_bits - most_agreement) // 2, int((ones * (num_labels - ones)).sum()) / pairs)


def extend_codebook(codebook: Tensor, codebook_size: int, generator: np.random.Generator) -> Tensor:
    """Append random codewords to every head, up to `codebook_size` (from M to 2^d); all words of a head stay different.

    Returns:
        `(H, codebook_size, d)` `int8`, on the CPU; the first M words of each head are those of `codebook`.

    Example:
        >>> extend_codebook(torch.tensor([[[1], [-1]]]), 2, np.random.default_rng(0)).tolist()
        [[[1], [-1]]]
    """
    words = (codebook.cpu().numpy() > 0).astype(np.int8)  # (H, M, d)
    heads = [_draw_words(codebook_size, generator, head) for head in words]
    return torch.from_numpy(np.stack(heads) * 2 - 1)


def _draw_words(codebook_size: int, generator: np.random.Generator, words: np.ndarray) -> np.ndarray:
    """Append random words of 0 and 1 to `words`, `(M, d)`, up to `codebook_size` different ones."""
    while len(words) < codebook_size:
        more = generator.integers(0, 2, size=(codebook_size, words.shape[1]), dtype=np.int8)
        words = distinct_rows(np.concatenate([words, more]))
    return words[:codebook_size]


def distinct_rows(words: np.ndarray) -> np.ndarray:
    """Leave out repeated rows, in the order of the first ones, so that cutting to M stays uniform."""
    return words[np.sort(np.unique(words, axis=0, return_index=True)[1])]
