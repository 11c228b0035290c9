"""Correlate the similarity of class centers with a reference similarity of the classes, as in the paper."""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modeling_crh.checks import check_whole
from modeling_crh.codes import check_tensor
from modeling_crh.metrics.counting import check_codes

BLOCK_ENTRIES = 2**22  # entries of shuffled centers to compare at a time
EQUAL = 1e-6  # tolerance of tied correlations: float32 sums in another order differ by less than 1e-7
ASYMMETRY = 1e-5  # rounding differences in a symmetric float32 table, relative to its largest entry
CONSTANT = 1e-7  # rounding differences in a constant table, relative to its largest entry


class SemanticCorrelation(NamedTuple):
    """Correlation of the similarity of centers with a reference.

    Attributes:
        pcc: Pearson correlation over all pairs of different classes, from -1 to 1.
        p_value: Share of permutations of the classes that correlate as much or more (a one-sided test).
        num_pairs: Number of pairs, C (C - 1) / 2.
        num_permutations: Number of permutations of the test; the least `p_value` is 1 / (1 + `num_permutations`).
    """

    pcc: float
    p_value: float
    num_pairs: int
    num_permutations: int


class CenterSemantics(NamedTuple):
    """Correlation of centers with a reference before and after reassignment.

    Attributes:
        reference: Name of the reference, such as "taxonomy".
        before: Correlation of the centers at the start of training.
        after: Correlation of the centers at the end of training, over the same permutations.
    """

    reference: str
    before: SemanticCorrelation
    after: SemanticCorrelation


