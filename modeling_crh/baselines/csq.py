"""CSQ: every bit is trained to be that of the class's Hadamard center."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_crh.baselines.centers import balanced_centers, hadamard_centers
from modeling_crh.baselines.objective import Objective, check_setting, quantization_gap


class CSQ(Objective):
    """Central similarity quantization (Yuan et al., CVPR 2020).

    With u = tanh(v), the loss is BCE((u+1)/2, (z_y+1)/2) + lambda mean (|u|-1)^2, both means over samples and bits.
    Centers are Hadamard rows where there are enough, else random words with K/2 ones. The center of a sample of
    several labels is the sign of the sum of the labels' centers, and where that sum is 0 the bit of one fixed random
    word.

    Args:
        num_labels: C.
        num_bits: K.
        seed: Of the centers and of that word.
        quantization_weight: lambda.

    Raises:
        ValueError: If an argument breaks its rule.

    Example:
        >>> CSQ(3, 8)(torch.zeros(1, 8), torch.tensor([0]))  # log 2 a bit, and 1e-4
        tensor(0.6932)
    """

    name = "csq"
    has_multi_label = True

    tie_word: Tensor

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, quantization_weight: float = 1.0e-4) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.quantization_weight = check_setting("quantization_weight", quantization_weight)
        hadamard = hadamard_centers(num_labels, num_bits, seed)
        self.centers = balanced_centers(num_labels, num_bits, seed) if hadamard is None else hadamard
        word = np.random.default_rng([seed, 1]).integers(0, 2, num_bits, np.int8) * np.int8(2) - np.int8(1)
        self.register_buffer("tie_word", torch.from_numpy(word))

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        targets = self.targets(labels)
        # (tanh v + 1) / 2 is the sigmoid of 2 v
        central = F.binary_cross_entropy_with_logits(2 * hash_logits, (targets + 1) / 2)
        return central + self.quantization_weight * quantization_gap(hash_logits)

    def targets(self, labels: Tensor) -> Tensor:
        """Center of each sample, `(N, K)` float32, every entry -1 or +1."""
        centers = self.require_centers()
        if labels.ndim == 1:
            return centers[labels.long()].float()
        votes = labels.float() @ centers.float()  # (N, K)
        return torch.where(votes == 0, self.tie_word.float(), votes.sign())
