"""MDS: a softmax over centers that lie as far apart as the Gilbert-Varshamov bound grants."""

import math

import torch
from torch import Tensor

from modeling_crh.baselines.centers import spread_centers
from modeling_crh.baselines.objective import Objective, check_setting, quantization_gap
from modeling_crh.labels import label_weights
from modeling_crh.losses import center_cosine

_CLOSE_TO_ONE = -1.0e-6  # a log probability above it would make log(1 - p) minus infinity in float32


class MDS(Objective):
    """Deep hashing with minimal-distance-separated centers (Wang et al., CVPR 2023), without its pair term.

    With u = tanh(v) and p = softmax_c(sqrt(K) cos(u, z_c)), the loss is
    -mean [t log p + (1-t) log(1-p)] + lambda mean (|u|-1)^2, the first mean over samples and classes, the second over
    samples and bits. For several labels t = y / |y|_1: a softmax can reach it, so that every term is least at p = t,
    which it would not be for a binary t. The paper's pair term needs a momentum encoder, and is left out.

    Args:
        num_labels: C.
        num_bits: K.
        seed: Of the centers.
        quantization_weight: lambda.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    name = "mds"
    has_multi_label = True

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, quantization_weight: float = 1.0e-4) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.quantization_weight = check_setting("quantization_weight", quantization_weight)
        self.centers = spread_centers(num_labels, num_bits, seed)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        cosine = center_cosine(hash_logits.tanh(), self.require_centers())  # (N, C)
        log_p = (math.sqrt(self.num_bits) * cosine).log_softmax(1)
        log_rest = torch.log(-torch.expm1(log_p.clamp(max=_CLOSE_TO_ONE)))
        targets = label_weights(labels, self.num_labels)
        central = -torch.lerp(log_rest, log_p, targets).mean()
        return central + self.quantization_weight * quantization_gap(hash_logits)
