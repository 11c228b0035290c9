"""Callbacks of the trainer: progress of datasets and objectives, reassignment of centers, and a progress bar."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Subset
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import has_length

from modeling_crh.encoding import LabelledDataset
from modeling_crh.modeling_crh import CRHModel, draw_first_centers
from modeling_crh.runtime.terminal import progress_bar, say
from modeling_crh.training.arguments import CRHTrainingArguments, own_samples
from modeling_crh.training.assignment import AssignmentMethod, ClassStatistics, reassign
from modeling_crh.training.checkpointing import OBJECTIVE_NAME, STATISTICS_NAME
from modeling_crh.training.objectives import Objective
from modeling_crh.training.proxies import Proxies


class FollowTrainingCallback(TrainerCallback):
    """Tell a `LabelledDataset` its epoch, and an objective how much of the training is over.

    Args:
        go_on: Function called once transformers has set up its state, before other callbacks.
        objective_of: Function that returns what is trained beside the model, if anything: a rival, or proxies.
    """

    def __init__(self, go_on: Callable[[], None], objective_of: Callable[[], Objective | None]) -> None:
        self.go_on, self.objective_of = go_on, objective_of

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start, or continue from a checkpoint."""
        self.go_on()

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Set the epoch, from 0, of the dataset; accelerate's loader does not if it is resumed or sharded."""
        dataset = kwargs["train_dataloader"].dataset
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        if isinstance(dataset, LabelledDataset):
            dataset.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Tell the objective the share of steps that are done."""
        if (objective := self.objective_of()) is not None:
            objective.set_progress(state.global_step / state.max_steps)

    def on_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Clear the objective's gradients, as Trainer clears the model's."""
        if (objective := self.objective_of()) is not None:
            objective.zero_grad()


