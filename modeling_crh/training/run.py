"""Train from a recipe, in a folder of its own: what `crh train` calls."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from torch import nn

from modeling_crh.data import BadImage
from modeling_crh.encoding.inputs import Processor, labelled_dataset
from modeling_crh.encoding.loading import find_last_checkpoint, load_checkpoint
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.training.build import CHECKPOINTS_NAME, build_model, build_trainer, load_data
from modeling_crh.training.callbacks import TrainingProgress
from modeling_crh.training.evaluation import evaluate_splits
from modeling_crh.training.objectives import UNTRAINED, collect_features, fit_untrained
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.trainer import CRHTrainer

RECIPE_NAME = "recipe.yaml"
ROWS_NAME = "rows.json"
FIGURES_NAME = "figures.json"
HISTORY_NAME = "history.json"

FEW = 8
"""How many rows of each split a dry run reads."""

_ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "warmup_steps": 0,  # or the only step would have a learning rate of 0
    "per_device_train_batch_size": FEW,
    "gradient_accumulation_steps": 1,
    "dataloader_drop_last": False,
    "dataloader_num_workers": 0,  # to start some takes longer than to read these rows
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
    """What a training run leaves behind.

    Attributes:
        model: The best model on the validation split, in evaluation mode.
        processor: Its image processor or tokenizer; None where it reads features.
        splits: `train`, `validation`, `query` and `database`.
        history: What was logged, as `transformers.Trainer` keeps it.
        bad_images: Images that were left out.
    """

    model: CRHModel
    processor: Processor
    splits: DatasetDict
    history: list[dict[str, Any]]
    bad_images: list[BadImage]


def train(recipe: Recipe, out: str | Path, *, resume: bool = False) -> TrainedRun:
    """Train a model, choose its best epoch on the validation split, and save it in a folder of its own.

    A method that is not trained, such as ITQ, is fitted to the training split instead, and has no history.

    The rows of a benchmark's splits are saved with it, as `split_rows` numbers them.

    Args:
        recipe: All settings.
        out: The run's folder: new or empty, or with `resume` that of the same recipe's run.
        resume: Go on from the newest checkpoint in `out`, if there is one; a run that is finished is read back.

    Returns:
        The run.

    Raises:
        ValueError: If `out` holds another run, or a setting or the data break a rule.
        OSError: If a checkpoint cannot be saved.
    """
    out = Path(out)
    state = PartialState()
    finished = _check_folder(out, recipe, resume)
    data = load_data(recipe)
    if finished:
        model, processor = load_checkpoint(out)
        nn.Module.to(model, state.device)
        return TrainedRun(model, processor, data.splits, json.loads((out / HISTORY_NAME).read_text()), data.bad_images)
    model, processor = build_model(recipe, data.splits["train"])
    trainer = build_trainer(recipe, out, model, processor, data.splits)
    if state.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / RECIPE_NAME, recipe.dump())
        if data.rows is not None:
            rows = {name: chosen.tolist() for name, chosen in data.rows.items()}
            write_text(out / ROWS_NAME, json.dumps(rows) + "\n")
    if recipe.method in UNTRAINED:
        _fit_features(recipe, model, processor, data.splits["train"])
    else:
        progress = TrainingProgress()
        trainer.add_callback(progress)
        try:
            model = _fit(trainer, find_last_checkpoint(out / CHECKPOINTS_NAME) if resume else None)
        finally:
            progress.stop()
    if state.is_main_process:
        _save(model, processor, trainer.state.log_history, out)
    state.wait_for_everyone()
    return TrainedRun(model, processor, data.splits, trainer.state.log_history, data.bad_images)


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Go through all that `train` does with one step on a few rows of each split, and leave nothing behind.

    Args:
        recipe: All settings.

    Returns:
        What the run would be: `dataset` and, of a benchmark, its `protocol`; the rows of `train`, `validation`, `query`
        and `database`, and how many images were `left_out`; the `backbone`, `parameters`, `num_labels`, `num_bits` and
        `num_heads`; `steps_per_epoch` and `num_train_epochs`; and the `loss` of the one step, None where the method is
        not trained.

    Raises:
        ValueError: As `train`.
    """
    data = load_data(recipe)
    model, processor = build_model(recipe, data.splits["train"])
    untrained = recipe.method in UNTRAINED
    enough = max(FEW, 2 * model.config.num_bits) if untrained else FEW
    few = DatasetDict({name: _few_rows(split, enough) for name, split in data.splits.items()})
    one_step = replace(recipe, training=recipe.training | _ONE_STEP)
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = build_trainer(recipe, folder, model, processor, data.splits)
        epochs, steps, *_ = whole.set_initial_training_values(whole.args, whole.get_train_dataloader())
        trainer = build_trainer(one_step, folder, model, processor, few)
        if untrained:
            _fit_features(recipe, model, processor, few["train"])
        else:
            model = _fit(trainer)
        _save(model, processor, trainer.state.log_history, folder)
        evaluate_splits(model, processor, few)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "dataset": recipe.dataset,
        "protocol": None if data.rows is None else recipe.protocol,
        **data.splits.num_rows,
        "left_out": len(data.bad_images),
        "backbone": recipe.backbone or getattr(model.config.backbone_config, "model_type", None),
        "parameters": model.num_parameters(),
        "num_labels": model.config.num_labels,
        "num_bits": model.config.num_bits,
        "num_heads": model.config.num_heads,
        "steps_per_epoch": 0 if untrained else steps,
        "num_train_epochs": 0 if untrained else epochs,
        "loss": None if untrained else losses[0],
    }


