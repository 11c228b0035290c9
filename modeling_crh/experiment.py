"""Train from a recipe and evaluate a checkpoint: what `crh train`, `crh evaluate` and their scripts call."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import default_collate
from transformers import ViTImageProcessor, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from modeling_crh.checkpoint import find_last_checkpoint
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.data import Augmentation, BadImage, is_multi_label, label_names, load_splits
from modeling_crh.encoding import EncodedItems, encode_items
from modeling_crh.metrics import retrieval_figures
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.processing import Processor, labelled_dataset, load_processor
from modeling_crh.progress import TrainingProgress
from modeling_crh.recipe import Recipe
from modeling_crh.trainer import CRHTrainer
from modeling_crh.training_arguments import CRHTrainingArguments

RECIPE_NAME = "recipe.yaml"
FIGURES_NAME = "figures.json"
HISTORY_NAME = "history.json"
CHECKPOINTS_NAME = "checkpoints"

# What transformers and torch have been seen to raise on settings that do not go together.
_BUILDING_ERRORS = (RuntimeError, IndexError, KeyError, ZeroDivisionError, TypeError, AttributeError, OverflowError)

_TRAINING_DEFAULTS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "load_best_model_at_end": True,
    "save_total_limit": 1,
    "dataloader_pin_memory": torch.cuda.is_available(),
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

    Args:
        recipe: All settings.
        out: The run's folder: new or empty, or with `resume` that of the same recipe's interrupted run.
        resume: Go on from the newest checkpoint in `out`, if there is one.

    Returns:
        The run.

    Raises:
        ValueError: If `out` holds another run, or a setting or the data break a rule.
        OSError: If a checkpoint cannot be saved.
    """
    out = Path(out)
    state = PartialState()
    _check_folder(out, recipe, resume)
    with state.main_process_first():
        splits, bad_images = load_splits(
            recipe.dataset,
            recipe.data_dir,
            protocol=recipe.protocol,
            text_column=recipe.text_column,
            features_column=recipe.features_column,
            label_column=recipe.label_column,
            seed=recipe.seed,
            skip_bad_images=recipe.skip_bad_images,
        )
    set_seed(recipe.seed)
    model, processor = _build(recipe, splits["train"])
    progress = TrainingProgress()
    trainer = _build_trainer(recipe, out, model, processor, splits, progress)
    if state.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / RECIPE_NAME, recipe.dump())
    _use_fast_memory_format(model)
    try:
        trainer.train(resume_from_checkpoint=find_last_checkpoint(out / CHECKPOINTS_NAME) if resume else None)
    finally:
        progress.stop()
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # no autocast from here on
    nn.Module.to(model, memory_format=torch.contiguous_format)
    if state.is_main_process:
        _save(model, processor, trainer.state.log_history, out)
    state.wait_for_everyone()
    return TrainedRun(model.train(False), processor, splits, trainer.state.log_history, bad_images)


def encode_splits(
    model: CRHModel, processor: Processor, splits: DatasetDict, *, batch_size: int = 256
) -> dict[str, EncodedItems]:
    """Codes and labels of the splits `query` and `database`."""
    return {
        name: encode_items(model, labelled_dataset(splits[name], processor), batch_size=batch_size)
        for name in ("query", "database")
    }


def figures_of(encoded: dict[str, EncodedItems]) -> dict[str, float]:
    """All retrieval figures of `query` against `database`, by name; see `retrieval_figures`."""
    query, database = encoded["query"], encoded["database"]
    top_k = [k for k in (1, 10, 100) if k <= len(database.codes)]
    return retrieval_figures(query.codes, database.codes, query.labels, database.labels, top_k=top_k)


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is there whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _check_folder(out: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse a folder that this run must not write to."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(out)!r} is a file.")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if found <= {RECIPE_NAME, CHECKPOINTS_NAME} and find_last_checkpoint(out / CHECKPOINTS_NAME) is None:
        return  # new, empty, or of a run that ended before its first checkpoint
    same = (out / RECIPE_NAME).is_file() and Recipe.load(out / RECIPE_NAME) == recipe
    if (out / "config.json").exists() or not same:
        what = "this run, finished" if same else "another run"
        raise ValueError(f"`out` must be a new or empty folder, but {str(out)!r} holds {what}.")
    if not resume:
        raise ValueError(
            f"`out` must be a new or empty folder, but {str(out)!r} holds this run, interrupted; `--resume` goes on."
        )


def _build(recipe: Recipe, train_split: Dataset) -> tuple[CRHModel, Processor]:
    """The model and what prepares its inputs."""
    names = label_names(train_split)
    fields = dict(recipe.model) | {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": f"{'multi' if is_multi_label(train_split) else 'single'}_label_classification",
    }
    if recipe.features_column is not None:
        fields |= {"backbone_config": None, "num_features": np.shape(train_split[0]["features"])[-1]}
    try:
        if recipe.backbone is None:
            model = CRHModel(CRHConfig(**fields))
        else:
            model = CRHModel.from_backbone(recipe.backbone, **fields)
        if recipe.freeze_backbone:
            model.freeze_backbone()
        processor = _build_processor(recipe, model)
    except _BUILDING_ERRORS as error:
        reason = f"{type(error).__name__}, {error}".partition("\n")[0].rstrip(".")
        raise ValueError(f"The recipe's model must be one that can be built, but is not: {reason}.") from error
    _try_samples(model, processor, train_split)
    return model, processor


def _try_samples(model: CRHModel, processor: Processor, train_split: Dataset) -> None:
    """Find out whether model and data go together before anything is written."""
    items = labelled_dataset(train_split.select([0, len(train_split) - 1]), processor)
    try:
        model.train(False)(**default_collate([items[0], items[1]]))
    except (ValueError, *_BUILDING_ERRORS) as error:
        reason = f"{type(error).__name__}, {error}".partition("\n")[0].rstrip(".")
        raise ValueError(f"The recipe's model must read what its data hold, but does not: {reason}.") from error


def _build_processor(recipe: Recipe, model: CRHModel) -> Processor:
    if recipe.image_processor is None:
        return load_processor(recipe.backbone or "", model.main_input_name)
    return ViTImageProcessor(**({"do_convert_rgb": True} | recipe.image_processor))


def _use_fast_memory_format(model: CRHModel) -> None:
    """Convolutions are faster with the channels last, on CPUs as on tensor cores."""
    widths = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    if widths and min(widths) >= 16:  # with fewer channels, torch 2.14 crashes on large images
        nn.Module.to(model, memory_format=torch.channels_last)


def _build_trainer(
    recipe: Recipe,
    out: Path,
    model: CRHModel,
    processor: Processor,
    splits: DatasetDict,
    progress: TrainingProgress,
) -> CRHTrainer:
    settings = _TRAINING_DEFAULTS | recipe.training
    try:
        arguments = CRHTrainingArguments(output_dir=str(out / CHECKPOINTS_NAME), seed=recipe.seed, **settings)
    except (TypeError, RuntimeError, AttributeError, ImportError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"`training` must hold settings that transformers takes, but does not: {reason}.") from error
    augment = recipe.augmentation if isinstance(recipe.augmentation, str) else Augmentation(**recipe.augmentation)
    trainer = CRHTrainer(
        model,
        arguments,
        train_dataset=labelled_dataset(splits["train"], processor, augment=augment, training=True, seed=recipe.seed),
        eval_dataset=labelled_dataset(splits["validation"], processor),
        data_collator=default_collate,
        processing_class=processor,
        callbacks=[progress],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


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
