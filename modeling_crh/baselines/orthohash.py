"""OrthoHash: one cosine loss to orthogonal centers, after a batch norm that balances the bits."""

from torch import Tensor

from modeling_crh.baselines.centers import bernoulli_centers, hadamard_centers
from modeling_crh.baselines.objective import Objective, check_setting
from modeling_crh.losses import classification_loss


class OrthoHash(Objective):
    """One loss for all (Hoe et al., NeurIPS 2021).

    v = BatchNorm(W f) without a bias, which is the config's `hash_head_batch_norm`. The loss is the cross-entropy of
    s (cos(v, z_c) - m [c = y]), for several labels with the target y / |y|_1. Centers are Hadamard rows where there
    are enough, else random words.

    Args:
        num_labels: C.
        num_bits: K.
        seed: Of the centers.
        scale: s.
        margin: m.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    name = "orthohash"
    has_multi_label = True
    model_fields = {"hash_head_batch_norm": True}  # noqa: RUF012 - declared in Objective

    def __init__(
        self, num_labels: int, num_bits: int, seed: int = 0, *, scale: float = 8.0, margin: float = 0.2
    ) -> None:
        super().__init__(num_labels, num_bits, seed)
        self.scale = check_setting("scale", scale, positive=True)
        self.margin = check_setting("margin", margin)
        hadamard = hadamard_centers(num_labels, num_bits, seed)
        self.centers = bernoulli_centers(num_labels, num_bits, seed) if hadamard is None else hadamard

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """See the class; the same cross-entropy as CRH's, Eqs. 1 and 2."""
        return classification_loss(hash_logits, labels, self.require_centers(), self.scale, self.margin)