class ReassignCentersCallback(TrainerCallback):
    """Give every class codewords near its samples, after the epochs that the training arguments set (Eqs. 5 to 7).

    Statistics come from the codes of the training steps, so there is no second pass. They are part of every checkpoint:
    a run resumed in the middle of an epoch, or between an epoch's last step and its reassignment, continues as if it
    had never stopped. For training data without a length, an epoch is one pass over them.

    Where the model's config has a `proxy_share`, codes follow `proxies` until that share of the steps is done, rounded
    up to whole epochs where the training is longer than these; the centers are reassigned after the last of the steps,
    and the proxies are then gone, from the optimizer and from later checkpoints too.

    Args:
        args: Training arguments with epochs, method and seed of the reassignment.
        num_labels: Number of classes C.
        num_bits: Length K of a code.

    Attributes:
        statistics: Class statistics of this process in the current epoch.
        batches: Number of batches in `statistics`.
        passes: Number of passes over the data that are over, where they have no length.
        moved_share: Share of the C classes whose center the last reassignment changed; None before the first.
        proxies: Proxies that the current step is trained by; None without.
    """

    proxies: Proxies | None = None
    passes: int = 0

    def __init__(self, args: CRHTrainingArguments, num_labels: int, num_bits: int) -> None:
        self.args = args
        self._shape = (num_labels, num_bits)
        self.moved_share: float | None = None
        self._reset()

    def make_proxies(self, model: CRHModel, checkpoint: str | None, optimizer: Any, *, is_new: bool) -> None:
        """Make the proxies that the config of a new model asks for, unless no center moves.

        A model whose centers have moved before keeps them, and gets no proxies. A checkpoint to resume from tells
        whether there are proxies. An optimizer that is not new, such as one of the user's own, does not train them.
        """
        wanted, reason = model.config.proxy_share > 0 and self.args.reassignment != "none", ""
        if checkpoint is not None:
            wanted = wanted and Path(checkpoint, OBJECTIVE_NAME).exists()
        elif wanted and not torch.equal(model.assignment.cpu(), draw_first_centers(model.config)[1]):
            reason = "the centers of the model have moved already"
        if not reason and not is_new and self.proxies is None:
            reason = "an optimizer of your own, or of an earlier training, does not train them"
        if wanted and reason:
            say(f"Training begins without proxies (`proxy_share`), since {reason}.")
        if not wanted or reason:
            self._end_proxies(optimizer)
        elif is_new:
            self.proxies = Proxies(model.config, self.args.seed).to(self.args.device)

    def observe(self, hash_logits: Tensor, labels: Tensor, loader: Any = None) -> None:
        """Add a training batch; samples that accelerate's `loader` repeats to fill its last batch do not count."""
        is_alone = loader is None or self.args.world_size == 1
        own = len(labels) if is_alone else own_samples(len(labels), loader, self.batches, self.args)
        self.statistics.update(hash_logits[:own], labels[:own])
        self.batches += 1

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start with empty statistics, or carry out the reassignment that was due when the checkpoint was saved."""
        if state.global_step == 0:
            self._shape = tuple(kwargs["model"].centers.shape)  # `model_init` may have made another model
            self.moved_share, self.passes = None, 0
            self._reset()
        elif has_length(kwargs["train_dataloader"]):
            self._end_epoch(state, kwargs)
        elif self.passes > 0:
            raise ValueError(
                "A run on data without a length can be resumed only during its first pass, since the start of later "
                f"passes is not known, but this checkpoint is of pass {self.passes + 1}."
            )
        if state.global_step >= self._proxy_steps(state, kwargs["train_dataloader"]):
            self._end_proxies(kwargs["optimizer"])

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Clip the gradient of the proxies apart from the model's, since it is large while they are short."""
        if self.proxies is not None and args.max_grad_norm:
            nn.utils.clip_grad_norm_(self.proxies.parameters(), args.max_grad_norm)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Reassign the centers after the last step of the proxies, if it does not end an epoch."""
        loader = kwargs["train_dataloader"]
        if state.global_step == self._proxy_steps(state, loader):
            if not has_length(loader) or self.batches < len(loader):
                self._reassign(int(state.epoch or 0), kwargs["model"])
                self._end_proxies(kwargs["optimizer"], state)

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Reassign the centers if the arguments ask for it after this epoch, and reset the statistics."""
        if has_length(kwargs["train_dataloader"]) or not control.should_training_stop:  # or the pass may not be over
            self._end_epoch(state, kwargs)

    def save(self, folder: str | Path) -> None:
        """Write the statistics of all processes into a checkpoint; every process must call this."""
        sums, weights = self._total()
        if PartialState().is_main_process:
            moved = torch.tensor(-1.0 if self.moved_share is None else self.moved_share, dtype=torch.float64)
            counts = {"batches": torch.tensor(self.batches), "passes": torch.tensor(self.passes)}
            tensors = {"sums": sums, "weights": weights, "moved_share": moved, **counts}
            save_file(tensors, Path(folder, STATISTICS_NAME))

    def load(self, folder: str | Path) -> None:
        """Read the statistics of a checkpoint, if any; the first process takes them all, so that they count once."""
        if not Path(folder, STATISTICS_NAME).exists():
            return
        saved = load_file(Path(folder, STATISTICS_NAME))
        self._reset()
        self.batches, self.passes = int(saved["batches"]), int(saved.get("passes", torch.tensor(0)))
        moved = saved["moved_share"].item()
        self.moved_share = None if moved < 0 else moved
        if PartialState().is_main_process:
            self.statistics.sums += saved["sums"]
            self.statistics.weights += saved["weights"]

    def _reset(self) -> None:
        self.statistics = ClassStatistics.zeros(*self._shape, soft=self.args.soft_statistics)
        self.batches = 0

    def _end_epoch(self, state: TrainerState, kwargs: dict[str, Any]) -> None:
        epoch, loader = round(state.epoch or 0), kwargs["train_dataloader"]
        if not has_length(loader):
            if self.batches == 0:
                return  # no new batch
            self.passes += 1
            epoch = self.passes
        elif self.batches < len(loader):
            return  # training stopped within an epoch, and its checkpoint keeps the statistics
        are_last = state.global_step == self._proxy_steps(state, loader)  # steps of the proxies
        if self.args.reassigns_after(epoch) or are_last:
            self._reassign(epoch, kwargs["model"])
        if are_last:
            self._end_proxies(kwargs["optimizer"], state)
        self._reset()

    def _end_proxies(self, optimizer: Any, state: TrainerState | None = None) -> None:
        if self.proxies is not None:
            if state is not None:
                steps = f"{state.global_step:,} of {state.max_steps:,} steps"
                say(f"After {steps}, codes follow hash centers, not proxies.")
            vectors, self.proxies = self.proxies.vectors, None
            for group in optimizer.param_groups:
                group["params"] = [weight for weight in group["params"] if weight is not vectors]
            optimizer.state.pop(vectors, None)

    def _reassign(self, epoch: int, model: CRHModel) -> None:
        totals = ClassStatistics(*self._total())
        method, capacity = cast(AssignmentMethod, self.args.reassignment), model.config.word_capacity
        generator = np.random.default_rng([self.args.seed, epoch])
        new = reassign(model.codebook, model.assignment, totals, method, generator, capacity=capacity)
        new = broadcast(new)  # equal costs might be resolved in another way on another machine
        self.moved_share = (new != model.assignment).any(0).double().mean().item()
        model.assignment.copy_(new)

    def _proxy_steps(self, state: TrainerState, train_dataloader: Any) -> int:
        """Number of steps from the start that the proxies train; 0 without proxies."""
        if self.proxies is None:
            return 0
        steps = min(round(self.proxies.config.proxy_share * state.max_steps), state.max_steps - 1)
        if not has_length(train_dataloader):
            return steps
        epoch = math.ceil(len(train_dataloader) / self.args.gradient_accumulation_steps)
        whole = math.ceil(steps / epoch) * epoch
        return whole if whole < state.max_steps else steps

    def _total(self) -> tuple[Tensor, Tensor]:
        """Return sums and weights over all processes."""
        state = PartialState()
        sums, weights = self.statistics.sums, self.statistics.weights
        if state.num_processes > 1:
            sums, weights = (reduce(part.to(state.device), reduction="sum").cpu() for part in (sums, weights))
        return sums, weights


