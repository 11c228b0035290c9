"""Callbacks of the trainer: reassignment of centers, epochs of datasets, progress of objectives and on the terminal."""

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modeling_crh.encoding import LabelledDataset
from modeling_crh.encoding.loading import STATISTICS_NAME
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.assignment import AssignmentMethod, ClassStatistics, reassign
from modeling_crh.training.objectives import Objective


class SetEpochCallback(TrainerCallback):
    """Tells a `LabelledDataset` its epoch; accelerate's loader does not when it is resumed or sharded."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass on the number of the epoch, counted from 0."""
        dataset = kwargs["train_dataloader"].dataset
        if isinstance(dataset, LabelledDataset):
            dataset.set_epoch(int(state.epoch or 0))


class ObjectiveCallback(TrainerCallback):
    """Tells an objective how much of the training is over, and clears its gradients as Trainer does the model's."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass on the share of the steps that are done."""
        self.objective.set_progress(state.global_step / state.max_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clear the gradients that the step has used."""
        self.objective.zero_grad()


class ReassignCentersCallback(TrainerCallback):
    """Moves every class to codewords near its samples, at the cadence of the training arguments (Eqs. 5 to 7).

    Statistics come from the codes that training emits anyway, so there is no second pass. They are part of every
    checkpoint: a run resumed in the middle of an epoch, or between an epoch's last step and its reassignment, goes on
    as if it had never stopped.

    Args:
        args: Cadence, way of assignment and seed.
        num_labels: C.
        num_bits: K.

    Attributes:
        statistics: Of this process, since the last end of an epoch.
        batches: How many batches this process has added to them.
        moved_share: Share of the C classes whose center the last reassignment changed; None before the first.
    """

    def __init__(self, args: CRHTrainingArguments, num_labels: int, num_bits: int) -> None:
        self.args = args
        self._shape = (num_labels, num_bits)
        self.moved_share: float | None = None
        self._reset()

    def observe(self, hash_logits: Tensor, labels: Tensor) -> None:
        """Add a training batch: `(N, K)` hash logits and their labels, `(N,)` or `(N, C)`."""
        self.statistics.update(hash_logits, labels)
        self.batches += 1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start from nothing, or make up for a reassignment that a checkpoint was saved just before."""
        if state.global_step == 0:
            self.moved_share = None
            self._reset()
        else:
            self._end_epoch(state, kwargs["model"], kwargs["train_dataloader"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reassign the centers if this epoch is one of those, and start anew."""
        self._end_epoch(state, kwargs["model"], kwargs["train_dataloader"])

    def save(self, folder: str | Path) -> None:
        """Write the statistics of all processes into a checkpoint; every process must call this."""
        sums, weights, batches = self._total()
        if PartialState().is_main_process:
            moved = torch.tensor(-1.0 if self.moved_share is None else self.moved_share, dtype=torch.float64)
            tensors = {"sums": sums, "weights": weights, "batches": batches, "moved_share": moved}
            save_file(tensors, Path(folder, STATISTICS_NAME))

    def load(self, folder: str | Path) -> None:
        """Read them back: the first process takes all of the sums, so that they count once."""
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

    def _end_epoch(self, state: TrainerState, model: CRHModel, train_dataloader: Any) -> None:
        if self.batches < len(train_dataloader):
            return  # training stopped half-way, and a checkpoint of it keeps the statistics so far
        epoch = round(state.epoch or 0)
        if self.args.reassigns_after(epoch):
            sums, weights, _ = self._total()
            totals = ClassStatistics(sums, weights)
            method = cast(AssignmentMethod, self.args.reassignment)
            generator = np.random.default_rng([self.args.seed, epoch])
            new = reassign(model.codebook, model.assignment, totals, method, generator)
            self.moved_share = (new != model.assignment).any(0).double().mean().item()
            model.assignment.copy_(new)
        self._reset()

    def _total(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums and weights over all processes, and the batches of one."""
        state = PartialState()
        sums, weights = self.statistics.sums, self.statistics.weights
        if state.num_processes > 1:
            sums, weights = (reduce(part.to(state.device), reduction="sum").cpu() for part in (sums, weights))
        return sums, weights, torch.tensor(self.batches)


class TrainingProgress(TrainerCallback):
    """Shows what a person wants to see of a training run; the main process alone shows it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._loss: float | None = None
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the bar."""
        if not state.is_local_process_zero:
            return
        columns = (
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps,"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task("", total=state.max_steps, completed=state.global_step)
        self._progress.start()
        self._started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remember the loss, and write a line when an evaluation is in."""
        logs = kwargs["logs"]
        self._loss = logs.get("loss", self._loss)
        if self._progress is None or "eval_map" not in logs:
            return
        parts = [f"epoch {logs['epoch']:g}/{args.num_train_epochs:g}"]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3f}")
        parts.append(f"validation mAP {logs['eval_map']:.4f}")
        if "eval_centers_moved" in logs:
            parts.append(f"{logs['eval_centers_moved']:.0%} of the centers moved")
        parts.append(f"{time.monotonic() - self._started:.0f} s")
        self._progress.console.print(", ".join(parts), highlight=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the bar away."""
        self.stop()

    def stop(self) -> None:
        """Take the bar away, also when training ends by an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
