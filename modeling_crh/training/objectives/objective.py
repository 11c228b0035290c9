"""Objective: base class of the losses of rival methods."""

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from modeling_crh.checks import check_whole
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.losses import check_labels, has_label
from modeling_crh.modeling_crh import CRHModel


class Objective(nn.Module):
    """A loss on hash logits and labels, with its own centers and weights.

    A subclass defines `loss`, and takes its settings as keyword-only arguments. Its parameters are trained with the
    hash head, and its parameters and buffers are part of every checkpoint. `crh train --method my_module:MyObjective`
    trains a subclass from your own module.

    Args:
        num_labels: Number of classes C, at least 2.
        num_bits: Length K of a code, at least 1.
        seed: Seed of all random draws of the objective.

    Attributes:
        name: Name of the method in recipes.
        has_multi_label: Whether the method defines a loss for samples with several labels.
        has_first_stage: Whether a classifier is trained first, to give `place_centers` the class similarity.
        classifier_epochs: Number of epochs of the first stage; None takes half of the second.
        model_fields: Fields of `CRHConfig` that the method requires.
        centers: `(C, K)` int8, every entry -1 or +1; None for a method without centers.

    Raises:
        ValueError: If a number or the seed is out of range.

    Example:
        >>> class PullToSign(Objective):
        ...     name = "pull-to-sign"
        ...
        ...     def loss(self, hash_logits, labels):
        ...         return (hash_logits.abs() - 1).square().mean()
        >>> PullToSign(3, 8)(torch.zeros(2, 8), torch.tensor([0, 2]))
        tensor(1.)
    """

    name: ClassVar[str] = "objective"
    has_multi_label: ClassVar[bool] = False
    has_first_stage: ClassVar[bool] = False
    model_fields: ClassVar[dict[str, Any]] = {}

    centers: Tensor | None
    classifier_epochs: float | None = None

    def __init__(self, num_labels: int, num_bits: int, seed: int = 0) -> None:
        super().__init__()
        for argument, value, least in (("num_labels", num_labels, 2), ("num_bits", num_bits, 1), ("seed", seed, 0)):
            check_whole(argument, value, least)
        self.num_labels, self.num_bits, self.seed = num_labels, num_bits, seed
        self.register_buffer("centers", None)

    @classmethod
    def setting_names(cls) -> set[str]:
        """Return the names of the method's own settings, besides classes, bits and seed.

        Example:
            >>> from modeling_crh.training.objectives import OBJECTIVES
            >>> sorted(OBJECTIVES["orthohash"].setting_names())
            ['margin', 'scale']
        """
        arguments = inspect.signature(cls).parameters.values()
        return {argument.name for argument in arguments if argument.kind == argument.KEYWORD_ONLY}

    def forward(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch; samples without a label are left out, as in `crh_loss`.

        Args:
            hash_logits: Hash logits `(N, K)`, of any precision.
            labels: Class ids `(N,)` or multi-hot rows `(N, C)`, as in `check_labels`.

        Returns:
            A float32 scalar; 0, with a gradient of 0, if no sample has a label.

        Raises:
            ValueError: If labels are out of range, fractional, not one row per sample, or multi-hot for a method
                without a multi-label loss.
        """
        check_labels(labels, self.num_labels, len(hash_logits))
        if labels.ndim == 2 and not self.has_multi_label:
            raise ValueError(f"`labels` must be (N,) for {self.name}, which has no multi-label loss, but got (N, C).")
        labelled = has_label(labels)
        hash_logits = hash_logits.float()
        if not labelled.any():
            return hash_logits.sum() * 0.0
        return self.loss(hash_logits[labelled], labels[labelled])

    def loss(self, hash_logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of `(N, K)` float32 hash logits, all with a label. A subclass defines it."""
        raise NotImplementedError

    def set_progress(self, fraction: float) -> None:
        """Set the share of the training that is over, from 0 to 1; called before every step."""

    def place_centers(self, similarity: Tensor) -> None:
        """Place the centers by the `(C, C)` similarity of the classes, for a method with a first stage."""
        raise NotImplementedError

    def place_in(self, model: CRHModel) -> None:
        """Copy the centers, if any, into a model: into one head, in which class c holds word c."""
        if self.centers is not None:
            model.codebook.copy_(self.centers.unsqueeze(0))
            model.assignment.copy_(torch.arange(len(self.centers)).unsqueeze(0))

    def check_ready(self) -> None:
        """Check that the first stage, if any, has run before training."""

    def check_fits(self, config: CRHConfig, world_size: int, is_made_anew: bool = False) -> None:
        """Check that the objective can be trained with a model and a number of processes.

        Raises:
            ValueError: If the model has other classes, its codebook cannot hold the centers, or the objective has
                weights or a first stage, which support neither several processes nor a new model from `model_init`.
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
        if (world_size > 1 or is_made_anew) and (self.has_first_stage or list(self.parameters())):
            what = f"{world_size} processes" if world_size > 1 else "a model_init"
            raise ValueError(
                "`objective` must have neither weights nor a first stage where there are several processes, or a "
                f"`model_init`, but got {self.name} and {what}."
            )

    def require_centers(self) -> Tensor:
        """Return the `(C, K)` int8 centers of a method; a method without centers is an error."""
        if self.centers is None:
            raise ValueError(f"`centers` must be given by the objective, but {self.name} has none.")
        return self.centers
