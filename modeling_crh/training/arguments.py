"""CRHTrainingArguments: transformers' own, with the paper's settings as defaults and the cadence of reassignment."""

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import TrainingArguments


@dataclass
class CRHTrainingArguments(TrainingArguments):
    """Training settings; the defaults are the paper's for single-label data.

    Args:
        head_learning_rate: Of the hash head. None gives it `learning_rate`, which is then that of all weights.
        decoupled_weight_decay: True for AdamW; False, as in the paper, for Adam, which adds the decay to the gradient.
        reassignment: `"hungarian"` for the assignment of least total cost, `"greedy"` for the paper's cheaper one,
            `"none"` for centers that never move.
        soft_statistics: Average tanh(v) instead of sign(v) over each class.
        reassign_every_epoch_until: Centers move after each of that many first epochs ...
        reassign_every: ... and after that, after every epoch whose number this divides.

    All other fields are those of `transformers.TrainingArguments`.

    Raises:
        ValueError: If a field breaks its rule.
    """

    learning_rate: float = 1.0e-4
    adam_beta1: float = 0.5
    weight_decay: float = 1.0e-5
    max_grad_norm: float = 1.0
    num_train_epochs: float = 300
    per_device_train_batch_size: int = 128
    per_device_eval_batch_size: int = 128
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(default_factory=lambda: {"min_lr": 1.0e-7})
    metric_for_best_model: str | None = "map"
    head_learning_rate: float | None = None
    decoupled_weight_decay: bool = False
    reassignment: Literal["hungarian", "greedy", "none"] = "hungarian"
    soft_statistics: bool = False
    reassign_every_epoch_until: int = 20
    reassign_every: int = 5

    def __post_init__(self) -> None:
        if self.reassignment not in ("hungarian", "greedy", "none"):
            raise ValueError(f"`reassignment` must be 'hungarian', 'greedy' or 'none', but got {self.reassignment!r}.")
        if self.reassign_every < 1:
            raise ValueError(f"`reassign_every` must be at least 1, but got {self.reassign_every}.")
        for name in ("learning_rate", "per_device_train_batch_size", "per_device_eval_batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be above 0, but got {getattr(self, name)}.")
        if self.max_steps <= 0 and not self.num_train_epochs > 0:
            raise ValueError(f"`num_train_epochs` must be above 0, but got {self.num_train_epochs}.")
        if self.head_learning_rate is not None and self.head_learning_rate < 0:
            raise ValueError(f"`head_learning_rate` must not be negative, but got {self.head_learning_rate}.")
        super().__post_init__()  # type: ignore[no-untyped-call]

    def reassigns_after(self, epoch: int) -> bool:
        """Whether centers move after this many epochs.

        Example:
            >>> args = CRHTrainingArguments(output_dir="unused")
            >>> [epoch for epoch in range(18, 32) if args.reassigns_after(epoch)]
            [18, 19, 20, 25, 30]
        """
        if self.reassignment == "none":
            return False
        return epoch <= self.reassign_every_epoch_until or epoch % self.reassign_every == 0
