"""Labels of a batch: their two shapes, and the weight of each."""

import torch
import torch.nn.functional as F
from torch import Tensor

NO_LABEL = -100
"""Label of a sample that has none: the `ignore_index` of torch's cross-entropy."""


def check_labels(labels: Tensor, num_labels: int) -> None:
    """Check the shape and the range of a batch of labels.

    Args:
        labels: `(N,)` integers from 0 to C - 1, or -100 for a sample without a label; or `(N, C)` of 0 and 1, where a
            row of zeros is a sample without a label.
        num_labels: Number of classes, C.

    Raises:
        ValueError: If a label is out of range or fractional, or the shape is another one.
    """
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
    """Weight of each class for each sample, w_ic = y_ic / |y_i|_1.

    Args:
        labels: `(N,)` or `(N, C)`, see `check_labels`.
        num_labels: Number of classes, C.

    Returns:
        `(N, C)` float32. Rows sum to 1; the row of a sample without a label is all zeros.

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
