"""Labels of a batch, and the training loss, Eqs. 1 to 4 of the paper.

In all functions `hash_logits` are `(N, K)`, `labels` are `(N,)` or `(N, C)` as `check_labels` describes them, and
`centers` are `(C, K)`, every entry -1 or +1. A loss is a scalar.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NO_LABEL = -100
"""Label of a sample that has none: the `ignore_index` of torch's cross-entropy."""


def check_labels(labels: Tensor, num_labels: int, num_samples: int | None = None) -> None:
    """Check the shape and the range of a batch of labels.

    Args:
        labels: `(N,)` integers from 0 to C - 1, or -100 for a sample without a label; or `(N, C)` of 0 and 1, where a
            row of zeros is a sample without a label.
        num_labels: Number of classes, C.
        num_samples: Number of samples of the batch, N; None takes any.

    Raises:
        ValueError: If a label is out of range or fractional, the shape is another one, or a sample has no row.
    """
    if num_samples is not None and labels.ndim and len(labels) != num_samples:
        raise ValueError(f"`labels` must have one row a sample, but got {len(labels)} for {num_samples} samples.")
    if labels.ndim == 2:
        if labels.shape[1] != num_labels:
            raise ValueError(f"`labels` must be (N, C) with C={num_labels}, but got shape {tuple(labels.shape)}.")
        if not torch.all((labels == 0) | (labels == 1)):
            raise ValueError("`labels` of shape (N, C) must hold only 0 and 1, but got another value.")
        return
    if labels.ndim != 1:
        raise ValueError(f"`labels` must be (N,) or (N, C), but got shape {tuple(labels.shape)}.")
    if labels.is_floating_point():
        raise ValueError(f"`labels` of shape (N,) must be integers, but got {labels.dtype}.")
    labels = labels.long()
    wrong = labels[((labels < 0) & (labels != NO_LABEL)) | (labels >= num_labels)]
    if len(wrong):
        raise ValueError(f"`labels` must lie from 0 to C-1={num_labels - 1}, but got {wrong[0].item()}.")


def has_label(labels: Tensor) -> Tensor:
    """Tell which samples have a label, `(N,)` bool, for labels of either shape."""
    return labels.bool().any(1) if labels.ndim == 2 else labels.long() != NO_LABEL


def label_weights(labels: Tensor, num_labels: int) -> Tensor:
    """Weight of each class for each sample, w_ic = y_ic / |y_i|_1, as `(N, C)` float32.

    Rows sum to 1; the row of a sample without a label is all zeros.

    Example:
        >>> label_weights(torch.tensor([[1, 1, 0], [0, 0, 0]]), 3)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
        >>> label_weights(torch.tensor([2, -100]), 3)
        tensor([[0., 0., 1.],
                [0., 0., 0.]])
    """
    if labels.ndim == 2:
        return labels.float() / labels.float().sum(1, keepdim=True).clamp(min=1)
    return F.one_hot(labels.long().clamp(min=0), num_labels).float() * has_label(labels).unsqueeze(1)


def default_scale(num_labels: int) -> float:
    """Scale of the paper, s = sqrt(2) ln(C - 1); for two classes, where it would be 0, that of three.

    Example:
        >>> round(default_scale(100), 3), default_scale(2) == default_scale(3)
        (6.498, True)
    """
    return math.sqrt(2) * math.log(max(num_labels, 3) - 1)


def center_cosine(hash_logits: Tensor, centers: Tensor) -> Tensor:
    """Compute the cosine between every sample and every center, `(N, C)` float32 also where autocast takes less."""
    directions = F.normalize(hash_logits.float(), dim=1)
    with torch.autocast(hash_logits.device.type, enabled=False):
        return directions @ centers.float().T / math.sqrt(centers.shape[1])  # |z_c| = sqrt(K)


def classification_loss(hash_logits: Tensor, labels: Tensor, centers: Tensor, scale: float, margin: float) -> Tensor:
    """Compute the cross-entropy of the scaled cosines, with a margin on a sample's own classes (Eqs. 1 and 2).

    It is the mean over the samples, each of which has at least one label. The scale is s, and the margin m is taken
    from the cosines of the own classes.
    """
    cosine = center_cosine(hash_logits, centers)
    if labels.ndim == 2:
        logits = scale * (cosine - margin * labels.float())
        return F.cross_entropy(logits, label_weights(labels, len(centers)))
    labels = labels.long()
    own = torch.zeros_like(cosine).scatter_(1, labels.unsqueeze(1), margin)
    return F.cross_entropy(scale * (cosine - own), labels, ignore_index=NO_LABEL)


