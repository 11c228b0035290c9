"""DTSH: triplets of an anchor, a sample like it and one unlike it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_crh.baselines.hashnet import share_a_label
from modeling_crh.baselines.objective import Objective, check_setting
from modeling_crh.checks import is_whole
from modeling_crh.codes import binarize


class DTSH(Objective):
    """Deep supervised hashing with triplet labels (Wang et al., ACCV 2016).

    With th_ij = v_i.v_j / 2, the loss is the mean over the triplets (i, p, n) of the batch, where i and p share a label
    and i and n do not, of softplus(-(th_ip - th_in - margin)), plus lambda times the mean over samples and bits of
    (v - sign v)^2.

    A batch of N samples with P similar pairs (i, p) has at most P N triplets. They are all taken while P is at most
    `max_pairs`; of more, that many pairs are drawn anew in every batch, from torch's generator, each with all its n.
    Without a triplet only the second part is left.

    Args:
        num_labels: C.
        num_bits: K.
        seed: Unused; nothing is drawn beforehand.
        margin: None stands for K / 4: half of that by which th of equal codes exceeds that of codes that differ in half
            of the bits.
        quantization_weight: lambda.
        max_pairs: Bounds the memory to 4 N `max_pairs` bytes for each of the few steps of the computation.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    name = "dtsh"
    has_multi_label = True

    def __init__(
        self,
        num_labels: int,
        num_bits: int,
        seed: int = 0,
        *,
        margin: float | None = None,
        quantization_weight: float = 1.0,
        max_pairs: int = 8192,
    ) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.margin = num_bits / 4 if margin is None else check_setting("margin", margin)
        self.quantization_weight = check_setting("quantization_weight", quantization_weight)
        if not is_whole(max_pairs) or max_pairs < 1:
            raise ValueError(f"`max_pairs` must be a whole number, 1 or larger, but got {max_pairs!r}.")
        self.max_pairs = max_pairs

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        signs = binarize(hash_logits.detach()).float()
        quantization = (hash_logits - signs).square().mean()
        return self._triplet_loss(hash_logits, share_a_label(labels)) + self.quantization_weight * quantization

    def _triplet_loss(self, hash_logits: Tensor, similar: Tensor) -> Tensor:
        theta = hash_logits @ hash_logits.T / 2  # (N, N)
        pairs = (similar & ~torch.eye(len(similar), dtype=torch.bool, device=similar.device)).nonzero()  # (P, 2)
        if len(pairs) > self.max_pairs:
            pairs = pairs[torch.randperm(len(pairs), device=pairs.device)[: self.max_pairs]]
        anchors, positives = pairs.T
        unlike = ~similar[anchors]  # (P, N)
        lead = theta[anchors, positives].unsqueeze(1) - theta[anchors] - self.margin  # (P, N)
        return (F.softplus(-lead) * unlike).sum() / unlike.sum().clamp(min=1)
