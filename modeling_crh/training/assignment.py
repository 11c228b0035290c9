"""Assign codewords to classes: class statistics, assignment costs, greedy and Hungarian assignment (Eqs. 5 to 7)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from modeling_crh.codes import binarize
from modeling_crh.losses import check_labels, label_weights
from modeling_crh.training.transport import assign_shared

AssignmentMethod = Literal["hungarian", "greedy"]

GREEDY_ENTRIES = 2**23
"""Largest number of products that greedy assignment holds at a time: 32 MB as float32."""

HUNGARIAN_ENTRIES = 2**31
"""Largest number of costs in the table of Hungarian assignment: 16 GB."""

FEW_PLACES = 8
"""Places of a word up to which Hungarian assignment to places is faster than the transportation solver."""


@dataclass
class ClassStatistics:
    """Weighted sums of the codes of every class, and the weights, which reassignment needs of an epoch.

    Sums of signs are integers, which float64 adds exactly, so neither order nor number of processes changes them.

    Attributes:
        sums: Weighted sums of the codes, `(C, K)` float64.
        weights: Sums of the weights, `(C,)` float64.
        soft: Whether to add tanh(v) instead of sign(v).
    """

    sums: Tensor
    weights: Tensor
    soft: bool = False

    @classmethod
    def zeros(cls, num_labels: int, num_bits: int, soft: bool = False) -> "ClassStatistics":
        """Make empty statistics."""
        return cls(
            torch.zeros(num_labels, num_bits, dtype=torch.float64), torch.zeros(num_labels, dtype=torch.float64), soft
        )

    def update(self, hash_logits: Tensor, labels: Tensor) -> None:
        """Add a batch; samples without a label add nothing.

        Args:
            hash_logits: Hash logits `(N, K)`, on any device.
            labels: Labels `(N,)` or `(N, C)`, as in `check_labels`.

        Raises:
            ValueError: If labels are out of range, fractional, or not one row per sample, or a hash logit is NaN.
        """
        check_labels(labels, len(self.weights), len(hash_logits))
        values = hash_logits.detach().to(self.sums.device)
        codes = (values.float().tanh() if self.soft else binarize(values)).double()  # (N, K)
        labels = labels.to(self.sums.device)
        if labels.ndim == 1:
            labels = labels.long()
            labelled = labels >= 0
            self.sums.index_add_(0, labels[labelled], codes[labelled])
            self.weights += torch.bincount(labels[labelled], minlength=len(self.weights))
        else:
            weights = label_weights(labels, len(self.weights)).double()
            self.sums += weights.T @ codes
            self.weights += weights.sum(0)

    def means(self) -> Tensor:
        """Compute the mean code of every class, `(C, K)` float64; a class without samples has zeros."""
        return self.sums / torch.where(self.weights > 0, self.weights, 1.0).unsqueeze(1)


def assignment_cost(means: Tensor, words: Tensor) -> np.ndarray:
    """Compute the mean squared distance from the codes of each class to each codeword, D = 2d - 2 mu . Z (Eq. 5).

    Args:
        means: Mean codes mu of the classes in one head, `(C, d)`.
        words: Codewords Z of the head, `(M, d)`, every entry -1 or +1.

    Returns:
        `(C, M)` float64. Exact for codes of -1 and +1.
    """
    cost: np.ndarray = (2 * words.shape[1] - 2 * means.double() @ words.double().T).numpy()
    return cost


def assign_greedy(means: Tensor, words: Tensor, order: np.ndarray) -> np.ndarray:
    """Let each class, in the given order, take its cheapest free word (Eq. 6). Ties: the lowest word.

    The cheapest word has the largest mu . Z. These products are computed for some classes at a time, so that no
    `(C, M)` table is ever in memory. Sums of signs, and so the ties between them, are exact.

    Args:
        means: Mean codes of the classes in one head, `(C, d)`, or any positive multiples of them, such as sums.
        words: Codewords of the head, `(M, d)`, every entry -1 or +1, with M at least C.
        order: Permutation of the C classes.

    Returns:
        `(C,)` int64, the word of each class, no word twice.

    Example:
        >>> words = torch.tensor([[1, 1], [1, -1]])
        >>> assign_greedy(torch.tensor([[0.5, 1.0], [1.0, 1.0]]), words, np.array([0, 1]))
        array([0, 1])
    """
    rows = means.double().numpy()
    limit = np.abs(rows).sum(1).max(initial=0.0)  # bound of all products
    is_exact = limit < 2**22 and np.array_equal(rows, np.rint(rows))
    dtype = np.float32 if is_exact else np.float64
    taken = dtype(-(2 * limit + 1))  # added to the products of taken words, makes them smaller than all others
    rows = np.column_stack([rows, np.ones(len(rows))]).astype(dtype)
    table = np.vstack([words.numpy().T, np.zeros(len(words))]).astype(dtype)  # (d + 1, M)
    chosen = np.empty(len(rows), np.int64)
    size = max(1, GREEDY_ENTRIES // len(words))
    for start in range(0, len(order), size):
        labels = order[start : start + size]
        products = rows[labels] @ table  # (B, M)
        for place, label in enumerate(labels):
            word = products[place].argmax()
            chosen[label] = word
            products[place + 1 :, word] = -np.inf
            table[-1, word] = taken
    return chosen


def assign_hungarian(cost: np.ndarray) -> np.ndarray:
    """Find the assignment of least total cost (Eq. 7), by `scipy.optimize.linear_sum_assignment`.

    Args:
        cost: Cost of each word for each class, `(C, M)`, with M at least C.

    Returns:
        `(C,)` int64, the word of each class, no word twice.

    Example:
        >>> assign_hungarian(np.array([[0.0, 1.0], [0.0, 9.0]]))
        array([1, 0])
    """
    _, words = linear_sum_assignment(cost)
    return np.asarray(words, np.int64)


def check_method(method: str, codebook_size: int, num_labels: int, capacity: int = 1) -> None:
    """Check the method of `reassign` for heads of M words and C classes.

    Raises:
        ValueError: If `method` is unknown, or the Hungarian table would be larger than `HUNGARIAN_ENTRIES`, or words
            that several classes may hold are to be assigned greedily.
    """
    if method not in ("hungarian", "greedy"):
        raise ValueError(f"`method` must be 'hungarian' or 'greedy', but got {method!r}.")
    if method == "hungarian" and capacity == 1 and codebook_size * num_labels > HUNGARIAN_ENTRIES:
        gigabytes = 8 * codebook_size * num_labels / 2**30
        raise ValueError(
            f"`reassignment` must be 'greedy' for {num_labels:,} classes and {codebook_size:,} words a head, since "
            f"'hungarian' would take {gigabytes:,.0f} GB."
        )
    if method == "greedy" and capacity > 1:
        raise ValueError("`reassignment` must be 'hungarian' or 'none' where `codebook` is 'shared', but got 'greedy'.")


def reassign(
    codebook: Tensor,
    assignment: Tensor,
    statistics: ClassStatistics,
    method: AssignmentMethod = "hungarian",
    generator: np.random.Generator | None = None,
    *,
    capacity: int = 1,
) -> Tensor:
    """Give every class a word in every head, near the codes of its samples, and no word to too many classes.

    A class without samples keeps its words, and takes their room.

    Args:
        codebook: Words of all heads, `(H, M, d)`.
        assignment: Current word of each class, `(H, C)`.
        statistics: Class statistics of the epoch, over all processes, on any device.
        method: `"hungarian"` for the least total cost, `"greedy"` for the paper's cheaper choice.
        generator: Generator of the order of the classes in greedy assignment, drawn for each head.
        capacity: Largest number of classes that a word may be held by: 1 in the paper.

    Returns:
        The new assignment `(H, C)` int64, on the device of `assignment`.

    Raises:
        ValueError: If `method` is unknown, needs too much memory or cannot share words, or greedy assignment has no
            generator.
    """
    if method == "greedy" and generator is None:
        raise ValueError("`generator` must be given with `method='greedy'`, but got None.")
    check_method(method, codebook.shape[1], assignment.shape[1], capacity)
    head_dim = codebook.shape[2]
    statistics = ClassStatistics(statistics.sums.cpu(), statistics.weights.cpu())
    seen = (statistics.weights > 0).numpy()
    new = assignment.cpu().numpy().copy()
    means, sums = statistics.means().split(head_dim, dim=1), statistics.sums.split(head_dim, dim=1)  # H times (C, d)
    if capacity > 1:
        _share_words(codebook.cpu(), new, means, seen, capacity)
        return torch.from_numpy(new).to(assignment.device)
    for head, words in enumerate(codebook.cpu()):
        free = np.setdiff1d(np.arange(len(words)), new[head, ~seen])
        if generator is not None and method == "greedy":
            chosen = assign_greedy(sums[head][seen], words[free], generator.permutation(int(seen.sum())))
        else:
            chosen = assign_hungarian(assignment_cost(means[head][seen], words[free]))
        new[head, seen] = free[chosen]
    return torch.from_numpy(new).to(assignment.device)


def _share_words(
    codebook: Tensor, assignment: np.ndarray, means: Sequence[Tensor], seen: np.ndarray, capacity: int
) -> None:
    """Assign shared words in `assignment`, `(H, C)`, in as many threads as torch may use."""

    def share(head: int) -> None:
        held = np.bincount(assignment[head, ~seen], minlength=codebook.shape[1])
        room = (capacity - held).clip(min=0)
        cost = assignment_cost(means[head][seen], codebook[head])  # (C, M)
        if capacity <= FEW_PLACES:
            places = np.arange(codebook.shape[1]).repeat(room)
            assignment[head, seen] = places[assign_hungarian(cost[:, places])]
        else:
            assignment[head, seen] = assign_shared(np.ascontiguousarray(cost.T), room)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(share, range(len(codebook))))
