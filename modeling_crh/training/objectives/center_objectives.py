"""Rivals that pull codes to hash centers or train a classifier: CSQ, OrthoHash, MDS, GreedyHash and SHC."""

import copy
import math
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_crh.checks import check_number
from modeling_crh.codes import binarize
from modeling_crh.losses import center_cosine, classification_loss, has_label, label_weights, quantization_loss
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.objectives.hash_centers import (
    balanced_centers,
    bernoulli_centers,
    fit_semantic_centers,
    hadamard_centers,
    random_signs,
    spread_centers,
)
from modeling_crh.training.objectives.objective import Objective


class CSQ(Objective):
    """Central similarity quantization (Yuan et al., CVPR 2020).

    With u = tanh(v), the loss is BCE((u+1)/2, (z_y+1)/2) + lambda mean (|u|-1)^2, both means over samples and bits.
    Centers are Hadamard rows if there are enough, else random words with K/2 ones. The center of a sample with several
    labels is the sign of the sum of the labels' centers; a bit with a sum of 0 is taken from one fixed random word.

    Args:
        quantization_weight: Weight lambda of the second term.

    The other arguments and errors are those of `Objective`.

    Example:
        >>> CSQ(3, 8)(torch.zeros(1, 8), torch.tensor([0]))  # log 2 a bit, and 1e-4
        tensor(0.6932)
    """

    name = "csq"
    has_multi_label = True

    tie_word: Tensor

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, quantization_weight: float = 1.0e-4) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.quantization_weight = check_number("quantization_weight", quantization_weight)
        hadamard = hadamard_centers(num_labels, num_bits, seed)
        self.centers = balanced_centers(num_labels, num_bits, seed) if hadamard is None else hadamard
        self.register_buffer("tie_word", torch.from_numpy(random_signs(np.random.default_rng([seed, 1]), num_bits)))

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the binary cross-entropy to the targets, plus the quantization gap."""
        targets = self.targets(labels)
        # (tanh v + 1) / 2 is the sigmoid of 2 v
        central = F.binary_cross_entropy_with_logits(2 * hash_logits, (targets + 1) / 2)
        return central + self.quantization_weight * quantization_loss(hash_logits)

    def targets(self, labels: Tensor) -> Tensor:
        """Return the center of each sample, `(N, K)` float32, every entry -1 or +1."""
        centers = self.require_centers()
        if labels.ndim == 1:
            return centers[labels.long()].float()
        votes = labels.float() @ centers.float()  # (N, K)
        return torch.where(votes == 0, self.tie_word.float(), votes.sign())


class OrthoHash(Objective):
    """One loss for all (Hoe et al., NeurIPS 2021).

    v = BatchNorm(W f) without a bias, which is the config's `hash_head_batch_norm`. The loss is the cross-entropy of
    s (cos(v, z_c) - m [c = y]), for several labels with the target y / |y|_1. Centers are Hadamard rows if there are
    enough, else random words.

    Args:
        scale: Factor s of the cosines, above 0.
        margin: Margin m of the own class, 0 or larger.

    The other arguments and errors are those of `Objective`.
    """

    name = "orthohash"
    has_multi_label = True
    model_fields = {"hash_head_batch_norm": True}  # noqa: RUF012 - declared in Objective

    def __init__(
        self, num_labels: int, num_bits: int, seed: int = 0, *, scale: float = 8.0, margin: float = 0.2
    ) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.scale = check_number("scale", scale, positive=True)
        self.margin = check_number("margin", margin)
        hadamard = hadamard_centers(num_labels, num_bits, seed)
        self.centers = bernoulli_centers(num_labels, num_bits, seed) if hadamard is None else hadamard

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy of CRH, Eqs. 1 and 2, with these centers."""
        return classification_loss(hash_logits, labels, self.require_centers(), self.scale, self.margin)


_CLOSE_TO_ONE = -1.0e-6  # a log probability above it would make log(1 - p) minus infinity in float32


