"""CheckpointTrainer: checkpoints that are there whole or not at all, whenever the training is killed."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import sort_checkpoints

from modeling_crh.hub_trainer import HubTrainer

LOSS_NAME = "training_loss.safetensors"

_PARTIAL_NAME = ".partial"


class CheckpointTrainer(HubTrainer):
    """A `HubTrainer` that writes checkpoints beside their place, and moves them away from it before it deletes them.

    transformers' own writes and deletes them in place: killed meanwhile, it leaves a part of one. Here every
    `checkpoint-N` in the run's folder is whole; `.partial` beside them is what a killed process was at, and the next
    checkpoint clears it. A checkpoint also keeps the sum of the losses since the last log, so that a resumed run logs
    what it would have logged.

    Raises:
        OSError: If a checkpoint cannot be saved; what was half-written is removed.
    """

    _partial: Path | None = None
    _resumed_from: Path | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_callback(_GoOnCallback(self))

    def go_on(self) -> None:
        """Take up where the checkpoint left off that training resumes from, if it does."""
        best = Path(super()._get_output_dir(None), f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():  # also where the run's folder was moved, or is named by another path
            self.state.best_model_checkpoint = str(best)
        if self._resumed_from is not None and (self._resumed_from / LOSS_NAME).exists():
            saved = load_file(self._resumed_from / LOSS_NAME)
            self._tr_loss += saved["loss"].to(self._tr_loss.device)
            self._globalstep_last_logged = int(saved["last_logged_step"])

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._partial is None else str(self._partial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        partial = folder.with_name(_PARTIAL_NAME)
        self._clear(partial)
        self.accelerator.wait_for_everyone()
        self._partial = partial
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # every process has written its part
            self._put_in_place(partial / folder.name, folder)
        except Exception as error:
            raise OSError(f"The checkpoint {folder} could not be saved and was removed: {error}") from error
        finally:
            self._partial = None
            self._clear(partial)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(folder))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing yet: a checkpoint is pushed when it is in its place, and stays there if that fails."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        loss = self.accelerator.reduce(self._tr_loss.clone(), "mean")
        if self.args.should_save:
            tensors = {"loss": loss, "last_logged_step": torch.tensor(self._globalstep_last_logged)}
            save_file(tensors, Path(output_dir, LOSS_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        self._resumed_from = None if checkpoint is None else Path(checkpoint)

    def _delete_all_but_the_best(self) -> None:
        """What Trainer does in place at the end of training where one checkpoint may stay, for the best to be it."""
        if self.args.save_total_limit == 1 and self.args.should_save:
            best = Path(str(self.state.best_model_checkpoint))
            others = [path for path in sort_checkpoints(str(best.parent)) if Path(path) != best]
            self._delete(others, best.with_name(_PARTIAL_NAME))

    def _put_in_place(self, written: Path, folder: Path) -> None:
        """Move a checkpoint to where it belongs, and delete those that are too many then."""
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder)  # and not where it was written
        if not self.args.should_save:
            return
        self.state.save_to_json(str(written / TRAINER_STATE_NAME))
        if folder.exists():
            os.replace(folder, written.with_name("replaced"))
        os.replace(written, folder)
        if self.args.save_total_limit is not None and self.args.save_total_limit > 0:
            kept = {str(folder), str(self.state.best_model_checkpoint)}
            found = sort_checkpoints(str(folder.parent), use_mtime=True)
            others = [path for path in found if path not in kept]
            most = max(self.args.save_total_limit - (len(found) - len(others)), 0)
            self._delete(others[: len(others) - most], written.parent)

    def _delete(self, checkpoints: list[str], partial: Path) -> None:
        partial.mkdir(exist_ok=True)
        for path in checkpoints:
            os.replace(path, partial / Path(path).name)
        self._clear(partial)

    def _clear(self, partial: Path) -> None:
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)


class _GoOnCallback(TrainerCallback):
    """Tells the trainer when transformers has set its state."""

    def __init__(self, trainer: CheckpointTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on from the checkpoint."""
        self.trainer.go_on()