def quantization_loss(hash_logits: Tensor) -> Tensor:
    """Mean of (|tanh v| - 1)^2 over samples and bits (Eq. 3), which is 0 for binary values.

    Example:
        >>> quantization_loss(torch.tensor([[0.0, 100.0]]))
        tensor(0.5000)
    """
    return (hash_logits.float().tanh().abs() - 1).square().mean()


def bit_loss(hash_logits: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Compute the logistic loss of every bit towards the bit of the own center, as CSQ has it (CVPR 2020).

    It is the mean over bits and samples, each of which has at least one label; several ask for the mean of their
    centers.

    Example:
        >>> bit_loss(torch.zeros(1, 8), torch.tensor([0]), torch.ones(2, 8))
        tensor(0.6931)
    """
    wanted = label_weights(labels, len(centers)) @ centers.float() if labels.ndim == 2 else centers[labels.long()]
    return F.binary_cross_entropy_with_logits(hash_logits.float(), (1 + wanted.float()) / 2)


def share_a_label(labels: Tensor) -> Tensor:
    """Find the pairs of samples that share a label, `(N, N)` bool.

    Example:
        >>> share_a_label(torch.tensor([2, 0, 2]))
        tensor([[ True, False,  True],
                [False,  True, False],
                [ True, False,  True]])
    """
    if labels.ndim == 1:
        return labels.unsqueeze(0) == labels.unsqueeze(1)
    rows = labels.float()
    return rows @ rows.T > 0


def pair_loss(hash_logits: Tensor, labels: Tensor, alpha: float | None = None) -> Tensor:
    """Compute the logistic loss of the products of all pairs of a batch, as HashNet has it (ICCV 2017).

    With h = tanh(v) and s_ij = 1 where samples i and j share a label, a pair has softplus(a h_i.h_j) - s_ij a h_i.h_j.
    In a distributed run, the pairs are those of the samples of one process. The loss is the mean over the similar pairs
    plus the mean over the dissimilar ones, of different samples, each of which has at least one label.

    Args:
        hash_logits: `(N, K)`.
        labels: `(N,)` or `(N, C)`.
        alpha: Factor a of the products; None takes 10 / K.
    """
    activations = hash_logits.tanh()
    products = (10 / hash_logits.shape[1] if alpha is None else alpha) * (activations @ activations.T)  # (N, N)
    similar = share_a_label(labels)
    pairs = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    terms = F.softplus(products) - torch.where(similar, products, 0)
    loss = hash_logits.sum() * 0.0
    for kind in (pairs & similar, pairs & ~similar):
        loss = loss + (terms * kind).sum() / kind.sum().clamp(min=1)
    return loss


def crh_loss(
    hash_logits: Tensor,
    labels: Tensor,
    centers: Tensor,
    *,
    scale: float,
    margin: float = 0.2,
    quantization_weight: float = 0.1,
    bit_weight: float = 0.0,
    pair_weight: float = 0.0,
    prefix_bits: Sequence[int] = (),
    prefix_weight: float = 0.5,
) -> Tensor:
    """Compute the training loss L = L_CE + lambda L_Q (Eq. 4), with L_CE of prefixes of the code on top.

    Samples without a label have no loss. A batch of only such samples has a loss of 0 with a gradient of 0.

    Args:
        hash_logits: `(N, K)`.
        labels: `(N,)` or `(N, C)`.
        centers: `(C, K)`.
        scale: Scale s of the cosines, see `default_scale`.
        margin: Margin m that is taken from the cosines of the own classes.
        quantization_weight: Weight lambda of the quantization loss.
        bit_weight: Weight of `bit_loss`, which the paper does not have.
        pair_weight: Weight of `pair_loss`, which the paper does not have.
        prefix_bits: Numbers of first bits, below K, to which L_CE applies too; empty in the paper.
        prefix_weight: Weight of L_CE of each of these prefixes.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If labels are out of range or fractional, or not one row per sample.
    """
    check_labels(labels, len(centers), len(hash_logits))
    labelled = has_label(labels)
    if not labelled.any():
        return hash_logits.float().sum() * 0.0
    hash_logits, labels = hash_logits[labelled], labels[labelled]
    loss = classification_loss(hash_logits, labels, centers, scale, margin)
    for length in prefix_bits:
        prefix = hash_logits[:, :length], labels, centers[:, :length]
        loss = loss + prefix_weight * classification_loss(*prefix, scale, margin)
    if quantization_weight:
        loss = loss + quantization_weight * quantization_loss(hash_logits)
    if bit_weight:
        loss = loss + bit_weight * bit_loss(hash_logits, labels, centers)
    if pair_weight:
        loss = loss + pair_weight * pair_loss(hash_logits.float(), labels)
    return loss
