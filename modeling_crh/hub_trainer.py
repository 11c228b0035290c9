"""HubTrainer: the trainer's way to the Hub, which is the model's own."""

import dataclasses
import json
from typing import Any, cast

from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from modeling_crh.hub import push_model
from modeling_crh.run_record import RunRecord, public_recipe

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
