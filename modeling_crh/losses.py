"""The training objective, Eqs. 1 to 4 of the paper."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .labels import NO_LABEL, check_labels, has_label, label_weights


def default_scale(num_labels: int) -> float:
    """The paper's s = sqrt(2) ln(C - 1); two classes, for which it would be zero, take the scale of three.

    Example:
        >>> round(default_scale(100), 3), default_scale(2) == default_scale(3)
        (6.498, True)
    """
    return math.sqrt(2) * math.log(max(num_labels, 3) - 1)


def center_cosine(hash_logits: Tensor, centers: Tensor) -> Tensor:
    """Cosine between every sample and every center, in float32.

    Args:
        hash_logits: `(N, K)`.
        centers: `(C, K)`, every entry -1 or +1.

    Returns:
        `(N, C)`.
    """
    directions = F.normalize(hash_logits.float(), dim=1)
    return directions @ centers.float().T / math.sqrt(centers.shape[1])  # |z_c| = sqrt(K)


def classification_loss(hash_logits: Tensor, labels: Tensor, centers: Tensor, scale: float, margin: float) -> Tensor:
    """Cross-entropy of the scaled cosines to the centers, with a margin on the own classes (Eqs. 1 and 2).

    Args:
        hash_logits: `(N, K)`.
        labels: `(N,)` or `(N, C)`, as in `check_labels`, every sample with at least one label.
        centers: `(C, K)`.
        scale: s.
        margin: m.

    Returns:
        A scalar: the mean over samples.
    """
    cosine = center_cosine(hash_logits, centers)
    if labels.ndim == 2:
        logits = scale * (cosine - margin * labels.float())
        return F.cross_entropy(logits, label_weights(labels, len(centers)))
    labels = labels.long()
    own = torch.zeros_like(cosine).scatter_(1, labels.unsqueeze(1), margin)
    return F.cross_entropy(scale * (cosine - own), labels, ignore_index=NO_LABEL)


def quantization_loss(hash_logits: Tensor) -> Tensor:
    """Mean of (|tanh v| - 1)^2 over samples and bits (Eq. 3): how far the hash logits are from being binary.

    Example:
        >>> quantization_loss(torch.tensor([[0.0, 100.0]]))
        tensor(0.5000)
    """
    return (hash_logits.float().tanh().abs() - 1).square().mean()


def crh_loss(
    hash_logits: Tensor,
    labels: Tensor,
    centers: Tensor,
    *,
    scale: float,
    margin: float = 0.2,
    quantization_weight: float = 0.1,
) -> Tensor:
    """The whole objective L = L_CE + lambda L_Q (Eq. 4).

    A sample without a label has no loss. A batch of nothing but such samples has a loss of 0 with a gradient of 0.

    Args:
        hash_logits: `(N, K)`.
        labels: `(N,)` integers or `(N, C)` multi-hot, as in `check_labels`.
        centers: `(C, K)`, every entry -1 or +1.
        scale: s, see `default_scale`.
        margin: m.
        quantization_weight: lambda.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If labels are out of range, fractional, or not one row a sample.
    """
    check_labels(labels, len(centers))
    if len(labels) != len(hash_logits):
        raise ValueError(f"`labels` must have one row a sample, but got {len(labels)} for {len(hash_logits)} samples.")
    labelled = has_label(labels)
    if not labelled.any():
        return hash_logits.float().sum() * 0.0
    hash_logits, labels = hash_logits[labelled], labels[labelled]
    loss = classification_loss(hash_logits, labels, centers, scale, margin)
    if quantization_weight:
        loss = loss + quantization_weight * quantization_loss(hash_logits)
    return loss
