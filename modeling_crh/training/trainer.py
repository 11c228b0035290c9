"""CRHTrainer: transformers' `Trainer` with center reassignment and retrieval figures at every evaluation."""

import inspect
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, HubStrategy, TrainOutput

from modeling_crh.codes import binarize, by_mask, mean_over_masks
from modeling_crh.encoding.adapters import adapters_of, merged_copy
from modeling_crh.encoding.inputs import select_after_transform
from modeling_crh.hub.push import push_model
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.processors import fit_processor
from modeling_crh.training import arguments, checkpointing
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.callbacks import FollowTrainingCallback, ReassignCentersCallback
from modeling_crh.training.evaluation import describe_run, validation_figures
from modeling_crh.training.fine_tuning import unwrap_adapted
from modeling_crh.training.objectives import Objective


class CRHTrainer(Trainer):
    """Train a `CRHModel`, reassign its centers, and evaluate by retrieval.

    Every evaluation ranks `eval_database` for each query of `eval_dataset`; without a database it ranks `eval_dataset`
    itself and leaves each query out of its own ranking. It logs the figures of `validation_figures`, the share of
    classes that the last reassignment moved, and the figures of `compute_metrics`.

    An `objective` trains a rival method: its loss and centers (if any) replace those of CRH, and no center moves.
    Checkpoints are whole or absent. Training that was killed and resumed ends with the same weights, centers and log.

    Args:
        model: Model to train; None with `model_init`. An objective with centers needs one head of C words.
        args: Training settings.
        *more: Data collator, training and evaluation data, in the order of `transformers.Trainer`, if not by name.
            Training data without a length need `max_steps`; class statistics are then collected over each pass. A dict
            of evaluation data is evaluated one by one, as `eval_NAME_map` and so on.
        objective: Rival method to train instead of CRH.
        eval_database: Items that evaluations search. Needed if a class has fewer than two evaluation items.
        compute_metrics: Function that computes more figures from hash logits and labels.
        **kwargs: Other arguments of `transformers.Trainer`.

    Raises:
        ValueError: If `args` are not `CRHTrainingArguments`; if `objective` does not fit model or processes; if the
            head's batch norm would get one sample; if a run is resumed with other batches; if there is a
            `compute_loss_func`; or if a loss is not finite, which leaves the last checkpoint in place.
        OSError: If a checkpoint cannot be saved; the partial checkpoint is removed.
    """

    model: CRHModel
    args: CRHTrainingArguments
    rival: Objective | None  # `objective` is the name that a hyperparameter search stores its figure under
    _partial: Path | None = None
    _resumed_from: str | None = None
    _database: tuple[Tensor, Tensor] | None = None

    def __init__(
        self,
        model: CRHModel | None = None,
        args: CRHTrainingArguments | None = None,
        *more: Any,
        objective: Objective | None = None,
        eval_database: Any = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["compute_metrics"] = self.figures
        super().__init__(unwrap_adapted(model), arguments.check_arguments(args), *more, **kwargs)
        if self.processing_class is not None:
            self.processing_class = fit_processor(self.processing_class, self.model)  # or timm's would not be saved
        arguments.check_fits(self, is_crh=objective is None)
        self.rival, self.eval_database, self.own_metrics = objective, eval_database, compute_metrics
        self.reassignment = ReassignCentersCallback(self.args, *self.model.centers.shape)
        self.add_callback(FollowTrainingCallback(self.go_on, lambda: self._objective))
        if objective is None:
            self.add_callback(self.reassignment)
        else:
            objective.check_fits(self.model.config, self.args.world_size, self.model_init is not None)
            objective.place_in(self.model)
            objective.to(self.args.device)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; `resume_from_checkpoint=True` continues from the newest complete checkpoint.

        Raises:
            ValueError: If there is no such checkpoint, it was written with other batches, or for a reason of the class.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = checkpointing.find_last_checkpoint(folder := str(self.args.output_dir))
            if resume_from_checkpoint is None:
                raise ValueError(f"`resume_from_checkpoint` needs a whole checkpoint, but {folder!r} holds none.")
        self._resumed_from = resume_from_checkpoint or None
        if self._resumed_from is not None:
            checkpointing.check_batches(self._resumed_from, self.args)
        elif self.rival is not None:
            self.rival.check_ready()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def go_on(self) -> None:
        """Restore the state of the checkpoint to resume from; without one, place the objective's centers."""
        if self._resumed_from is None:
            if self.rival is not None:
                self.rival.place_in(self.model)  # `model_init` may have made another model
            return
        best = Path(self._resumed_from).with_name(f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():  # the run's folder may have moved, or have another path
            self.state.best_model_checkpoint = str(best)
        self.reassignment.load(self._resumed_from)
        checkpointing.load_objective(self._resumed_from, self._objective)
        if saved := checkpointing.load_progress(self._resumed_from):
            self._tr_loss += saved["loss"].to(self._tr_loss.device)
            self._globalstep_last_logged = int(saved["last_logged_step"])

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate or predict by retrieval, see the class; every process has the batch norm of the first."""
        if self.compute_metrics is not None:  # or it is `_encode`
            if self.args.world_size > 1:
                for buffer in filter(torch.is_floating_point, self.model.buffers()):
                    buffer.copy_(broadcast(buffer))
            self._database = None if self.eval_database is None else self._encode(self.eval_database)
        return super().evaluation_loop(*args, **kwargs)

    def figures(self, prediction: EvalPrediction) -> dict[str, Any]:
        """Compute the figures of an evaluation from its hash logits and labels, with those of `compute_metrics`."""
        if not torch.as_tensor(prediction.predictions).isfinite().all():
            checkpointing.stop_as_not_finite("hash logits of the evaluation are not", self.state)
        has_centers = self.rival is None or self.rival.centers is not None
        found = validation_figures(prediction, self._database, self.model.centers if has_centers else None)
        if self.reassignment.moved_share is not None:
            found["centers_moved"] = self.reassignment.moved_share
        return found if self.own_metrics is None else found | self.own_metrics(prediction)

    def call_model_init(self, trial: Any = None) -> CRHModel:
        """Make a new model by `model_init`."""
        return unwrap_adapted(super().call_model_init(trial))

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> Any:
        """Search settings like `transformers.Trainer`, by default for the best `metric_for_best_model`."""
        if len(args) < 2 and kwargs.get("compute_objective") is None:
            name = str(self.args.metric_for_best_model).removeprefix("eval_")
            kwargs["compute_objective"] = itemgetter(f"eval_{name}")
            kwargs.setdefault("direction", "maximize" if self.args.greater_is_better else "minimize")
        return super().hyperparameter_search(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Make the loader of training batches, and check it with `check_loader`."""
        arguments.check_loader(loader := super().get_train_dataloader(), self.model.hash_head, self.args)
        return loader

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute Eq. 4 or the objective's loss; in training by CRH, the codes are added to the class statistics."""
        objective, head = self._objective if model.training else self.rival, self.model.hash_head
        if objective is None:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        else:
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            loss = mean_over_masks(objective.train(model.training), outputs.hash_logits, inputs["labels"], head)
        if model.training and not torch.isfinite(loss).all():
            checkpointing.stop_as_not_finite(f"loss is {loss.detach().mean().item()}", self.state)
        if model.training and self.rival is None:
            codes_of = by_mask(outputs.hash_logits, head)[0], inputs["labels"]
            self.reassignment.observe(*codes_of, self.callback_handler.train_dataloader)
        return (loss, outputs) if return_outputs else loss

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> tuple[Any, dict[str, Any]]:
        """Choose the optimizer like `transformers.Trainer`, but Adam for AdamW unless `decoupled_weight_decay`."""
        optimizer, settings = Trainer.get_optimizer_cls_and_kwargs(args, model)
        if optimizer is not torch.optim.AdamW:
            return optimizer, settings
        is_decoupled = cast(CRHTrainingArguments, args).decoupled_weight_decay
        return torch.optim.Adam, {"fused": False} | settings | {"decoupled_weight_decay": is_decoupled}

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make an optimizer of transformers with groups of backbone and hash head; an objective belongs to the head."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if self.rival is None:
            self.reassignment.make_proxies(self.model, self._resumed_from, optimizer, is_new=is_new)
        if is_new:
            arguments.split_groups(optimizer, model or self.model, self._objective, self.args)
        return optimizer

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """Make the learning rate schedule, with the default settings of `whole_schedule`."""
        with arguments.whole_schedule(self.args):
            return super().create_scheduler(*args, **kwargs)

    def push_to_hub(  # type: ignore[override]
        self, commit_message: str | None = "End of training", blocking: bool = True, **settings: Any
    ) -> Any:
        """Push the model with its processor, code and card, but no pickle and no path; see `push_model`.

        `token`, `revision` and `private` are by default `args.hub_token`, `args.hub_revision` and
        `args.hub_private_repo`. The upload is complete on return, regardless of `blocking`. All processes but the first
        return None.
        """
        args = self.args
        given = {name: value for name, value in settings.items() if value is not None}
        settings = {"token": args.hub_token, "revision": args.hub_revision, "private": args.hub_private_repo} | given
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            args.hub_private_repo = settings["private"]  # `init_hf_repo` takes `private` from transformers 5.23 on
            self.init_hf_repo(token=settings["token"])
        if not self.is_world_process_zero():
            return None
        settings |= {"processor": self.processing_class, "run": describe_run(args, self.state, self.is_in_train)}
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return push_model(model, str(self.hub_model_id), commit_message=commit_message or "End of training", **settings)

    @property
    def _objective(self) -> Objective | None:
        """What is trained beside the model, if anything: the rival, or proxies."""
        return self.reassignment.proxies if self.rival is None else self.rival

    def _encode(self, dataset: Any) -> tuple[Tensor, Tensor]:
        """Encode a dataset; return codes and labels, gathered from all processes."""
        compute_metrics, self.compute_metrics = self.compute_metrics, None
        try:
            output = self.evaluation_loop(self.get_test_dataloader(dataset), "Encoding", prediction_loss_only=False)
        finally:
            self.compute_metrics = compute_metrics
        return binarize(torch.as_tensor(output.predictions)), torch.as_tensor(output.label_ids)

    # From here on, the private hooks of transformers, see `checkpointing.PRIVATE_HOOKS`.

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return self.reassignment.proxies is None and super()._determine_best_metric(metrics, trial)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if self.rival is None or not (own := list(self.rival.parameters())):
            return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        return self.accelerator.clip_grad_norm_([*model.parameters(), *own], self.args.max_grad_norm)

    def _remove_unused_columns(self, dataset: Dataset, description: str | None = None) -> Dataset:
        if dataset.format["type"] != "custom" or not self.args.remove_unused_columns:
            return super()._remove_unused_columns(dataset, description)
        names = {*inspect.signature(self.model.forward).parameters, *self.label_names, "label", "label_ids"}
        return select_after_transform(dataset, names)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._partial is None else str(self._partial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        adapted = self.model
        if adapters_of(adapted) and self._partial is not None:
            return checkpointing.save_with_processor(adapted, cast(Any, self.processing_class), str(output_dir))
        self.model = merged_copy(adapted)
        try:
            super()._save(output_dir, state_dict)
        finally:
            self.model = adapted

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            checkpointing.stop_as_not_finite("weights are not", self.state)
        folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        writes = self.args.should_save
        try:
            with checkpointing.whole_checkpoint(folder, writes, self.accelerator.wait_for_everyone) as self._partial:
                super()._save_checkpoint(model, trial)
                self.reassignment.save(self._partial / folder.name)
                loss = self.accelerator.reduce(self._tr_loss.clone(), "mean")
                if self.state.best_global_step == self.state.global_step:
                    self.state.best_model_checkpoint = str(folder)  # its final path
                if writes:
                    progress = {"loss": loss, "last_logged_step": self._globalstep_last_logged}
                    progress |= checkpointing.batches_of(self.args, self._train_batch_size)
                    checkpointing.save_progress(self._partial / folder.name, progress, self.state, self._objective)
        finally:
            self._partial = None
        if writes:
            checkpointing.keep_newest(folder, self.args.save_total_limit, self.state.best_model_checkpoint)
        if self.args.push_to_hub and self.args.hub_strategy != HubStrategy.END:
            self.push_to_hub(commit_message=f"Training in progress, step {self.state.global_step}")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        pass  # `_save_checkpoint` pushes once the checkpoint has its final path, where it stays if pushing fails

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpointing.load_exactly(resume_from_checkpoint, self.model)

    def _load_best_model(self) -> None:
        best = str(self.state.best_model_checkpoint)
        checkpointing.load_exactly(best, self.model)
        checkpointing.load_objective(best, self._objective)
        is_own = Path(best).resolve().is_relative_to(Path(str(self.args.output_dir)).resolve())
        if self.args.save_total_limit == 1 and self.args.should_save and is_own:  # or Trainer deletes file by file
            checkpointing.keep_newest(Path(best), 1, best)
