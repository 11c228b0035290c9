"""CRHTrainer: transformers' own, with centers that move, and with retrieval figures at every evaluation."""

from collections.abc import Sized
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction
from transformers.trainer_utils import TrainOutput

from modeling_crh.codebook import center_distances
from modeling_crh.codes import binarize
from modeling_crh.encoding.loading import OBJECTIVE_NAME, STATISTICS_NAME, find_last_checkpoint, load_model
from modeling_crh.metrics import bit_balance, bit_correlation, retrieval_figures
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.assignment import check_method
from modeling_crh.training.callbacks import ObjectiveCallback, ReassignCentersCallback, SetEpochCallback
from modeling_crh.training.checkpointing import CheckpointTrainer
from modeling_crh.training.objectives import Objective


class CRHTrainer(CheckpointTrainer):
    """Trains a `CRHModel`, moves its centers, and evaluates by retrieval.

    Every evaluation ranks `eval_database` for each query of `eval_dataset`, or without one `eval_dataset` itself, each
    query left out of its own ranking. It logs all figures of `retrieval_figures`, with precision and recall at 10 (or
    at the size of a smaller database), the balance and correlation of the bits, the least and mean distance between
    centers, and the share of classes that the last reassignment moved.

    With an `objective` a rival method is trained instead: its loss takes the place of CRH's, its centers that of the
    model's, where it has some, and no center moves.

    Args:
        model: The model. For an objective with centers its codebook has one head of C words.
        args: The settings.
        objective: What to train in the place of CRH's loss.
        eval_database: What evaluations search. It is needed where a class has fewer than two items in `eval_dataset`.
        **kwargs: What `transformers.Trainer` takes: `train_dataset`, `eval_dataset`, `processing_class` and so on.

    Raises:
        ValueError: If `train_dataset` has no length, or the last batch would give the head's batch norm one sample; if
            `objective` does not fit the model, or several processes; or if a loss is not finite, which stops the
            training and leaves the last checkpoint in place.
        OSError: If a checkpoint cannot be saved; what was half-written is removed.
    """

    model: CRHModel
    args: CRHTrainingArguments
    objective: Objective | None

    def __init__(
        self,
        model: CRHModel,
        args: CRHTrainingArguments,
        *,
        objective: Objective | None = None,
        eval_database: Any = None,
        **kwargs: Any,
    ) -> None:
        if objective is not None:
            objective.check_fits(model.config, args.world_size)
        kwargs.setdefault("compute_metrics", self._figures)
        super().__init__(model=model, args=args, **kwargs)
        self.eval_database = eval_database
        self._database: tuple[Tensor, Tensor] | None = None
        if objective is None and args.reassignment != "none":
            check_method(args.reassignment, model.codebook.shape[1], model.assignment.shape[1])
        self.reassignment = ReassignCentersCallback(args, *model.centers.shape)
        self.objective = objective
        if objective is None:
            self.add_callback(self.reassignment)
        else:
            objective.to(args.device)
            self.add_callback(ObjectiveCallback(objective))
            self._place_centers()
        self.add_callback(SetEpochCallback)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; `resume_from_checkpoint=True` goes on from the newest checkpoint that was saved whole."""
        if resume_from_checkpoint is True:
            folder = cast(str, self.args.output_dir)
            resume_from_checkpoint = find_last_checkpoint(folder)
            if resume_from_checkpoint is None:
                raise ValueError(f"`resume_from_checkpoint` needs a whole checkpoint, but {folder!r} holds none.")
        if self.objective is not None and not resume_from_checkpoint:
            self.objective.prepare(self)
            self._place_centers()
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate by retrieval, see the class; takes what `transformers.Trainer.evaluate` takes."""
        if self.eval_database is not None:
            self._database = self._encode(self.eval_database)
        return super().evaluate(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training set; refuses a last batch that batch norm could not normalise."""
        if not isinstance(self.train_dataset, Sized):
            raise ValueError(
                "`train_dataset` must have a length, since class statistics are collected over an epoch, but "
                f"{type(self.train_dataset).__name__} has none."
            )
        loader: Any = super().get_train_dataloader()
        single = loader.total_dataset_length % loader.total_batch_size == 1 and not self.args.dataloader_drop_last
        normalises = any(isinstance(layer, nn.BatchNorm1d) for layer in self.model.hash_head.modules())
        if single and self.args.world_size == 1 and normalises:
            raise ValueError(
                "`per_device_train_batch_size` must not leave a last batch of one sample to the head's batch norm, "
                f"but got {loader.total_batch_size} for {loader.total_dataset_length} samples."
            )
        return cast(DataLoader[Any], loader)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Eq. 4 of a batch, or the objective's loss; while training Eq. 4, the codes enter the class statistics."""
        if self.objective is None:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        else:
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            loss = self.objective.train(model.training)(outputs.hash_logits, inputs["labels"])
        if model.training and not torch.isfinite(loss).all():
            self._stop_as_not_finite(f"loss is {loss.detach().mean().item()}")
        if model.training and self.objective is None:
            own = self._own_samples(len(outputs.hash_logits))
            self.reassignment.observe(outputs.hash_logits[:own], inputs["labels"][:own])
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Adam or AdamW over four groups: backbone and hash head, with and without weight decay.

        The weights of an objective are with the hash head's; in another optimizer they are a group of their own.
        """
        if self.optimizer is None and self.args.optim in ("adamw_torch", "adamw_torch_fused"):
            args = self.args
            self.optimizer = torch.optim.Adam(
                self._parameter_groups(self.model if model is None else model),
                lr=args.learning_rate,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
                fused=args.optim == "adamw_torch_fused",
                decoupled_weight_decay=args.decoupled_weight_decay,
            )
        elif self.optimizer is None:
            super().create_optimizer(model)
            if own := self._objective_parameters():
                cast(torch.optim.Optimizer, self.optimizer).add_param_group({"params": own})
        return super().create_optimizer(model)

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decayed = set(self.get_decay_parameter_names(model))
        rates = {True: self.args.head_learning_rate, False: self.args.learning_rate}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(("hash_head." in name, name in decayed), []).append(parameter)
        for parameter in self._objective_parameters():
            groups.setdefault((True, parameter.ndim > 1), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.args.learning_rate if rates[in_head] is None else rates[in_head],
                "weight_decay": self.args.weight_decay if decays else 0.0,
            }
            for (in_head, decays), parameters in groups.items()
        ]

    def _objective_parameters(self) -> list[nn.Parameter]:
        return [] if self.objective is None else list(self.objective.parameters())

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        own = self._objective_parameters()
        if not own:
            return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        return self.accelerator.clip_grad_norm_([*model.parameters(), *own], self.args.max_grad_norm)

    def _place_centers(self) -> None:
        """Make the objective's centers the model's: one head, in which class c holds word c."""
        if self.objective is not None and self.objective.centers is not None:
            self.model.codebook.copy_(self.objective.centers.unsqueeze(0))
            self.model.assignment.copy_(torch.arange(len(self.objective.centers)).unsqueeze(0))

    def _own_samples(self, batch_size: int) -> int:
        """How many samples of this process's batch are no repetitions that fill up the last batch of the epoch."""
        loader: Any = self.callback_handler.train_dataloader
        rest = loader.total_dataset_length % loader.total_batch_size
        if self.args.dataloader_drop_last or rest == 0 or self.reassignment.batches < len(loader) - 1:
            return batch_size
        before = self.args.process_index * (loader.total_batch_size // self.args.world_size)
        return int(min(max(rest - before, 0), batch_size))

    def _stop_as_not_finite(self, what: str) -> NoReturn:
        raise ValueError(
            f"Training must stay finite, but the {what} at step {self.state.global_step}; try a smaller "
            "`learning_rate`. The last checkpoint is untouched."
        )

    def _figures(self, prediction: EvalPrediction) -> dict[str, float]:
        hash_logits = torch.as_tensor(prediction.predictions)
        if not hash_logits.isfinite().all():
            self._stop_as_not_finite("hash logits of the evaluation are not")
        codes, labels = binarize(hash_logits), torch.as_tensor(prediction.label_ids)
        database = (codes, labels) if self._database is None else self._database
        alone = self._database is None
        figures = retrieval_figures(
            codes,
            database[0],
            labels,
            database[1],
            leave_one_out=alone,
            top_k=(min(10, len(database[0]) - alone),),
        )
        if self.objective is None or self.objective.centers is not None:
            distances = center_distances(self.model.centers)
            figures |= {"center_distance_least": distances.least, "center_distance_mean": distances.mean}
        figures |= {"bit_balance": bit_balance(codes), "bit_correlation": bit_correlation(codes)}
        if self.reassignment.moved_share is not None:
            figures["centers_moved"] = self.reassignment.moved_share
        return figures

    def _encode(self, dataset: Any) -> tuple[Tensor, Tensor]:
        """Codes and labels of a dataset, gathered from all processes."""
        compute_metrics, self.compute_metrics = self.compute_metrics, None
        try:
            output = self.evaluation_loop(self.get_test_dataloader(dataset), "Encoding", prediction_loss_only=False)
        finally:
            self.compute_metrics = compute_metrics
        return binarize(torch.as_tensor(output.predictions)), torch.as_tensor(output.label_ids)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            self._stop_as_not_finite("weights are not")
        super()._save_checkpoint(model, trial)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.objective is not None and self.args.should_save:
            save_file(self.objective.state_dict(), Path(output_dir, OBJECTIVE_NAME))
        self.reassignment.save(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and Path(checkpoint, STATISTICS_NAME).exists():
            self.reassignment.load(checkpoint)
        if checkpoint is not None:
            self._load_objective(checkpoint)

    # Trainer's own loading is not strict: weights of ViT and DINOv2, saved under other names, would stay as they are.
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._load_exactly(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        self._load_exactly(str(self.state.best_model_checkpoint))
        self._load_objective(str(self.state.best_model_checkpoint))
        self._delete_all_but_the_best()

    def _load_exactly(self, folder: str) -> None:
        saved = load_model(folder, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict(), strict=True)

    def _load_objective(self, folder: str) -> None:
        path = Path(folder, OBJECTIVE_NAME)
        if self.objective is not None and path.exists():
            self.objective.load_state_dict(load_file(path), strict=True)
