"""Checkpoints that are complete whenever a training is killed, and their way to the Hub."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import HubStrategy, sort_checkpoints

from modeling_crh.hub.push import push_model
from modeling_crh.hub.run_record import RunRecord, public_recipe

_EVALUATION = "eval_"
_NOT_FIGURES = {"loss", "runtime", "samples_per_second", "steps_per_second"}


class HubTrainer(Trainer):
    """A `Trainer` that pushes a model with its processor, code and card; never a pickle, nor a path of this machine."""

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **settings: Any,
    ) -> Any:
        """Put the model on the Hub as `args.hub_model_id`, see `CRHModel.push_to_hub`.

        The card tells the figures of the best evaluation, or else of the last, and the settings that differ from their
        defaults.

        Args:
            commit_message: First line of the commit.
            blocking: The upload is over when this returns, also with False.
            token: None takes `args.hub_token`.
            revision: None takes `args.hub_revision`.
            private: None takes `args.hub_private_repo`.
            **settings: What `push_model` takes beside these.

        Returns:
            The commit; None in all processes but the first.

        Raises:
            ValueError: If an argument breaks its rule.
            OSError: If it was not uploaded.
        """
        args = self.args
        self.callback_handler.on_push_begin(args, self.state, self.control)
        token = args.hub_token if token is None else token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        if not self.is_world_process_zero():
            return None
        return push_model(
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False),
            cast(str, self.hub_model_id),
            processor=self.processing_class,
            run=self._record(),
            private=args.hub_private_repo if private is None else private,
            revision=args.hub_revision if revision is None else revision,
            token=token,
            commit_message=commit_message or "End of training",
            **settings,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the model alone after a checkpoint was saved; Trainer's own would push pickles beside it."""
        if self.args.hub_strategy != HubStrategy.END:
            self.push_to_hub(commit_message=f"Training in progress, step {self.state.global_step}")

    def _record(self) -> RunRecord:
        settings = {
            entry.name: value
            for entry in dataclasses.fields(self.args)
            if (value := getattr(self.args, entry.name)) != _default(entry)
            and isinstance(value, int | float | str | list | dict | None)
        }
        evaluations = [row for row in self.state.log_history if f"{_EVALUATION}map" in row]
        best = [row for row in evaluations if row[f"{_EVALUATION}map"] == self.state.best_metric]
        chosen = (best or evaluations[-1:] or [{}])[0]
        figures = {name.partition(_EVALUATION)[2]: value for name, value in chosen.items()}
        return RunRecord(
            figures={name: value for name, value in figures.items() if name and name not in _NOT_FIGURES},
            split="validation",
            recipe=public_recipe(json.loads(json.dumps({"training": settings, "seed": self.args.seed}))),  # of no enums
            history=self.state.log_history,
        )


def _default(entry: "dataclasses.Field[Any]") -> Any:
    return entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()


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
