"""Objective: what a rival method trains in the place of CRH's loss."""

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from modeling_crh.checks import check_seed, is_number, is_whole
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.labels import check_labels, has_label

if TYPE_CHECKING:
    from modeling_crh.training.trainer import CRHTrainer


class Objective(nn.Module):
    """A loss on hash logits and labels, with what it needs besides: centers, weights of its own, a first stage.

    A subclass defines `loss`, and takes settings of its own as keyword-only arguments. Its parameters are trained
    with the hash head, and its parameters and buffers are part of every checkpoint.

    Args:
        num_labels: C, at least 2.
        num_bits: K, at least 1.
        seed: Of everything that the objective draws.

    Attributes:
        name: What recipes call the method.
        has_multi_label: Whether the method defines a loss for samples of several labels.
        has_first_stage: Whether `prepare` trains something before the training proper.
        model_fields: Fields of `CRHConfig` that the method asks for.
        centers: `(C, K)` int8, every entry -1 or +1; None where the method has none.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    name: ClassVar[str]
    has_multi_label: ClassVar[bool]
    has_first_stage: ClassVar[bool] = False
    model_fields: ClassVar[dict[str, Any]] = {}

    centers: Tensor | None

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0) -> None:
        super().__init__()
        for argument, value, least in (("num_labels", num_labels, 2), ("num_bits", num_bits, 1)):
            if not is_whole(value) or value < least:
                raise ValueError(f"`{argument}` must be a whole number, {least} or larger, but got {value!r}.")
        check_seed(seed)
        self.num_labels, self.num_bits, self.seed = num_labels, num_bits, seed
        self.register_buffer("centers", None)

    @classmethod
    def setting_names(cls) -> set[str]:
        """What the method can be told besides classes, bits and seed.

        Example:
            >>> from modeling_crh.training.objectives import OBJECTIVES
            >>> sorted(OBJECTIVES["orthohash"].setting_names())
            ['margin', 'scale']
        """
        arguments = inspect.signature(cls).parameters.values()
        return {argument.name for argument in arguments if argument.kind == argument.KEYWORD_ONLY}

    def forward(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch, with samples that have no label left out, as in `crh_loss`.

        Args:
            hash_logits: `(N, K)`, of any precision.
            labels: `(N,)` integers or `(N, C)` multi-hot, as in `check_labels`.

        Returns:
            A float32 scalar; 0, with a gradient of 0, where no sample has a label.

        Raises:
            ValueError: If labels are out of range, fractional, not one row a sample, or multi-hot where the method
                defines no loss for them.
        """
        check_labels(labels, self.num_labels)
        if len(labels) != len(hash_logits):
            raise ValueError(
                f"`labels` must have one row a sample, but got {len(labels)} for {len(hash_logits)} samples."
            )
        if labels.ndim == 2 and not self.has_multi_label:
            raise ValueError(f"`labels` must be (N,) for {self.name}, which has no multi-label loss, but got (N, C).")
        labelled = has_label(labels)
        hash_logits = hash_logits.float()
        if not labelled.any():
            return hash_logits.sum() * 0.0
        return self.loss(hash_logits[labelled], labels[labelled])

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of `(N, K)` float32 hash logits, all of them with a label: what a subclass defines."""
        raise NotImplementedError

    def set_progress(self, fraction: float) -> None:
        """Hear how much of the training is over, from 0 to 1; called before every step."""

    def prepare(self, trainer: "CRHTrainer") -> None:
        """Train what comes before the training proper; called once a run, and not when it is resumed."""

    def check_fits(self, config: CRHConfig, world_size: int) -> None:
        """Refuse a model or a number of processes that this cannot be trained with.

        Raises:
            ValueError: If the model has other classes, its codebook cannot hold the centers, or there are several
                processes, of which one would not know of another's weights.
        """
        if self.num_labels != config.num_labels:
            raise ValueError(
                f"`objective` must have the model's number of classes, {config.num_labels}, but has {self.num_labels}."
            )
        if self.centers is not None and (1, *self.centers.shape) != config.codebook_shape:
            raise ValueError(
                f"`objective` must have centers that fit the model's codebook, (H, M, d) = {config.codebook_shape}, "
                f"which needs one head of C words of K bits, but has centers of shape {tuple(self.centers.shape)}."
            )
        if world_size > 1 and (self.has_first_stage or list(self.parameters())):
            raise ValueError(
                "`objective` must have neither weights nor a first stage where there are several processes, but got "
                f"{self.name} and {world_size} processes."
            )

    def require_centers(self) -> Tensor:
        """The centers of a method that has some, `(C, K)` int8."""
        if self.centers is None:
            raise ValueError(f"`centers` must be given by the objective, but {self.name} has none.")
        return self.centers


def quantization_gap(hash_logits: Tensor) -> Tensor:
    """Mean of (|tanh v| - 1)^2 over samples and bits: what CSQ and MDS add to their losses.

    Example:
        >>> quantization_gap(torch.tensor([[0.0, 100.0]]))
        tensor(0.5000)
    """
    return (hash_logits.tanh().abs() - 1).square().mean()


def check_setting(name: str, value: Any, *, positive: bool = False) -> float:
    """Give a setting back if it is a number that is finite and not negative.

    Args:
        name: What the caller calls it, for the message.
        value: Anything.
        positive: Refuse 0 too.

    Raises:
        ValueError: If it is something else.
    """
    if not is_number(value) or not 0 <= value < float("inf") or (positive and value == 0):
        raise ValueError(f"`{name}` must be a number {'above 0' if positive else '0 or larger'}, but got {value!r}.")
    return float(value)
