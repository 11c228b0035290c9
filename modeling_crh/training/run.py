"""Train from a recipe into a new folder, for `crh train`."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from modeling_crh.data import BadRow, LoadedSplits
from modeling_crh.data.rows import PLURALS
from modeling_crh.encoding import labelled_dataset, run_batches
from modeling_crh.encoding.adapters import merge_adapter
from modeling_crh.encoding.inputs import Processor, kind_of
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import write_text
from modeling_crh.runtime.processes import limited_wait
from modeling_crh.runtime.terminal import name_bad_rows, say
from modeling_crh.training import checkpointing
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.build import build_model, build_trainer, hide_progress, join_processes, load_data
from modeling_crh.training.callbacks import TrainingProgress
from modeling_crh.training.evaluation import check_division, evaluate_splits, write_division
from modeling_crh.training.objectives import UNTRAINED, center_objectives, collect_features, fit_untrained
from modeling_crh.training.recipe import RECIPE_NAME, Recipe
from modeling_crh.training.trainer import CRHTrainer

FIGURES_NAME = "figures.json"

FEW = 8
"""Number of rows of each split that a dry run reads."""

_ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "warmup_steps": 0,  # or the only step would have a learning rate of 0
    "per_device_train_batch_size": FEW,
    "gradient_accumulation_steps": 1,
    "dataloader_drop_last": False,
    "dataloader_num_workers": 0,  # starting workers takes longer than reading these rows
    "dataloader_prefetch_factor": None,
    "dataloader_persistent_workers": False,
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "logging_strategy": "epoch",
    "load_best_model_at_end": False,
    "report_to": "none",
}


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        model: Best model on the validation split, in evaluation mode.
        processor: Image processor, feature extractor or tokenizer of the model; None for features.
        splits: `train`, `validation`, `query` and `database`.
        history: Log of the training, as `transformers.Trainer` keeps it.
        bad_rows: Rows of the data that were left out.
    """

    model: CRHModel
    processor: Processor
    splits: DatasetDict
    history: list[dict[str, Any]]
    bad_rows: list[BadRow]


