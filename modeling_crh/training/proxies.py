"""Proxies: free vectors of the classes, to which codes are pulled before the classes have centers of their own."""

import math
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor, nn

from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.losses import classification_loss, pair_loss
from modeling_crh.training.objectives import Objective

INITIAL_STD = 1.0e-4  # so small that few steps turn the vectors, at any learning rate


class Proxies(Objective):
    """The loss of CRH (Eq. 2) with free vectors of the classes, their proxies, in the place of the hash centers.

    Proxies are trained with the network, as those of Movshovitz-Attias et al. (ICCV 2017), and end up close together
    where classes are alike. The first hash centers are drawn at random, and codes that are pulled to them stay where
    they are; codes that follow proxies let reassignment find centers that are alike where classes are.

    Args:
        config: Config of the model: numbers of classes and bits, prefixes, scale, margin and weight of the pairs.
        seed: Seed of the first vectors.

    Attributes:
        vectors: `(C, K)`, of any length; in a distributed run their gradients are averaged over the processes.

    Example:
        >>> config = CRHConfig(backbone_config=None, num_features=4, num_labels=2, num_bits=8)
        >>> proxies, labels = Proxies(config), torch.tensor([0, 1])
        >>> bool(proxies(proxies.vectors.detach(), labels) < proxies(-proxies.vectors.detach(), labels))
        True
    """

    name = "proxies"
    has_multi_label = True

    def __init__(self, config: CRHConfig, seed: int = 0) -> None:
        super().__init__(cast(int, config.num_labels), config.num_bits, seed)
        self.config = config
        drawn = torch.randn(self.num_labels, self.num_bits, generator=torch.Generator().manual_seed(seed))
        self.vectors = nn.Parameter(INITIAL_STD * drawn)
        self.vectors.register_hook(partial(reduce, reduction="mean"))

    def forward(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, with a gradient of the vectors also where no sample has a label."""
        return super().forward(hash_logits, labels) + 0.0 * self.vectors.sum()  # processes wait for each other's

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute Eq. 2 for the whole code and its prefixes, and the loss of pairs, of `(N, K)` float32 hash logits."""
        config, pair_weight = self.config, cast(float, self.config.pair_weight)
        loss = pair_weight * pair_loss(hash_logits, labels) if pair_weight else hash_logits.sum() * 0.0
        for length in config.lengths:
            weight = 1.0 if length == config.num_bits else config.prefix_weight
            centers = math.sqrt(length) * F.normalize(self.vectors[:, :length], dim=1)  # of the length of a center
            prefix = hash_logits[:, :length], labels, centers
            loss = loss + weight * classification_loss(*prefix, cast(float, config.scale), config.margin)
        return loss