class MDS(Objective):
    """Deep hashing with minimal-distance-separated centers (Wang et al., CVPR 2023), without its pair term.

    With u = tanh(v) and p = softmax_c(sqrt(K) cos(u, z_c)), the loss is
    -mean [t log p + (1-t) log(1-p)] + lambda mean (|u|-1)^2, the first mean over samples and classes, the second over
    samples and bits. For several labels t = y / |y|_1: a softmax can reach it, so that every term is least at p = t,
    which it would not be for a binary t. The paper's pair term needs a momentum encoder, and is left out.

    Args:
        quantization_weight: Weight lambda of the second term.

    The other arguments and errors are those of `Objective`.
    """

    name = "mds"
    has_multi_label = True

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, quantization_weight: float = 1.0e-4) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.quantization_weight = check_number("quantization_weight", quantization_weight)
        self.centers = spread_centers(num_labels, num_bits, seed)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the binary cross-entropy of the softmax over the centers, plus the quantization gap."""
        cosine = center_cosine(hash_logits.tanh(), self.require_centers())  # (N, C)
        log_p = (math.sqrt(self.num_bits) * cosine).log_softmax(1)
        log_rest = torch.log(-torch.expm1(log_p.clamp(max=_CLOSE_TO_ONE)))
        targets = label_weights(labels, self.num_labels)
        central = -torch.lerp(log_rest, log_p, targets).mean()
        return central + self.quantization_weight * quantization_loss(hash_logits)


class GreedyHash(Objective):
    """Greedy hash (Su et al., NeurIPS 2018).

    The loss is the cross-entropy of W sign(v), where the gradient with respect to v is that with respect to sign(v),
    plus lambda times the mean over samples and bits of | |v| - 1 |^3. The classifier W `(C, K)` has no bias, is trained
    with the hash head, and is not needed after training. There are no centers.

    Args:
        quantization_weight: Weight lambda of the second term.

    The other arguments and errors are those of `Objective`.
    """

    name = "greedyhash"
    has_multi_label = False

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, quantization_weight: float = 0.1) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.quantization_weight = check_number("quantization_weight", quantization_weight)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = nn.Linear(num_bits, num_labels, bias=False)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy of the classifier on signs, plus the cubed distance of the logits from them."""
        signs = binarize(hash_logits.detach()).float()
        codes = signs + (hash_logits - hash_logits.detach())  # the value of the signs, the gradient of the hash logits
        classification = F.cross_entropy(self.classifier(codes).float(), labels.long())
        return classification + self.quantization_weight * (hash_logits.abs() - 1).abs().pow(3).mean()


class SHC(CSQ):
    """Deep hashing with semantic hash centers (TOIS 2025), in two stages.

    First a classifier is trained: a copy of the model whose hash head ends in C outputs, see `with_class_outputs`. Its
    outputs over the training set give the class similarity S, see `mean_probabilities` and `class_similarity`, and
    `place_centers` minimises |S - Z Z^T / K|^2 subject to Z_i . Z_j <= K - 2 d_GV. Then CSQ's loss is trained with
    these centers. `crh train --method shc` runs both stages, and `modeling_crh.training.run.run_first_stage` runs the
    first stage for a trainer. S is defined only for one label per sample, and so is SHC.

    Args:
        quantization_weight: Weight lambda of CSQ's second term.
        classifier_epochs: Number of epochs of the first stage; None takes half of the epochs or steps of the second.

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
            check_number("classifier_epochs", classifier_epochs, positive=True)
        self.classifier_epochs = classifier_epochs
        self.centers_placed = False

    def place_centers(self, similarity: Tensor) -> None:
        """Place the centers with `fit_semantic_centers` for a `(C, C)` class similarity."""
        self.require_centers().copy_(fit_semantic_centers(similarity, self.num_bits, self.seed))
        self.centers_placed = True

    def check_ready(self) -> None:
        """Check that `place_centers` was called."""
        if not self.centers_placed:
            raise ValueError(
                "`objective` must have its centers placed by the first stage of SHC before it is trained; run "
                "`crh train --method shc`, or call `modeling_crh.training.run.run_first_stage(trainer)` first."
            )


class Classification(Objective):
    """Cross-entropy of C outputs: the first stage of SHC."""

    name = "classification"

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean cross-entropy of `(N, C)` outputs."""
        return F.cross_entropy(hash_logits, labels.long())


def with_class_outputs(model: CRHModel, num_labels: int) -> CRHModel:
    """Copy a model, with a hash head that ends in a new linear layer of C outputs without batch norm after it."""
    classifier = copy.deepcopy(model)
    head = getattr(classifier.hash_head, "modules_to_save", {"default": classifier.hash_head})["default"]  # peft's copy
    layers = list(head.children()) if isinstance(head, nn.Sequential) else [head]
    last = max(position for position, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    width = cast(nn.Linear, layers[last]).in_features
    outputs = nn.Linear(width, num_labels, device=model.device, dtype=model.dtype)
    nn.init.normal_(outputs.weight, std=model.config.initializer_range)
    nn.init.zeros_(outputs.bias)
    classifier.hash_head = nn.Sequential(*layers[:last], outputs)
    return classifier


def mean_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the softmax over the other classes, of `(N, C)` outputs, for the samples of each class, from `(N,)` ids.

    Returns:
        `(C, C)` float64, with a diagonal of 0. The row of a class without samples is uniform.

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
    scaled = 2 * (symmetric - least) / (most - least).clamp(min=1e-12) - 1  # all -1 if all pairs are equal
    return scaled.fill_diagonal_(1)