def center_similarity(centers: Tensor) -> Tensor:
    """Compute the similarity z.z'/K of all pairs of centers.

    Args:
        centers: Centers `(C, K)`, every entry -1 or +1.

    Returns:
        `(C, C)` float64 on the CPU, from -1 (opposite) to 1 (equal).

    Raises:
        ValueError: If `centers` has another shape, is empty, or has an entry other than -1 and +1.

    Example:
        >>> center_similarity(torch.tensor([[1, 1], [1, -1]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    check_codes("centers", centers)
    codes = centers.cpu().double()
    return codes @ codes.T / codes.shape[1]


def center_correlation(
    centers: Tensor, reference: Tensor, *, num_permutations: int = 999, seed: int = 0
) -> SemanticCorrelation:
    """Correlate the similarity of two classes' centers with a reference similarity of the two classes.

    The p value comes from a Mantel test, since the pairs of one class are not independent: the classes of one table are
    permuted, rows and columns alike, and p = (1 + permutations that correlate as much or more) / (1 + permutations).

    Args:
        centers: Centers `(C, K)`, every entry -1 or +1, C at least 3.
        reference: Similarity of the classes, `(C, C)`, symmetric, larger is more similar; the diagonal is ignored.
        num_permutations: Number of permutations of the test, 1 or larger.
        seed: Seed of the permutations.

    Returns:
        The correlation and its p value.

    Raises:
        ValueError: If an argument has a value that its rule does not allow, or all pairs of different classes have the
            same similarity, which correlates with nothing.

    Example:
        >>> centers = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, -1]])
        >>> reference = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> round(center_correlation(centers, reference).pcc, 4)
        0.9449
    """
    agreement = center_similarity(centers)
    num_labels = len(agreement)
    if num_labels < 3:
        raise ValueError(f"`centers` must hold at least 3 centers to correlate pairs of them, but got {num_labels}.")
    check_whole("num_permutations", num_permutations)
    check_whole("seed", seed, least=0)
    _check_reference(reference, num_labels)
    standard_reference, _ = _standardize("reference", reference.cpu().double())
    standard_agreement, norm = _standardize("centers", agreement)
    pcc = (standard_agreement * standard_reference).sum().clamp(-1, 1).item()
    shuffled = _shuffled_correlations(centers.cpu(), standard_reference, num_permutations, seed) / norm  # (P,)
    exceedances = int((shuffled >= pcc - EQUAL).sum())
    p_value = (1 + exceedances) / (1 + num_permutations)
    return SemanticCorrelation(pcc, p_value, num_labels * (num_labels - 1) // 2, num_permutations)


def tree_similarity(paths: Iterable[Sequence[Hashable]]) -> Tensor:
    """Compute Wu and Palmer's similarity of classes in a tree (ACL 1994), 2 depth(a ^ b) / (depth(a) + depth(b)).

    a ^ b is the lowest common ancestor of two classes. Depth counts nodes: a root has depth 1, and a class is one
    deeper than its nearest ancestor. Classes without a common ancestor have similarity 0.

    Args:
        paths: Ancestors of each class, the parent first and the root last, such as `nabirds_hierarchy(...).values()`,
            or `zip(subgroups, groups)` for one label array per level. A node is identified by its name and its
            ancestors, so names may recur in other branches. No class is another's ancestor.

    Returns:
        `(C, C)` float64, from 0 to 1; 1 only on the diagonal.

    Raises:
        ValueError: If there is no class, or a path is not a list of nodes.

    Example:
        >>> tree_similarity([["dog", "animal"], ["dog", "animal"], ["cat", "animal"]]).tolist()[0]
        [1.0, 0.6666666666666666, 0.3333333333333333]
    """
    rows = list(paths)
    if not rows:
        raise ValueError("`paths` must hold a list of ancestors for at least one class, but is empty.")
    for row, path in enumerate(rows):
        if isinstance(path, str) or not isinstance(path, Sequence):
            raise ValueError(f"`paths` must hold a list of ancestors for each class, but class {row} has {path!r:.80}.")
    above = [{tuple(path[start:]) for start in range(len(path))} for path in rows]
    columns = {node: column for column, node in enumerate(dict.fromkeys(node for nodes in above for node in nodes))}
    under = torch.zeros(len(rows), len(columns))  # (C, nodes)
    for row, nodes in enumerate(above):
        under[row, [columns[node] for node in nodes]] = 1
    shared = (under @ under.T).double()  # (C, C), the depth of a ^ b
    depth = under.sum(1).double() + 1
    similarity = 2 * shared / (depth[:, None] + depth)
    return similarity.fill_diagonal_(1)


def _check_reference(reference: Tensor, num_labels: int) -> None:
    check_tensor("reference", reference)
    if tuple(reference.shape) != (num_labels, num_labels):
        raise ValueError(
            f"`reference` must be (C, C) for C={num_labels} centers, but got shape {tuple(reference.shape)}."
        )
    if reference.is_complex() or not torch.isfinite(reference).all():
        raise ValueError("`reference` must hold only finite real numbers, but holds another value.")
    values = reference.double()
    difference = (values - values.T).abs().max().item()
    if difference > ASYMMETRY * values.abs().max().item():
        raise ValueError(f"`reference` must be symmetric, but two of its entries differ by {difference:.3g}.")


def _standardize(name: str, table: Tensor) -> tuple[Tensor, float]:
    """Scale a table to mean 0 and norm 1 off the diagonal, and 0 on it; also return its norm before scaling."""
    num_labels = len(table)
    other = ~torch.eye(num_labels, dtype=torch.bool)
    values = table[other]
    least, most = values.aminmax()
    if most - least <= CONSTANT * values.abs().max():
        raise ValueError(
            f"`{name}` must tell some pairs of classes from others, but all have the similarity {most.item():.4g}."
        )
    centered = torch.where(other, table - values.mean(), 0.0)
    norm = centered.norm().item()
    return centered / norm, norm


def _shuffled_correlations(centers: Tensor, reference: Tensor, num_permutations: int, seed: int) -> Tensor:
    """Sum z.z'/K times a standardized reference over all pairs, for each of P permutations of the centers: `(P,)`.

    With R for the reference and Z for the shuffled centers, the sum is trace(Z' R Z) / K: one matrix product for a
    block of permutations. R has mean 0, so the mean of z.z'/K does not matter.
    """
    num_labels, num_bits = centers.shape
    codes, table = centers.float(), reference.float()
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_ENTRIES // centers.numel())
    sums = []
    for start in range(0, num_permutations, block):
        size = min(block, num_permutations - start)
        rows = generator.permuted(np.tile(np.arange(num_labels)[:, None], size), axis=0)  # (C, B)
        shuffled = codes[torch.from_numpy(rows)].flatten(1)  # (C, B * K)
        products = (table @ shuffled).mul_(shuffled).sum(0, dtype=torch.float64)  # (B * K,)
        sums.append(products.view(size, num_bits).sum(1) / num_bits)
    return torch.cat(sums)
