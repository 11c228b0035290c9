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
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import has_length

from modeling_crh.encoding import LabelledDataset
from modeling_crh.modeling_crh import CRHModel, draw_first_centers
from modeling_crh.runtime.terminal import progress_bar, say
from modeling_crh.training.arguments import CRHTrainingArguments
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
    up to whole epochs where the training is longer than these; the centers are reassigned after the last of the steps.

    Args:
        args: Training arguments with epochs, method and seed of the reassignment.
        num_labels: Number of classes C.
        num_bits: Length K of a code.

    Attributes:
        statistics: Class statistics of this process in the current epoch.
        batches: Number of batches in `statistics`.
        moved_share: Share of the C classes whose center the last reassignment changed; None before the first.
        proxies: Proxies that the first steps are trained by; None without.
    """

    proxies: Proxies | None = None

    def __init__(self, args: CRHTrainingArguments, num_labels: int, num_bits: int) -> None:
        self.args = args
        self._shape = (num_labels, num_bits)
        self.moved_share: float | None = None
        self._reset()

    def make_proxies(self, model: CRHModel, checkpoint: str | None, *, is_trained: bool) -> Proxies | None:
        """Make the proxies that the config of a new model asks for, unless no center moves, and return them.

        Args:
            model: Model to train. One whose centers have moved before keeps them, and gets no proxies.
            checkpoint: Checkpoint that training is resumed from, if any; it tells whether there are proxies.
            is_trained: Whether the optimizer takes their weights; one of the user's own does not.
        """
        wanted, reason = model.config.proxy_share > 0 and self.args.reassignment != "none", ""
        if checkpoint is not None:
            wanted = wanted and Path(checkpoint, OBJECTIVE_NAME).exists()
        elif wanted and not torch.equal(model.assignment.cpu(), draw_first_centers(model.config)[1]):
            reason = "the centers of the model have moved already"
        if not is_trained and self.proxies is None:
            reason = "an optimizer of your own does not train them"
        if wanted and reason:
            say(f"Training begins without proxies (`proxy_share`), since {reason}.")
        if not wanted or reason:
            self.proxies = None
        elif is_trained:
            self.proxies = Proxies(model.config, self.args.seed).to(self.args.device)
        return self.proxies

    @property
    def leading_proxies(self) -> Proxies | None:
        """The proxies, if the current step is trained by them."""
        return self.proxies if self.proxies is not None and self.proxies.lead else None

    def observe(self, hash_logits: Tensor, labels: Tensor, loader: Any = None) -> None:
        """Add a training batch.

        Args:
            hash_logits: Hash logits, `(N, K)`.
            labels: Labels, `(N,)` or `(N, C)`.
            loader: Loader of the batch, prepared by accelerate; repeated samples that fill its last batch do not count.
        """
        own = len(labels) if loader is None else self._own_samples(len(labels), loader)
        self.statistics.update(hash_logits[:own], labels[:own])
        self.batches += 1

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start with empty statistics, or carry out the reassignment that was due when the checkpoint was saved."""
        if state.global_step == 0:
            self._shape = tuple(kwargs["model"].centers.shape)  # `model_init` may have made another model
            self.moved_share = None
            self._reset()
        elif has_length(kwargs["train_dataloader"]):
            self._end_epoch(state, kwargs["model"], kwargs["train_dataloader"])
        elif int(state.epoch or 0) > 0:
            raise ValueError(
                "A run on data without a length can be resumed in its first pass alone, since nobody knows where the "
                f"others begin, but this checkpoint is of pass {int(state.epoch or 0) + 1}."
            )

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Choose whether the step is trained by the proxies."""
        if self.proxies is not None:
            self.proxies.lead = state.global_step < self._proxy_steps(state, kwargs["train_dataloader"])

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Clip the gradient of the proxies apart from the model's, since it is large while they are short."""
        if self.leading_proxies is not None and args.max_grad_norm:
            nn.utils.clip_grad_norm_(self.leading_proxies.parameters(), args.max_grad_norm)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Reassign the centers after the last step of the proxies, if it does not end an epoch."""
        loader = kwargs["train_dataloader"]
        if state.global_step == self._proxy_steps(state, loader):
            if not has_length(loader) or self.batches < len(loader):
                self._reassign(int(state.epoch or 0), kwargs["model"])

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Reassign the centers if the arguments ask for it after this epoch, and reset the statistics."""
        self._end_epoch(state, kwargs["model"], kwargs["train_dataloader"])

    def save(self, folder: str | Path) -> None:
        """Write the statistics of all processes into a checkpoint; every process must call this."""
        sums, weights = self._total()
        if PartialState().is_main_process:
            moved = torch.tensor(-1.0 if self.moved_share is None else self.moved_share, dtype=torch.float64)
            tensors = {"sums": sums, "weights": weights, "batches": torch.tensor(self.batches), "moved_share": moved}
            save_file(tensors, Path(folder, STATISTICS_NAME))

    def load(self, folder: str | Path) -> None:
        """Read the statistics of a checkpoint, if any; the first process takes them all, so that they count once."""
        if not Path(folder, STATISTICS_NAME).exists():
            return
        saved = load_file(Path(folder, STATISTICS_NAME))
        self._reset()
        self.batches = int(saved["batches"])
        moved = saved["moved_share"].item()
        self.moved_share = None if moved < 0 else moved
        if PartialState().is_main_process:
            self.statistics.sums += saved["sums"]
            self.statistics.weights += saved["weights"]

    def _reset(self) -> None:
        self.statistics = ClassStatistics.zeros(*self._shape, soft=self.args.soft_statistics)
        self.batches = 0

    def _own_samples(self, batch_size: int, loader: Any) -> int:
        """Count the samples in a batch of this process that are not repetitions."""
        args = self.args
        if args.world_size == 1 or args.dataloader_drop_last:
            return batch_size
        rest = loader.total_dataset_length % loader.total_batch_size
        if rest == 0 or self.batches < len(loader) - 1:
            return batch_size
        before = args.process_index * (loader.total_batch_size // args.world_size)
        return int(min(max(rest - before, 0), batch_size))

    def _end_epoch(self, state: TrainerState, model: CRHModel, train_dataloader: Any) -> None:
        epoch = round(state.epoch or 0)
        if not has_length(train_dataloader):
            if self.batches == 0 or state.global_step >= state.max_steps:
                return  # no new batch, or training stopped within a pass
            epoch = int(state.epoch or 0) + 1
        elif self.batches < len(train_dataloader):
            return  # training stopped within an epoch, and its checkpoint keeps the statistics
        if self.args.reassigns_after(epoch) or state.global_step == self._proxy_steps(state, train_dataloader):
            self._reassign(epoch, model)
        self._reset()

    def _reassign(self, epoch: int, model: CRHModel) -> None:
        totals = ClassStatistics(*self._total())
        method = cast(AssignmentMethod, self.args.reassignment)
        generator = np.random.default_rng([self.args.seed, epoch])
        capacity = model.config.word_capacity
        new = reassign(model.codebook, model.assignment, totals, method, generator, capacity=capacity)
        new = broadcast(new)  # equal costs might be resolved in another way on another machine
        self.moved_share = (new != model.assignment).any(0).double().mean().item()
        model.assignment.copy_(new)

    def _proxy_steps(self, state: TrainerState, train_dataloader: Any) -> int:
        """Number of steps from the start that the proxies train; 0 without proxies."""
        if self.proxies is None:
            return 0
        steps = round(self.proxies.config.proxy_share * state.max_steps)
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

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start the progress bar."""
        if state.is_local_process_zero:
            self._bar = progress_bar(desc="Training", total=state.max_steps, initial=state.global_step, unit="step")
            self._started, self._first_step = time.monotonic(), state.global_step
            self._speed = ""

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Advance the progress bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Measure the speed of the first epoch, without evaluation and saving."""
        if self._bar is not None and not self._speed:
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
        parts = [f"epoch {logs['epoch']:g}/{args.num_train_epochs:g}"]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3f}")
        parts.append(f"validation mAP {logs['eval_map']:.4f}")
        if "eval_centers_moved" in logs:
            parts.append(f"{logs['eval_centers_moved']:.0%} of the centers moved")
        parts.append(f"{time.monotonic() - self._started:.0f} s")
        if self._speed:
            parts.append(self._speed)
            self._speed = " "  # only in the first line
        self._bar.clear()
        say(", ".join(part for part in parts if part.strip()))

    def stop(self) -> None:
        """Close the progress bar; call it when training ends, also by an error."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
