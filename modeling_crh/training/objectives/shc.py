"""SHC: place centers by the similarity of classes that a classifier finds, then train CSQ's loss on them."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_crh.labels import has_label
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.objectives.center_objectives import CSQ
from modeling_crh.training.objectives.hash_centers import fit_semantic_centers
from modeling_crh.training.objectives.objective import Objective, check_setting


class SHC(CSQ):
    """Deep hashing with semantic hash centers (TOIS 2025), in two stages.

    First a classifier is trained: a copy of the model whose hash head ends in C outputs, see `with_class_outputs`. Its
    outputs over the training set make the class similarity S, see `mean_probabilities` and `class_similarity`, and
    `place_centers` minimises |S - Z Z^T / K|^2 subject to Z_i . Z_j <= K - 2 d_GV. Then CSQ's loss is trained on these
    centers. `crh train --method shc` runs both stages, and `modeling_crh.training.run.run_first_stage` the first one
    for a trainer. Single-label only, since S is.

    Args:
        quantization_weight: Weight lambda of CSQ's second term.
        classifier_epochs: Number of epochs of the first stage. None stands for half of the epochs, or of the steps, of
            the second.

    The other arguments and errors are those of `Objective`.
    """

    name = "shc"
    has_multi_label = False
    has_first_stage = True

    def __init__(
        self,
        num_labels: int,
        num_bits: int,
        seed: int = 0,
        *,
        quantization_weight: float = 1.0e-4,
        classifier_epochs: float | None = None,
    ) -> None:
        super().__init__(num_labels, num_bits, seed, quantization_weight=quantization_weight)
        if classifier_epochs is not None:
            check_setting("classifier_epochs", classifier_epochs, positive=True)
        self.classifier_epochs = classifier_epochs
        self.centers_placed = False

    def place_centers(self, similarity: Tensor) -> None:
        """Take the centers that `fit_semantic_centers` finds for a `(C, C)` class similarity."""
        self.require_centers().copy_(fit_semantic_centers(similarity, self.num_bits, self.seed))
        self.centers_placed = True

    def check_ready(self) -> None:
        """Raise `ValueError` unless `place_centers` was called."""
        if not self.centers_placed:
            raise ValueError(
                "`objective` must have its centers placed by the first stage of SHC before it is trained; run "
                "`crh train --method shc`, or call `modeling_crh.training.run.run_first_stage(trainer)` first."
            )


class Classification(Objective):
    """Cross-entropy of C outputs: the first stage of SHC."""

    name = "classification"

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of `(N, C)` outputs."""
        return F.cross_entropy(hash_logits, labels.long())


def with_class_outputs(model: CRHModel, num_labels: int) -> CRHModel:
    """Copy a model, with a hash head that ends in a fresh linear layer of C outputs and no batch norm after it."""
    classifier = copy.deepcopy(model)
    head = classifier.hash_head
    layers = list(head.children()) if isinstance(head, nn.Sequential) else [head]
    last = max(position for position, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    width = cast(nn.Linear, layers[last]).in_features
    outputs = nn.Linear(width, num_labels, device=model.device, dtype=model.dtype)
    nn.init.normal_(outputs.weight, std=model.config.initializer_range)
    nn.init.zeros_(outputs.bias)
    classifier.hash_head = nn.Sequential(*layers[:last], outputs)
    return classifier


def mean_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean softmax of the samples of each class, over the other classes alone.

    Args:
        logits: `(N, C)` outputs of a classifier.
        labels: `(N,)` integers from 0 to C - 1; a sample with -100 does not count.

    Returns:
        `(C, C)` float64, with a diagonal of 0. The row of a class without samples is even.

    Example:
        >>> mean_probabilities(torch.zeros(2, 3), torch.tensor([0, 1]))
        tensor([[0.0000, 0.5000, 0.5000],
                [0.5000, 0.0000, 0.5000],
                [0.5000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    num_labels = logits.shape[1]
    labelled = has_label(labels)
    labels = labels[labelled].long()
    others = logits[labelled].double().scatter(1, labels.unsqueeze(1), -torch.inf)  # (N, C)
    sums = torch.zeros(num_labels, num_labels, dtype=torch.float64).index_add_(0, labels, others.softmax(1))
    counts = labels.bincount(minlength=num_labels).unsqueeze(1)  # (C, 1)
    even = (1 - torch.eye(num_labels, dtype=torch.float64)) / (num_labels - 1)
    return torch.where(counts > 0, sums / counts.clamp(min=1), even)


def class_similarity(probabilities: Tensor) -> Tensor:
    """Symmetrise the `(C, C)` table of `mean_probabilities`, and scale it so that pairs of classes span -1 to 1.

    Returns:
        `(C, C)` float64, 1 for a class and itself.

    Example:
        >>> class_similarity(torch.tensor([[0.0, 0.9, 0.1], [0.7, 0.0, 0.3], [0.2, 0.8, 0.0]]))
        tensor([[ 1.0000,  1.0000, -1.0000],
                [ 1.0000,  1.0000,  0.2308],
                [-1.0000,  0.2308,  1.0000]], dtype=torch.float64)
    """
    symmetric = (probabilities + probabilities.T).double() / 2
    pairs = symmetric[~torch.eye(len(symmetric), dtype=torch.bool)]
    least, most = pairs.min(), pairs.max()
    scaled = 2 * (symmetric - least) / (most - least).clamp(min=1e-12) - 1  # all -1 where all pairs are alike
    return scaled.fill_diagonal_(1)
