"""Construct hash centers: Hadamard rows, random, balanced and spread words, and SHC's semantic centers."""

import math
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from modeling_crh.codebook import center_distances, distinct_rows, draw_codebook

Array = NDArray[np.float64]

_SOFT, _HARD = 0.01, 1.0e6  # cost of a pair one bit too near, quadratic in bits: small, or larger than all else
_MOST_SWEEPS = 30


def hadamard_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor | None:
    """Give the classes random rows of Sylvester's Hadamard matrix, and of its negation if C is larger than K.

    Any two rows of the matrix differ in half of their bits.

    Returns:
        `(C, K)` int8, every entry -1 or +1; None if K is not a power of two, or C is larger than 2 K.

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
    """Draw C different words of K fair bits."""
    _check_room(num_labels, num_bits)
    return draw_codebook(1, num_labels, num_bits, np.random.default_rng(seed))[0]


def random_signs(generator: np.random.Generator, shape: int | tuple[int, ...]) -> NDArray[np.int8]:
    """Draw fair signs, -1 or +1."""
    return generator.integers(0, 2, shape, np.int8) * np.int8(2) - np.int8(1)


def balanced_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor:
    """Draw C different words with K // 2 ones; if there are fewer such words, the rest have any number of ones."""
    _check_room(num_labels, num_bits)
    generator = np.random.default_rng(seed)
    balanced = min(num_labels, math.comb(num_bits, num_bits // 2))
    words = np.empty((0, num_bits), np.int8)
    half = np.where(np.arange(num_bits) < num_bits // 2, 1, -1).astype(np.int8)
    while len(words) < balanced:
        more = generator.permuted(np.tile(half, (num_labels, 1)), axis=1)
        words = distinct_rows(np.concatenate([words, more]))[:balanced]
    while len(words) < num_labels:
        more = random_signs(generator, (num_labels, num_bits))
        words = distinct_rows(np.concatenate([words, more]))[:num_labels]
    return torch.from_numpy(words)


def gilbert_varshamov_distance(num_labels: int, num_bits: int) -> int:
    """Compute d_GV, the least d with 2^K / C <= sum_{i<d} binom(K, i), the least center distance in MDS and SHC.

    Example:
        >>> [gilbert_varshamov_distance(100, num_bits) for num_bits in (16, 32, 64)]
        [4, 10, 24]
    """
    within = accumulate(math.comb(num_bits, i) for i in range(num_bits))
    return next((d for d, words in enumerate(within, 1) if 2**num_bits <= num_labels * words), num_bits)


def spread_centers(num_labels: int, num_bits: int, seed: int = 0) -> Tensor:
    """Draw centers whose least distance is d_GV, or the largest distance below it that this construction reaches.

    The centers are C random words of a random linear code that grows by one generator at a time, as in Varshamov's
    proof: a generator is taken if every word that it adds has at least d ones. One random word is then added to all,
    which does not change the distances. For the class counts and bits of the benchmarks d_GV itself is reached. At a
    least distance of 1 the centers are merely distinct.
    """
    _check_room(num_labels, num_bits)
    generator = np.random.default_rng(seed)  # the same centers on every machine
    dimension = max(1, (num_labels - 1).bit_length())  # 2^dimension >= C
    for distance in range(gilbert_varshamov_distance(num_labels, num_bits), 1, -1):
        for even in (False,) * 4 + (True,) * 4:
            words = _grow_code(dimension, num_bits, distance, generator, even)
            if words is not None:
                shift = generator.integers(0, 2, num_bits) * 2 - 1
                chosen = words[generator.permutation(len(words))[:num_labels]]
                return torch.from_numpy((chosen * shift).astype(np.int8))
    return bernoulli_centers(num_labels, num_bits, seed)


def fit_semantic_centers(similarity: Tensor, num_bits: int, seed: int = 0) -> Tensor:
    """Search centers Z of small |S - Z Z^T / K|^2, subject to Z_i . Z_j <= K - 2 d for every pair of classes.

    d is d_GV, or the largest distance below it that `spread_centers` reaches. The problem is hard; this is a local
    search over single bits. It runs from two starts, and the better result is kept:

    1. the signs of the leading eigenvectors of S, scaled by the roots of their eigenvalues and rotated at random, which
       are improved under a small penalty for pairs that are too near, and then under a penalty that outweighs all else;
    2. `spread_centers`, which keep the distance, assigned to the classes by the bits of the first start, reassigned by
       the words of similar classes as long as that helps, and improved by bits that do not break the distance.

    The result keeps the distance d, since the second start does, and no flip of a single bit would improve it, unless
    30 rounds over all classes were not enough. It is not always the optimum. `similarity` is S, `(C, C)`, symmetric,
    from -1 to 1; `seed` is that of both starts.

    Returns:
        `(C, K)` int8, every entry -1 or +1.

    Raises:
        ValueError: If `similarity` is not square and symmetric, or there are no C different words of K bits.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"`similarity` must be (C, C), but got shape {tuple(similarity.shape)}.")
    if not torch.allclose(similarity, similarity.T, atol=1e-5):
        raise ValueError("`similarity` must be symmetric, but is not.")
    wanted = similarity.double().cpu().numpy()
    spread = spread_centers(len(wanted), num_bits, seed)
    distance = min(gilbert_varshamov_distance(len(wanted), num_bits), center_distances(spread).least)
    most = num_bits - 2 * distance
    start = _spectral_start(wanted, num_bits, seed)
    spectral = _improve(_improve(start, wanted, most, _SOFT), wanted, most, _HARD)
    feasible = _improve(_deal(spread.numpy().astype(np.float64), wanted, start), wanted, most, _HARD)
    best = min((spectral, feasible), key=lambda centers: _cost(centers, wanted, most))
    return torch.from_numpy(best.astype(np.int8))


def _spectral_start(wanted: Array, num_bits: int, seed: int) -> Array:
    """Compute the signs of a rotated (C, K) root of S, or of a random projection if it has fewer than K columns."""
    generator = np.random.default_rng([seed, 2])
    values, vectors = np.linalg.eigh(wanted)
    leading = np.argsort(values)[::-1][:num_bits]
    root = vectors[:, leading] * np.sqrt(values[leading].clip(min=0))  # (C, min(C, K))
    rotation = generator.normal(size=(root.shape[1], num_bits))
    if root.shape[1] == num_bits:
        rotation, _ = np.linalg.qr(rotation)
    return np.where(root @ rotation >= 0, 1.0, -1.0)


def _deal(words: Array, wanted: Array, target: Array) -> Array:
    """Assign words to classes by their agreement with a target, then by Frank-Wolfe steps that improve the fit."""
    best, fit = words, -np.inf
    for _ in range(_MOST_SWEEPS):
        _, chosen = linear_sum_assignment(target @ words.T, maximize=True)
        dealt = words[chosen]
        target = wanted @ dealt  # (C, K)
        if (target * dealt).sum() <= fit:
            break
        best, fit = dealt, (target * dealt).sum()
    return best


def _pair_costs(products: Array, wanted: Array, most: int, penalty: float) -> Array:
    """Compute (S - z_i.z_j / K)^2, plus the penalty for pairs that are too near; the caller divides by K^2."""
    excess = (products - most).clip(min=0) / 2  # bits
    return np.square(wanted - products) + penalty * np.square(excess)


def _cost(centers: Array, wanted: Array, most: int) -> float:
    """Sum the cost of centers over all pairs of different classes."""
    num_bits = centers.shape[1]
    costs = _pair_costs(centers @ centers.T, num_bits * wanted, most, num_bits**2 * _HARD)
    np.fill_diagonal(costs, 0)
    return float(np.sum(costs) / num_bits**2)


def _improve(centers: Array, wanted: Array, most: int, penalty: float) -> Array:
    """Flip, class after class, the bit that lowers the cost most, until no flip lowers it.

    Flipping bit k of class i changes its product with class j from g to g - 2 if the two agree in k, and to g + 2 if
    they differ. So the costs of all K flips follow from two vectors over j and one product with the centers.
    """
    centers = centers.copy()
    num_labels, num_bits = centers.shape
    products = centers @ centers.T  # (C, C)
    scaled, weight = num_bits * wanted, num_bits**2 * penalty
    for _ in range(_MOST_SWEEPS):
        turned = 0
        for i in range(num_labels):
            for _ in range(num_bits):
                now, less, more = (_pair_costs(products[i] + step, scaled[i], most, weight) for step in (0, -2, 2))
                for costs in (now, less, more):
                    costs[i] = 0
                change = (less + more).sum() / 2 - now.sum() + centers[i] * ((less - more) @ centers) / 2  # (K,)
                bit = int(change.argmin())
                if change[bit] >= -1.0e-6 * num_bits:
                    break
                products[i] -= 2 * centers[i, bit] * centers[:, bit]
                products[:, i] = products[i]
                products[i, i] = num_bits
                centers[i, bit] *= -1
                turned += 1
        if not turned:
            break
    return centers


def _grow_code(
    dimension: int, num_bits: int, distance: int, generator: np.random.Generator, even: bool, tries: int = 16
) -> NDArray[np.float32] | None:
    """Grow a random linear code of at least `distance`, `(2^dimension, K)`; None if no generator was found.

    Bits are -1 and +1, so that the sum of two words is their product. With `even` all words have an even number of
    ones; otherwise the densest codes of an even distance are hardly ever found.
    """
    words = np.ones((1, num_bits), np.float32)
    for _ in range(dimension):
        for _ in range(tries):
            drawn = (generator.integers(0, 2, (256, num_bits)) * 2 - 1).astype(np.float32)
            if even:
                drawn[:, -1] *= drawn.prod(1)
            ones = (num_bits - (drawn @ words.T).max(1)) / 2  # (256,), least number of ones of the words that each adds
            far = np.flatnonzero(ones >= distance)
            if len(far):
                words = np.concatenate([words, words * drawn[far[0]]])
                break
        else:
            return None
    return words


def _check_room(num_labels: int, num_bits: int) -> None:
    """Check that there are C different words of K bits."""
    if num_labels > 2**num_bits:
        raise ValueError(
            f"`num_bits` must make a word for each of C={num_labels} classes, but {num_bits} bits make {2**num_bits}."
        )
