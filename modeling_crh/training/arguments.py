"""CRHTrainingArguments: transformers' arguments with the paper's defaults, and parameter groups of the optimizer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from accelerate.data_loader import IterableDatasetShard
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import SchedulerType, has_length

from modeling_crh.checks import check_number, check_whole, is_number, is_whole
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.assignment import check_method
from modeling_crh.training.fine_tuning import layer_scales

LEAST_LEARNING_RATE = 1.0e-7
"""Final learning rate of the paper's schedule."""

_SCHEDULES_WITH_MIN_LR = ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "reduce_lr_on_plateau", "greedy")

_NOT_FOR_HASHING: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "Eq. 2 has a margin in the place of smoothed labels"),
    "neftune_noise_alpha": (None, "a `CRHModel` does not name its token embeddings, if it has some"),
    "batch_eval_metrics": (False, "retrieval figures need the codes of the whole data set at once"),
    "eval_do_concat_batches": (True, "retrieval figures need the codes of the whole data set at once"),
}
"""Settings of transformers that must keep their default, with the default and the reason."""


@dataclass
class CRHTrainingArguments(TrainingArguments):
    """Training settings; the defaults are the paper's for single-label data.

    Args:
        lr_scheduler_kwargs: Settings of the learning rate schedule. Without any, the schedules that take a `min_lr` end
            at 1e-7, as in the paper, and the others are unchanged.
        head_learning_rate: Learning rate of the hash head; `learning_rate` then applies only to the backbone. None
            gives all weights `learning_rate`.
        layer_decay: Factor of the learning rate from one block of the backbone to the one below it, see `layer_scales`,
            such as 0.75. None gives all blocks one rate.
        decoupled_weight_decay: True for AdamW; False, as in the paper, for Adam, which adds the decay to the gradient.
        reassignment: `"hungarian"` for the assignment of least total cost, `"greedy"` for the paper's cheaper one,
            `"none"` for fixed centers.
        soft_statistics: Whether to average tanh(v) instead of sign(v) over each class.
        reassign_every_epoch_until: Number of first epochs with a reassignment after each.
        reassign_every: Later reassignments follow every epoch whose number this divides.

    `transformers.TrainingArguments` documents all other fields.

    Raises:
        ValueError: If a field has a value that its rule does not allow, or hashing cannot use it: label smoothing,
            NEFTune, metrics per batch, and batches that one process reads for all.
    """

    learning_rate: float = 1.0e-4
    adam_beta1: float = 0.5
    weight_decay: float = 1.0e-5
    max_grad_norm: float = 1.0
    num_train_epochs: float = 300
    per_device_train_batch_size: int = 128
    per_device_eval_batch_size: int = 128
    lr_scheduler_type: SchedulerType | str = "cosine_with_min_lr"
    metric_for_best_model: str | None = "map"
    head_learning_rate: float | None = None
    layer_decay: float | None = None
    decoupled_weight_decay: bool = False
    reassignment: Literal["hungarian", "greedy", "none"] = "hungarian"
    soft_statistics: bool = False
    reassign_every_epoch_until: int = 20
    reassign_every: int = 5

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, (default, reason) in _NOT_FOR_HASHING.items():
            if getattr(self, name) != default:
                raise ValueError(f"`{name}` must be {default!r}, since {reason}, but got {getattr(self, name)!r}.")
        if not self.lr_scheduler_kwargs and SchedulerType(self.lr_scheduler_type) == SchedulerType.WARMUP_STABLE_DECAY:
            raise ValueError(
                "`lr_scheduler_kwargs` must hold `num_decay_steps` for warmup_stable_decay, which has no default, but "
                f"got {self.lr_scheduler_kwargs}."
            )
        # transformers 5.23 renamed these and warns of the old names, which are the only ones before it.
        for name in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
            renamed = name.replace("gradient", "activation")
            if getattr(self, renamed, False) is None:
                setattr(self, renamed, getattr(self, name))
        if self.bf16 and not torch.accelerator.is_available():
            self.use_cpu = True  # which transformers asks for in words; a CPU computes in bfloat16 too
        super().__post_init__()  # type: ignore[no-untyped-call]
        if cast(Any, self.accelerator_config).dispatch_batches:
            raise ValueError(
                "`dispatch_batches` of `accelerator_config` must be None or False, since class statistics count the "
                "samples that each process reads itself, but got True."
            )

    def reassigns_after(self, epoch: int) -> bool:
        """Whether centers are reassigned after this many epochs.

        Example:
            >>> args = CRHTrainingArguments(output_dir="unused")
            >>> [epoch for epoch in range(18, 32) if args.reassigns_after(epoch)]
            [18, 19, 20, 25, 30]
        """
        if self.reassignment == "none":
            return False
        return epoch <= self.reassign_every_epoch_until or epoch % self.reassign_every == 0

    def _check_numbers(self) -> None:
        if self.reassignment not in ("hungarian", "greedy", "none"):
            raise ValueError(f"`reassignment` must be 'hungarian', 'greedy' or 'none', but got {self.reassignment!r}.")
        check_whole("reassign_every", self.reassign_every)
        check_whole("reassign_every_epoch_until", self.reassign_every_epoch_until, least=0)
        positive = ["learning_rate", "per_device_train_batch_size", "per_device_eval_batch_size"]
        if not is_whole(self.max_steps) or self.max_steps <= 0:
            positive.append("num_train_epochs")
        for name in positive:
            check_number(name, getattr(self, name), positive=True)
        if self.head_learning_rate is not None:
            check_number("head_learning_rate", self.head_learning_rate)
        if self.layer_decay is not None and (not is_number(self.layer_decay) or not 0 < self.layer_decay <= 1):
            raise ValueError(f"`layer_decay` must lie in (0, 1], but got {self.layer_decay!r}.")


