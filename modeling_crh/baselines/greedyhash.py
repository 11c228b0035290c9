"""GreedyHash: a classifier reads the codes themselves, and the gradient passes their sign by."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_crh.baselines.objective import Objective, check_setting
from modeling_crh.codes import binarize


class GreedyHash(Objective):
    """Greedy hash (Su et al., NeurIPS 2018).

    The loss is the cross-entropy of W sign(v), where the gradient with respect to v is that with respect to sign(v),
    plus lambda times the mean over samples and bits of | |v| - 1 |^3. The classifier W `(C, K)` has no bias, is trained
    with the hash head and is needed no more afterwards. There are no centers.

    Args:
        num_labels: C.
        num_bits: K.
        seed: Of W's first values.
        quantization_weight: lambda.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    name = "greedyhash"
    has_multi_label = False

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0, *, quantization_weight: float = 0.1) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.quantization_weight = check_setting("quantization_weight", quantization_weight)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = nn.Linear(num_bits, num_labels, bias=False)

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        signs = binarize(hash_logits.detach()).float()
        codes = signs + (hash_logits - hash_logits.detach())  # the value of the signs, the gradient of the hash logits
        classification = F.cross_entropy(self.classifier(codes).float(), labels.long())
        return classification + self.quantization_weight * (hash_logits.abs() - 1).abs().pow(3).mean()
