"""Rivals that compare pairs and triplets of samples: HashNet and DTSH."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_crh.checks import check_number, check_whole
from modeling_crh.codes import binarize
from modeling_crh.losses import pair_loss, share_a_label
from modeling_crh.training.objectives.objective import Objective


class HashNet(Objective):
    """Deep learning to hash by continuation (Cao et al., ICCV 2017).

    With h = tanh(beta v) and s_ij = 1 where samples i and j share a label, the loss is the weighted mean over all
    pairs of different samples of the batch of softplus(a h_i.h_j) - s_ij a h_i.h_j. Similar pairs weigh |S| / |S_1| and
    dissimilar ones |S| / |S_0|, so that the loss is the mean of the similar pairs plus the mean of the dissimilar ones.
    beta grows from 1 to `final_beta` as sqrt(1 + (final_beta^2 - 1) t), t being the share of the training that is over.

    Args:
        alpha: Factor a of the products; None takes 10 / K.
        final_beta: Value of beta at the end of the training, at least 1.

    The other arguments and errors are those of `Objective`.
    """

    name = "hashnet"
    has_multi_label = True

    def __init__(
        self, num_labels: int, num_bits: int, seed: int = 0, *, alpha: float | None = None, final_beta: float = 10.0
    ) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.alpha = 10 / num_bits if alpha is None else check_number("alpha", alpha, positive=True)
        self.final_beta = check_number("final_beta", final_beta)
        if self.final_beta < 1:
            raise ValueError(f"`final_beta` must be at least 1, which beta starts from, but got {final_beta!r}.")
        self.beta = 1.0

    def set_progress(self, fraction: float) -> None:
        """Increase beta, which sharpens the tanh."""
        self.beta = math.sqrt(1 + (self.final_beta**2 - 1) * fraction)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the weighted pairwise cross-entropy, see `HashNet`."""
        return pair_loss(self.beta * hash_logits, labels, self.alpha)


class DTSH(Objective):
    """Deep supervised hashing with triplet labels (Wang et al., ACCV 2016).

    With th_ij = v_i.v_j / 2, the loss is the mean over the triplets (i, p, n) of the batch, where i and p share a label
    and i and n do not, of softplus(-(th_ip - th_in - margin)), plus lambda times the mean over samples and bits of
    (v - sign v)^2.

    A batch of N samples with P similar pairs (i, p) has at most P N triplets. All are taken if P is at most
    `max_pairs`; otherwise `max_pairs` pairs, each with all its n, are drawn in every batch from torch's generator.
    Without a triplet only the second term is left.

    Args:
        margin: Least lead of th_ip over th_in that costs little. None takes K / 4: half of the lead that equal codes
            have over codes that differ in half of the bits.
        quantization_weight: Weight lambda of the second term.
        max_pairs: Largest number of similar pairs per batch; an intermediate result takes 4 N `max_pairs` bytes.

    The other arguments and errors are those of `Objective`.
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
        self.margin = num_bits / 4 if margin is None else check_number("margin", margin)
        self.quantization_weight = check_number("quantization_weight", quantization_weight)
        self.max_pairs = check_whole("max_pairs", max_pairs)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the softplus over the triplets, plus the squared distance of the logits from their signs."""
        signs = binarize(hash_logits.detach()).float()
        quantization = (hash_logits - signs).square().mean()
        similar = share_a_label(labels)
        theta = hash_logits @ hash_logits.T / 2  # (N, N)
        pairs = (similar & ~torch.eye(len(similar), dtype=torch.bool, device=similar.device)).nonzero()  # (P, 2)
        if len(pairs) > self.max_pairs:
            pairs = pairs[torch.randperm(len(pairs), device=pairs.device)[: self.max_pairs]]
        anchors, positives = pairs.T
        unlike = ~similar[anchors]  # (P, N)
        lead = theta[anchors, positives].unsqueeze(1) - theta[anchors] - self.margin  # (P, N)
        triplets = (F.softplus(-lead) * unlike).sum() / unlike.sum().clamp(min=1)
        return triplets + self.quantization_weight * quantization