@contextmanager
def whole_schedule(args: CRHTrainingArguments) -> Iterator[None]:
    """Fill in the default settings of the learning rate schedule; outside they stay None, for another schedule."""
    given, is_with_min = args.lr_scheduler_kwargs, SchedulerType(args.lr_scheduler_type).value in _SCHEDULES_WITH_MIN_LR
    args.lr_scheduler_kwargs = given or ({"min_lr": LEAST_LEARNING_RATE} if is_with_min else {})
    try:
        yield
    finally:
        args.lr_scheduler_kwargs = given


def check_arguments(args: Any) -> CRHTrainingArguments:
    """Check that the settings of a trainer are `CRHTrainingArguments`, and return them."""
    if not isinstance(args, CRHTrainingArguments):
        raise ValueError(
            "`args` must be CRHTrainingArguments, which take all that TrainingArguments take, but got "
            f"{'nothing' if args is None else type(args).__name__}."
        )
    return args


def check_fits(trainer: Trainer, *, is_crh: bool) -> None:
    """Check that a model can be trained so.

    Its centers may move, gradients reach the part that is trained, the loss is that of CRH or of an objective, and
    `metric_for_best_model` names one of several evaluation datasets.
    """
    model, args, data = cast(CRHModel, trainer.model), cast(CRHTrainingArguments, trainer.args), trainer.eval_dataset
    if trainer.compute_loss_func is not None:
        rule = "`compute_loss_func` must be None, since another loss is an `objective`"
        raise ValueError(f"{rule}, but got {trainer.compute_loss_func}.")
    metric = (args.metric_for_best_model or "").removeprefix("eval_")
    if isinstance(data, dict) and metric and args.eval_strategy != "no":
        if not any(metric.startswith(f"{name}_") for name in data):
            raise ValueError(
                "`metric_for_best_model` must be None, or name one of the data sets in `eval_dataset`, such as "
                f"'{next(iter(data), 'NAME')}_map', but got {metric!r}."
            )
    if is_crh and args.reassignment != "none":
        num_words, num_labels = model.codebook.shape[1], model.assignment.shape[1]
        check_method(args.reassignment, num_words, num_labels, model.config.word_capacity)
    if model.config.fixed_centers and args.reassignment != "none":
        raise ValueError(
            "`reassignment` must be 'none' for a model with `fixed_centers`, which are those of another model, but got "
            f"{args.reassignment!r}."
        )
    if args.layer_decay is not None:
        layer_scales(model, args.layer_decay)
    weights = [] if model.backbone is None else list(model.backbone.parameters())
    is_reentrant = cast(dict[str, Any], args.gradient_checkpointing_kwargs or {}).get("use_reentrant", False)
    if is_reentrant and not all(weight.requires_grad for weight in weights):
        raise ValueError(
            "`use_reentrant` of `gradient_checkpointing_kwargs` must be False for a backbone with frozen weights, "
            "whose blocks would get no gradient, but got True."
        )


