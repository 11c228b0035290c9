"""TrainingProgress: one line an epoch and a bar of the steps, on standard error."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