def find_recipe(checkpoint: str | Path) -> Recipe | None:
    """The recipe of the run whose folder a checkpoint is, if it is one."""
    path = Path(checkpoint, RECIPE_NAME)
    return Recipe.load(path) if path.is_file() else None


def division_of(checkpoint: str | Path, dataset: str, seed: int | None, protocol: str | None) -> dict[str, Any]:
    """What divides a dataset for an evaluation, by the names of `load_splits`: of the run's dataset, what the run took.

    Others would make queries of images that the model was trained on.

    Args:
        checkpoint: Where the model comes from; a run's folder has a recipe.
        dataset: What is evaluated on.
        seed: As asked for; None stands for the run's, or 0.
        protocol: As asked for; None stands for the run's, or `official`.

    Raises:
        ValueError: If what is asked for contradicts the run.
    """
    recipe = find_recipe(checkpoint)
    if recipe is None or (recipe.dataset != dataset and Path(recipe.dataset).absolute() != Path(dataset).absolute()):
        return {"seed": seed or 0, "protocol": protocol or "official"}
    for name, asked, trained in (("seed", seed, recipe.seed), ("protocol", protocol, recipe.protocol)):
        if asked is not None and asked != trained:
            raise ValueError(
                f"`{name}` must be that of the run, {trained!r}, or queries would be images of its training, "
                f"but got {asked!r}."
            )
    names = ("seed", "protocol", "validation_fraction", "query_fraction")
    return {name: getattr(recipe, name) for name in names}


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is there whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _check_folder(out: Path, recipe: Recipe, resume: bool) -> bool:
    """Refuse a folder that this run must not write to; whether it holds this run, finished."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(out)!r} is a file.")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    found = {name for name in names if not name.endswith(".partial")}  # what a killed process was writing
    unfinished = found <= {RECIPE_NAME, ROWS_NAME, CHECKPOINTS_NAME}
    if unfinished and find_last_checkpoint(out / CHECKPOINTS_NAME) is None:
        return False  # new, empty, or of a run that ended before its first checkpoint
    same = (out / RECIPE_NAME).is_file() and Recipe.load(out / RECIPE_NAME) == recipe
    finished = (out / "config.json").exists()
    if same and resume:
        return finished
    what = "another run"
    if same:
        what = "this run, finished" if finished else "this run, interrupted; `--resume` goes on"
    raise ValueError(f"`out` must be a new or empty folder, but {str(out)!r} holds {what}.")


def _few_rows(split: Dataset, most: int = FEW) -> Dataset:
    """The first row, the last, and some between."""
    return split.select(np.linspace(0, len(split) - 1, min(most, len(split)), dtype=int))


def _fit_features(recipe: Recipe, model: CRHModel, processor: Processor, train_split: Dataset) -> None:
    """Fit a method that is not trained to the features of the training items; the model is then in evaluation mode."""
    features = collect_features(model, labelled_dataset(train_split, processor))
    fit_untrained(recipe.method, model, features, recipe.seed)


def _use_fast_memory_format(model: CRHModel) -> None:
    """Convolutions are faster with the channels last, on CPUs as on tensor cores."""
    widths = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    if widths and min(widths) >= 16:  # with fewer channels, torch 2.14 crashes on large images
        nn.Module.to(model, memory_format=torch.channels_last)


def _fit(trainer: CRHTrainer, checkpoint: str | None = None) -> CRHModel:
    """Train from a checkpoint or from the start; the model is then in evaluation mode, in the default layout."""
    _use_fast_memory_format(trainer.model)
    trainer.train(resume_from_checkpoint=checkpoint)
    model: CRHModel = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # no autocast from here
    nn.Module.to(model, memory_format=torch.contiguous_format)
    return model.train(False)


def _save(model: CRHModel, processor: Processor, history: list[dict[str, Any]], out: Path) -> None:
    """Save beside, then move: `config.json`, the mark of a finished run, comes last."""
    partial = out / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        if processor is not None:
            processor.save_pretrained(partial)
        write_json(partial / HISTORY_NAME, history)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "config.json"):
            os.replace(path, out / path.name)
    except SafetensorError as error:
        raise OSError(f"The model could not be saved in {out}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
