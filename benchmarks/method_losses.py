"""Losses of metric learning for K numbers whose signs are the code, as objectives: pytorch-metric-learning's own.

`crh train --method method_losses:CosFace` trains one, from this folder, with `pip install pytorch-metric-learning`.
"""

from typing import ClassVar

from pytorch_metric_learning import losses
from torch import Tensor

from modeling_crh.training.objectives import Objective


class CosFace(Objective):
    """Wang et al., arXiv 1801.09414, with a margin of 0.35.

    Args:
        num_labels: Number of classes C.
        num_bits: K.
        seed: Not used.
        scale: Factor of the cosines.
    """

    name = "cosface"
    loss_class: ClassVar[type] = losses.CosFaceLoss

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, scale: float = 64.0) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.metric = self.loss_class(num_classes=num_labels, embedding_size=num_bits, scale=scale)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See `Objective`."""
        loss: Tensor = self.metric(hash_logits, labels)
        return loss


class ArcFace(CosFace):
    """Deng et al., arXiv 1801.07698, with a margin of 28.6 degrees."""

    name = "arcface"
    loss_class = losses.ArcFaceLoss


class ProxyAnchor(Objective):
    """Kim et al., arXiv 2003.13911, with a margin of 0.1 and alpha = 32."""

    name = "proxyanchor"

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.metric = losses.ProxyAnchorLoss(num_labels, num_bits)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See `Objective`."""
        loss: Tensor = self.metric(hash_logits, labels)
        return loss


class SupCon(Objective):
    """Khosla et al., arXiv 2004.11362, with a temperature of 0.1 and one view of each item.

    Only items with another one of their class in the batch have a loss: with 256 of 1,611 classes about 20 pairs.
    """

    name = "supcon"

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.metric = losses.SupConLoss()

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See `Objective`."""
        loss: Tensor = self.metric(hash_logits, labels)
        return loss