class TrainingProgress(TrainerCallback):
    """Show a progress bar of the steps, and a line for each evaluation, only in the main process."""

    _bar: Any = None
    _loss: float | None = None
    _speed: str | None = None  # empty once it is printed

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start the progress bar."""
        if state.is_local_process_zero:
            self._bar = progress_bar(desc="Training", total=state.max_steps, initial=state.global_step, unit="step")
            self._started, self._first_step, self._speed = time.monotonic(), state.global_step, None

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Advance the progress bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Measure the speed of the first epoch, without evaluation and saving."""
        if self._bar is not None and self._speed is None:
            items = (state.global_step - self._first_step) * args.gradient_accumulation_steps * args.train_batch_size
            items *= args.world_size
            if has_length(kwargs["train_dataloader"].dataset):
                items = min(items, len(kwargs["train_dataloader"].dataset))
            self._speed = f"{items / max(time.monotonic() - self._started, 1e-9):,.0f} items a second"

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Remember the loss, and print a line after each evaluation."""
        logs = kwargs["logs"]
        self._loss = logs.get("loss", self._loss)
        if self._bar is None or "eval_map" not in logs:
            return
        parts = [
            f"epoch {logs['epoch']:g}/{args.num_train_epochs:g}",
            None if self._loss is None else f"loss {self._loss:.3f}",
            f"validation mAP {logs['eval_map']:.4f}",
            f"{logs['eval_centers_moved']:.0%} of the centers moved" if "eval_centers_moved" in logs else None,
            f"{time.monotonic() - self._started:.0f} s",
            self._speed,
        ]
        self._speed = self._speed and ""
        self._bar.clear()
        say(", ".join(filter(None, parts)))

    def stop(self) -> None:
        """Close the progress bar; call it when training ends, also by an error."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
