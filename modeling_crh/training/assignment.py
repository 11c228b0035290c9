"""Assign codewords to classes by the codes of an epoch (Eqs. 5 to 7), or to classes new to a trained model."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from modeling_crh.codebook import extend_codebook, word_capacity
from modeling_crh.codes import binarize
from modeling_crh.encoding import LabelledDataset, encode_items
from modeling_crh.encoding.loading import class_names
from modeling_crh.losses import check_labels, default_scale, label_weights
from modeling_crh.modeling_crh import CRHModel
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
        """Add a batch of hash logits `(N, K)` and labels as in `check_labels`; samples without a label add nothing.

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

    Of mean codes mu, `(C, d)`, and codewords Z of one head, `(M, d)`: `(C, M)` float64, exact for codes of -1 and +1.
    """
    cost: np.ndarray = (2 * words.shape[1] - 2 * means.double() @ words.double().T).numpy()
    return cost


def assign_greedy(means: Tensor, words: Tensor, order: np.ndarray) -> np.ndarray:
    """Let each class, in the given order, take its cheapest free word (Eq. 6). Ties: the lowest word.

    The cheapest word has the largest mu . Z. These products are computed for some classes at a time, so that no
    `(C, M)` table is ever in memory. Sums of signs, and so the ties between them, are exact. The mean codes in one
    head, `(C, d)`, may be any positive multiples of them, such as sums; its words are `(M, d)`, with M at least C.

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


def check_method(method: str, codebook_size: int, num_labels: int, capacity: int = 1) -> None:
    """Check the method of `reassign` for heads of M words and C classes."""
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
    statistics = ClassStatistics(statistics.sums.cpu(), statistics.weights.cpu())
    seen, codebook = (statistics.weights > 0).numpy(), codebook.cpu()
    new = assignment.cpu().numpy().copy()
    means, sums = (values.split(codebook.shape[2], dim=1) for values in (statistics.means(), statistics.sums))

    def choose(head: int) -> None:
        held = np.bincount(new[head, ~seen], minlength=codebook.shape[1])
        room = (capacity - held).clip(min=0)  # (M,)
        places = np.arange(len(room)).repeat(room)
        if generator is not None and method == "greedy":
            order = generator.permutation(int(seen.sum()))
            new[head, seen] = places[assign_greedy(sums[head][seen], codebook[head, places], order)]
        elif capacity == 1:
            cost = assignment_cost(means[head][seen], codebook[head, places])
            new[head, seen] = places[linear_sum_assignment(cost)[1]]
        else:
            cost = assignment_cost(means[head][seen], codebook[head])
            if capacity <= FEW_PLACES:
                new[head, seen] = places[linear_sum_assignment(cost[:, places])[1]]
            else:
                new[head, seen] = assign_shared(np.ascontiguousarray(cost.T), room)

    with ThreadPoolExecutor(torch.get_num_threads() if capacity > 1 else 1) as pool:
        list(pool.map(choose, range(len(codebook))))
    return torch.from_numpy(new).to(assignment.device)


def add_labels(model: CRHModel, items: LabelledDataset, *, batch_size: int = 256) -> CRHModel:
    """Give new classes centers near the codes that a trained model computes for their samples.

    In every head each new class takes a free word, or a shared one that has room, so that the total cost of Eq. 5 over
    the new classes is least (Eq. 7). If there are fewer words than classes that need one of their own, the codebook
    grows to twice the number of classes, or to all 2^d words. Old centers and weights do not change, so all codes stay
    the same; training may continue with all classes.

    Args:
        model: Trained model; its `codebook`, `assignment` and `config` are changed. A scale that follows the paper's
            rule keeps following it.
        items: Samples of only the new classes, without augmentation; the model takes over their `label_names`.
        batch_size: Number of items that go through the model at a time.

    Returns:
        `model`, in evaluation mode.

    Raises:
        ValueError: If the model knows a class already, a class has no sample, or there are too few words of d bits.

    Example:
        >>> from datasets import Dataset
        >>> from modeling_crh import CRHConfig
        >>> from modeling_crh.encoding import FeatureDataset
        >>> from modeling_crh.data import prepare_dataset
        >>> model = CRHModel(CRHConfig(backbone_config=None, num_features=2, num_labels=3, num_bits=16))
        >>> table = Dataset.from_dict({"clip": [[0.0, 1.0], [1.0, 0.0]], "label": ["cat", "dog"]})
        >>> add_labels(model, FeatureDataset(prepare_dataset(table, features_column="clip"))).config.num_labels
        5
    """
    config = model.config
    names = class_names(model)
    num_labels = len(names) + items.num_labels
    if known := [name for name in items.label_names if name in names]:
        raise ValueError(f"`items` must bring new classes alone, but the model knows {known[0]!r} already.")
    is_own = config.codebook == "own"
    if is_own and num_labels > 2 ** model.codebook.shape[2]:
        raise ValueError(
            f"`items` must bring no more than {2 ** model.codebook.shape[2] - len(names)} classes to the {len(names)} "
            f"that there are, since heads of {model.codebook.shape[2]} bits have so many words, but brings "
            f"{items.num_labels}."
        )
    statistics = _count_codes(model, items, batch_size)
    codebook = model.codebook.cpu()
    if is_own and codebook.shape[1] < num_labels:
        size = min(2 * num_labels, 2 ** codebook.shape[2])
        codebook = extend_codebook(codebook, size, np.random.default_rng([config.codebook_seed, size]))
    capacity = 1 if is_own else word_capacity(num_labels, codebook.shape[2], config.shared_room)
    assignment = reassign(codebook, F.pad(model.assignment.cpu(), (0, items.num_labels)), statistics, capacity=capacity)
    device = model.codebook.device
    model.codebook, model.assignment = codebook.to(device), assignment.to(device)
    if config.scale == default_scale(len(names)):
        config.scale = default_scale(num_labels)
    config.codebook_size = codebook.shape[1]
    config.id2label = dict(enumerate([*names, *items.label_names]))
    config.label2id = {name: index for index, name in config.id2label.items()}
    return model


def _count_codes(model: CRHModel, items: LabelledDataset, batch_size: int) -> ClassStatistics:
    """Add up the codes of the samples of new classes, which come behind the known ones, of which there are none."""
    found = ClassStatistics.zeros(items.num_labels, model.config.num_bits)
    found.update(encode_items(model, items, batch_size=batch_size).codes.float(), items.labels)
    if not found.weights.all():
        name = items.label_names[int(found.weights.argmin())]
        raise ValueError(f"`items` must hold a sample of every new class, but hold none of {name!r}.")
    known = model.assignment.shape[1]
    return ClassStatistics(F.pad(found.sums, (0, 0, known, 0)), F.pad(found.weights, (known, 0)))