def train(recipe: Recipe, out: str | Path, *, resume: bool = False) -> TrainedRun:
    """Train a model, choose its best epoch on the validation split, and save it in a new folder.

    `out/model` holds the model, into which LoRA weights are merged; beside it are recipe, history, a digest of the
    division, for LoRA the folder `adapter`, and for a benchmark the rows of its splits. ITQ and other methods without
    training are fitted to the training split, and have no history.

    Args:
        recipe: Settings of the run.
        out: Folder of the run: new, empty, or with `resume` the folder of a run of the same recipe.
        resume: Whether to continue from the newest checkpoint in `out`, if any; a finished run is read back.

    Returns:
        The finished run.

    Raises:
        ValueError: If `out` holds another run, or one writes to it; if data have changed, or something cannot be used.
        OSError: If a checkpoint cannot be saved.
    """
    out = Path(out)
    state = join_processes(recipe)
    finished = checkpointing.check_folder(out, recipe, resume)
    data = load_data(recipe)
    name_bad_rows(data.bad_rows)
    if resume:
        check_division(out, data)
    if finished:
        model, processor = load_checkpoint(out)
        nn.Module.to(model, state.device)
        history = json.loads((out / checkpointing.HISTORY_NAME).read_text())
        return TrainedRun(model, processor, data.splits, history, data.bad_rows)
    model, processor = build_model(recipe, data.splits["train"])
    trainer = build_trainer(recipe, out, model, processor, data.splits)
    say(_first_line(recipe, data, model, trainer.args))
    with limited_wait(trainer.args.ddp_timeout), checkpointing.claimed_folder(out, recipe, resume):
        if state.is_main_process:
            write_text(out / RECIPE_NAME, recipe.dump())
            write_division(out, data)
        progress = TrainingProgress()
        trainer.add_callback(progress)
        try:
            checkpoints = out / checkpointing.CHECKPOINTS_NAME
            checkpoint = checkpointing.find_last_checkpoint(checkpoints) if resume else None
            model = _fit(recipe, trainer, data.splits["train"], checkpoint)
        finally:
            progress.stop()
        if state.is_main_process:
            checkpointing.save_model(model, processor, trainer.state.log_history, out)
        merge_adapter(model)  # in the other processes
        state.wait_for_everyone()
    return TrainedRun(model, processor, data.splits, trainer.state.log_history, data.bad_rows)


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Try `train` with one step on a few rows of each split; nothing is kept.

    Args:
        recipe: Settings of the run.

    Returns:
        Summary of the run: `dataset` and, for a benchmark, its `protocol`; the number of rows in `train`, `validation`,
        `query` and `database`, and of rows `left_out`; `backbone`, `parameters`, `trained_parameters`, `num_labels`,
        `num_bits` and `num_heads`; `steps_per_epoch` and `num_train_epochs`; and the `loss` of the one step, None for a
        method without training.

    Raises:
        ValueError: If `train` would raise it.
    """
    data = load_data(recipe)
    name_bad_rows(data.bad_rows)
    model, processor = build_model(recipe, data.splits["train"])
    untrained, parameters = recipe.method in UNTRAINED, model.num_parameters()
    trained = model.num_parameters(only_trainable=True)
    enough = max(FEW, 2 * model.config.num_bits) if untrained else FEW
    few = DatasetDict({name: _few_rows(split, enough) for name, split in data.splits.items()})
    one_step = replace(recipe, training=recipe.training | _ONE_STEP)
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = build_trainer(recipe, folder, model, processor, data.splits)
        epochs, steps, *_ = whole.set_initial_training_values(whole.args, whole.get_train_dataloader())
        trainer = build_trainer(one_step, folder, model, processor, few)
        model = _fit(one_step, trainer, few["train"])
        checkpointing.save_model(model, processor, trainer.state.log_history, folder)
        evaluate_splits(model, processor, few)
    if untrained:
        trained, steps, epochs = 0, 0, 0
    return {
        "dataset": recipe.dataset,
        **({} if data.rows is None else {"protocol": recipe.protocol}),
        **data.splits.num_rows,
        "left_out": len(data.bad_rows),
        "backbone": _backbone_name(recipe, model),
        "parameters": parameters,
        "trained_parameters": trained,
        "num_labels": model.config.num_labels,
        "num_bits": model.config.num_bits,
        "num_heads": model.config.num_heads,
        "steps_per_epoch": steps,
        "num_train_epochs": epochs,
        "loss": next((entry["loss"] for entry in trainer.state.log_history if "loss" in entry), None),
    }


def run_first_stage(trainer: CRHTrainer) -> None:
    """Train the classifier of a method such as SHC, and place the centers by the similarity of its classes.

    The classifier is a copy of the model with C outputs, trained with the settings of the trainer, for the objective's
    `classifier_epochs` or else half of the epochs or steps. The seed is set before, and again at the end.

    Args:
        trainer: Trainer with an objective that has a first stage; its objective and model get the centers.

    Example:
        >>> trainer = CRHTrainer(model, args, objective=SHC(10, 64), train_dataset=items)  # doctest: +SKIP
        >>> run_first_stage(trainer)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """
    objective = trainer.rival
    if objective is None or not objective.has_first_stage:
        raise ValueError("`trainer` must have an objective with a first stage, such as SHC, but has none.")
    num_labels = objective.num_labels
    set_seed(trainer.args.seed)
    stage = type(trainer)(
        center_objectives.with_class_outputs(trainer.model, num_labels),
        stage_arguments(trainer.args, objective.classifier_epochs),
        train_dataset=trainer.train_dataset,
        data_collator=trainer.data_collator,
        objective=center_objectives.Classification(num_labels, num_labels),
    )
    hide_progress(stage)
    stage.train()
    labels: list[Tensor] = []

    def batches() -> Iterator[dict[str, Tensor]]:
        for batch in stage.get_test_dataloader(cast(Any, stage.train_dataset)):
            labels.append(batch["labels"].cpu())
            yield batch

    logits = torch.cat(list(run_batches(stage.model.train(False), batches(), desc="Comparing classes")))  # (N, C)
    probabilities = center_objectives.mean_probabilities(logits, torch.cat(labels))
    objective.place_centers(center_objectives.class_similarity(probabilities))
    objective.place_in(trainer.model)
    set_seed(trainer.args.seed)


def stage_arguments(args: CRHTrainingArguments, epochs: float | None) -> CRHTrainingArguments:
    """Copy training arguments for a first stage, without evaluation, checkpoints and reports.

    The stage takes `epochs` epochs; None takes half of the epochs of `args`, or half of its `max_steps`.
    """
    stage = copy.copy(args)
    stage.eval_strategy, stage.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    stage.report_to, stage.load_best_model_at_end, stage.disable_tqdm, stage.push_to_hub = [], False, True, False
    if epochs is not None:
        stage.num_train_epochs, stage.max_steps = epochs, -1
    elif args.max_steps > 0:
        stage.max_steps = max(1, args.max_steps // 2)
    else:
        stage.num_train_epochs = args.num_train_epochs / 2
    return stage


def _first_line(recipe: Recipe, data: LoadedSplits, model: CRHModel, args: CRHTrainingArguments) -> str:
    """Describe data, model, length and device of a run in one line."""
    kind = PLURALS[kind_of(model)]
    rows = ", ".join(f"{count:,} {name}" for name, count in data.splits.num_rows.items())
    start = "pretrained" if recipe.backbone else "from scratch"
    backbone = _backbone_name(recipe, model)
    total, trained = model.num_parameters(), model.num_parameters(only_trainable=True)
    share = f"{total:,} parameters" if trained == total else f"{trained:,} of {total:,} parameters trained"
    count, unit = (args.max_steps, "step") if args.max_steps > 0 else (args.num_train_epochs, "epoch")
    length = f"{count:.10g} {unit}{'s' if count != 1 else ''} with batches of {args.per_device_train_batch_size:,} and "
    length += f"learning rate {args.learning_rate:g}"
    place = f"on {args.device}" + (", in bfloat16" if args.bf16 else "")
    method = recipe.method if recipe.preset == "paper" else f"{recipe.method}, preset {recipe.preset}"
    bits = f"{model.config.num_bits} bits" + (f", the centers of {recipe.centers_from}" if recipe.centers_from else "")
    return (
        f"Read {recipe.dataset}: {kind} of {model.config.num_labels:,} classes, {rows}. {method}: "
        f"{f'{backbone} {start}' if backbone else 'a head alone'}, {share}, "
        f"{bits}, {'no training' if recipe.method in UNTRAINED else length}, {place}."
    )


def _backbone_name(recipe: Recipe, model: CRHModel) -> str | None:
    return recipe.backbone or getattr(model.config.backbone_config, "model_type", None)


def _few_rows(split: Dataset, most: int) -> Dataset:
    """Select rows evenly from the first to the last."""
    few: Dataset = split.select(np.linspace(0, len(split) - 1, min(most, len(split)), dtype=int))
    return few


def _use_fast_memory_format(model: CRHModel) -> None:
    """Put the channels last, which makes convolutions faster on CPUs and on tensor cores."""
    widths = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    if widths and min(widths) >= 16:  # with fewer channels, torch 2.14 crashes on large images
        nn.Module.to(model, memory_format=torch.channels_last)


def _fit(recipe: Recipe, trainer: CRHTrainer, train_split: Dataset, checkpoint: str | None = None) -> CRHModel:
    """Train from a checkpoint or from the start, or fit a method without training to the features of a split.

    The model is then in evaluation mode, in the default layout.
    """
    if recipe.method in UNTRAINED:
        items = labelled_dataset(train_split, cast(Processor, trainer.processing_class))
        fit_untrained(recipe.method, trainer.model, collect_features(trainer.model, items), recipe.seed)
        return trainer.model
    _use_fast_memory_format(trainer.model)
    if checkpoint is None and trainer.rival is not None and trainer.rival.has_first_stage:
        run_first_stage(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    model: CRHModel = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # no autocast from here
    nn.Module.to(model, memory_format=torch.contiguous_format)
    return model.train(False)
