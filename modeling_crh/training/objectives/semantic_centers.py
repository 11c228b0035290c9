"""Search centers that are as similar as their classes, and keep a least distance: the second half of SHC."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from modeling_crh.codebook import center_distances
from modeling_crh.training.objectives.fixed_centers import gilbert_varshamov_distance, spread_centers

Array = NDArray[np.float64]

_SOFT, _HARD = 0.01, 1.0e6  # cost of a pair that is one bit too near, squared for more: small, and above all else
_MOST_SWEEPS = 30


def fit_semantic_centers(similarity: Tensor, num_bits: int, seed: int = 0) -> Tensor:
    """Search centers Z of small |S - Z Z^T / K|^2, subject to Z_i . Z_j <= K - 2 d for every pair of classes.

    d is d_GV, or the largest distance below it that `spread_centers` reaches. The problem is hard; this is a local
    search over single bits. It runs from two starts, and the better result is kept:

    1. the signs of the leading eigenvectors of S, scaled by the roots of their eigenvalues and rotated at random, which
       are improved under a small penalty for pairs that are too near, and then under one that outweighs all else;
    2. `spread_centers`, which keep the distance, dealt to the classes after the first start's bits, then dealt anew
       after the words of similar classes as long as that helps, and improved by bits that do not break the distance.

    The result keeps the distance d, since the second start does, and no single bit of it could be turned to its
    advantage, unless 30 rounds over all classes were not enough. It need not be the best.

    Args:
        similarity: Class similarity S, `(C, C)`, symmetric, from -1 to 1.
        num_bits: Length K of a code.
        seed: Seed of both starts.

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
    """Signs of a randomly rotated (C, K) root of S; at random where the root has fewer than K columns."""
    generator = np.random.default_rng([seed, 2])
    values, vectors = np.linalg.eigh(wanted)
    leading = np.argsort(values)[::-1][:num_bits]
    root = vectors[:, leading] * np.sqrt(values[leading].clip(min=0))  # (C, min(C, K))
    rotation = generator.normal(size=(root.shape[1], num_bits))
    if root.shape[1] == num_bits:
        rotation, _ = np.linalg.qr(rotation)
    return np.where(root @ rotation >= 0, 1.0, -1.0)


def _deal(words: Array, wanted: Array, target: Array) -> Array:
    """Deal words `(C, K)` to the classes by their agreement with a target, then with the words of similar classes.

    The second is a step of Frank and Wolfe's on the quadratic assignment problem; it ends when it no longer helps.
    """
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
    """(S - z_i.z_j / K)^2, with the penalty for pairs that are too near; K is divided out by the caller."""
    excess = (products - most).clip(min=0) / 2  # bits
    return np.square(wanted - products) + penalty * np.square(excess)


def _cost(centers: Array, wanted: Array, most: int) -> float:
    """Cost of centers, summed over all pairs of different classes."""
    num_bits = centers.shape[1]
    costs = _pair_costs(centers @ centers.T, num_bits * wanted, most, num_bits**2 * _HARD)
    np.fill_diagonal(costs, 0)
    return float(np.sum(costs) / num_bits**2)


def _improve(centers: Array, wanted: Array, most: int, penalty: float) -> Array:
    """Turn, class after class, the bit that lowers the cost most, until no bit of any class does.

    Turning bit k of class i takes its product with class j from g to g - 2 where the two agree in k, and to g + 2 where
    they differ. So the costs of all K turns are two vectors over j, and one product of theirs with the centers.
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
