"""Fixed hash centers: Hadamard rows, random and balanced words, and words that keep the Gilbert-Varshamov distance."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard
from torch import Tensor

from modeling_crh.codebook import draw_codebook


def hadamard_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor | None:
    """Deal rows of Sylvester's Hadamard matrix, and of its negation where they are too few, to the classes at random.

    Any two rows of the matrix differ in half of their bits.

    Args:
        num_labels: Number of classes C.
        num_bits: Length K of a code.
        seed: Seed of the dealing.

    Returns:
        `(C, K)` int8, every entry -1 or +1; None where K is no power of two, or C is larger than 2 K.

    Example:
        >>> hadamard_centers(2, 4)
        tensor([[ 1,  1, -1, -1],
                [ 1,  1,  1,  1]], dtype=torch.int8)
    """
    if num_bits & (num_bits - 1) or num_labels > 2 * num_bits:
        return None
    rows = torch.from_numpy(hadamard(num_bits, dtype=np.int8))
    if num_labels > num_bits:
        rows = torch.cat([rows, -rows])
    return rows[np.random.default_rng(seed).permutation(len(rows))[:num_labels]]


def bernoulli_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor:
    """Draw C different words of K fair bits.

    Raises:
        ValueError: If there are no C different words of K bits.
    """
    _check_room(num_labels, num_bits)
    return draw_codebook(1, num_labels, num_bits, np.random.default_rng(seed))[0]


def balanced_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor:
    """Draw C different words with K // 2 ones; where there are fewer such words, the rest have any number of ones.

    Returns:
        `(C, K)` int8.

    Raises:
        ValueError: If there are no C different words of K bits.
    """
    _check_room(num_labels, num_bits)
    generator = np.random.default_rng(seed)
    balanced = min(num_labels, math.comb(num_bits, num_bits // 2))
    words = np.empty((0, num_bits), np.int8)
    half = np.where(np.arange(num_bits) < num_bits // 2, 1, -1).astype(np.int8)
    while len(words) < balanced:
        words = _unique(words, generator.permuted(np.tile(half, (num_labels, 1)), axis=1))[:balanced]
    while len(words) < num_labels:
        more = generator.integers(0, 2, (num_labels, num_bits), np.int8) * np.int8(2) - np.int8(1)
        words = _unique(words, more)[:num_labels]
    return torch.from_numpy(words)


def gilbert_varshamov_distance(num_labels: int, num_bits: int) -> int:
    """d_GV, the least d with 2^K / C <= sum_{i<d} binom(K, i): the distance that MDS and SHC ask of their centers.

    Example:
        >>> [gilbert_varshamov_distance(100, num_bits) for num_bits in (16, 32, 64)]
        [4, 10, 24]
    """
    within = 0
    for distance in range(1, num_bits + 1):
        within += math.comb(num_bits, distance - 1)
        if 2**num_bits <= num_labels * within:
            return distance
    return num_bits


def spread_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor:
    """Draw centers whose least distance is d_GV, or the largest distance below it that this construction reaches.

    They are C different words, drawn at random, of a random linear code that is grown one generator at a time, as in
    Varshamov's proof: a generator is taken if every word that it adds has at least d ones. The whole is then shifted
    by one random word, which leaves the distances as they are. With the class counts and bits of the benchmarks d_GV
    itself is reached. At a least distance of 1 the centers are just different.

    Args:
        num_labels: Number of classes C.
        num_bits: Length K of a code.
        seed: Seed of the centers, the same on every machine.

    Returns:
        `(C, K)` int8.

    Raises:
        ValueError: If there are no C different words of K bits.
    """
    _check_room(num_labels, num_bits)
    generator = np.random.default_rng(seed)
    dimension = max(1, (num_labels - 1).bit_length())  # 2^dimension >= C
    for distance in range(gilbert_varshamov_distance(num_labels, num_bits), 1, -1):
        for even in (False,) * 4 + (True,) * 4:
            words = _grow_code(dimension, num_bits, distance, generator, even)
            if words is not None:
                shift = generator.integers(0, 2, num_bits) * 2 - 1
                chosen = words[generator.permutation(len(words))[:num_labels]]
                return torch.from_numpy((chosen * shift).astype(np.int8))
    return bernoulli_centers(num_labels, num_bits, seed)


def _grow_code(
    dimension: int, num_bits: int, distance: int, generator: np.random.Generator, even: bool, tries: int = 16
) -> NDArray[np.float32] | None:
    """Grow a random linear code of at least that distance, `(2^dimension, K)`; None where it got stuck.

    Bits are -1 and +1, so that the sum of two words is their product. With `even` all words have an even number of
    ones, without which the densest codes of an even distance are hardly ever met.
    """
    words = np.ones((1, num_bits), np.float32)
    for _ in range(dimension):
        for _ in range(tries):
            drawn = (generator.integers(0, 2, (256, num_bits)) * 2 - 1).astype(np.float32)
            if even:
                drawn[:, -1] *= drawn.prod(1)
            ones = (num_bits - (drawn @ words.T).max(1)) / 2  # (256,), the fewest of the words that each would add
            far = np.flatnonzero(ones >= distance)
            if len(far):
                words = np.concatenate([words, words * drawn[far[0]]])
                break
        else:
            return None
    return words


def _check_room(num_labels: int, num_bits: int) -> None:
    if num_labels > 2**num_bits:
        raise ValueError(
            f"`num_bits` must make a word for each of C={num_labels} classes, but {num_bits} bits make {2**num_bits}."
        )


def _unique(words: NDArray[np.int8], more: NDArray[np.int8]) -> NDArray[np.int8]:
    """Join both, without repetitions, in the order drawn."""
    both = np.concatenate([words, more])
    _, first = np.unique(both, axis=0, return_index=True)
    return both[np.sort(first)]