def check_loader(batches: Iterable[Any], hash_head: nn.Module, args: TrainingArguments) -> None:
    """Check that class statistics and batch norm can use the training batches that accelerate prepared."""
    loader: Any = batches
    if not has_length(batches):
        if args.world_size > 1:
            raise ValueError(
                "`train_dataset` must have a length where there are several processes, of which none knows what the "
                f"others have read, but {type(loader.dataset).__name__} has none."
            )
        return
    num_samples, batch_size = _total_sizes(loader, args)
    single = num_samples % batch_size == 1 and not args.dataloader_drop_last and args.world_size == 1
    normalises = any(isinstance(layer, nn.BatchNorm1d) for layer in hash_head.modules())
    if normalises and (single or batch_size == args.world_size):
        raise ValueError(
            "`per_device_train_batch_size` must not leave a batch of one sample to the head's batch norm, but got "
            f"{batch_size // args.world_size} for {num_samples} samples."
        )


def own_samples(batch_size: int, loader: Any, batches: int, args: TrainingArguments) -> int:
    """Count the samples in the next batch of this process, after some `batches` of the epoch, without repetitions."""
    if args.dataloader_drop_last:
        return batch_size
    num_samples, total = _total_sizes(loader, args)
    rest = num_samples % total
    if rest == 0 or batches < len(loader) - 1:
        return batch_size
    return int(min(max(rest - args.process_index * (total // args.world_size), 0), batch_size))


def _total_sizes(loader: Any, args: TrainingArguments) -> tuple[int, int]:
    """Return the numbers of samples in a loader that accelerate prepared, and in a batch over all processes."""
    if loader.batch_size is None:  # it has a batch sampler
        return loader.total_dataset_length, loader.total_batch_size
    dataset = loader.dataset.dataset if isinstance(loader.dataset, IterableDatasetShard) else loader.dataset
    return len(dataset), loader.batch_size * args.world_size


def split_groups(
    optimizer: torch.optim.Optimizer, model: nn.Module, objective: nn.Module | None, args: CRHTrainingArguments
) -> None:
    """Split the parameter groups of an optimizer, before its first step, into hash head, and backbone by `layer_decay`.

    The weights of an objective, if any, join the hash head, which gets `head_learning_rate`.
    """
    own = [] if objective is None else list(objective.parameters())
    for parameter in own:
        decay = args.weight_decay if parameter.ndim > 1 else 0.0
        optimizer.add_param_group({"params": [parameter], "weight_decay": decay})
    scales = {} if args.layer_decay is None else layer_scales(cast(CRHModel, model), args.layer_decay)
    group_of = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    split: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for name, parameter in [*model.named_parameters(), *(("hash_head.", parameter) for parameter in own)]:
        if parameter in group_of:
            group, in_head, scale = group_of[parameter], "hash_head." in name, scales.get(parameter, 1.0)
            rate = group["lr"] * scale
            if in_head and args.head_learning_rate is not None:
                rate = args.head_learning_rate
            key = in_head, group["weight_decay"], scale
            split.setdefault(key, group | {"params": [], "lr": rate})["params"].append(parameter)
    optimizer.param_groups = list(split.values())
