"""What a recipe describes, built: its data, its model with what prepares the inputs, and its trainer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from huggingface_hub.errors import HFValidationError
from numpy.typing import NDArray
from torch.utils.data import default_collate
from transformers import ViTImageProcessor, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.data import (
    BENCHMARKS,
    BadImage,
    find_protocol,
    is_multi_label,
    label_names,
    load_splits,
    read_benchmark,
    split_dataset,
    split_rows,
)
from modeling_crh.encoding import Augmentation, LabelledDataset
from modeling_crh.encoding.inputs import Processor, labelled_dataset, load_processor
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.objectives import OBJECTIVES, Objective
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.trainer import CRHTrainer

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
class RecipeData:
    """What a recipe's `dataset` holds.

    Attributes:
        splits: `train`, `validation`, `query` and `database`.
        bad_images: Images that were left out.
        rows: Of a benchmark: which rows each split has, as `split_rows` numbers them.
    """

    splits: DatasetDict
    bad_images: list[BadImage]
    rows: dict[str, NDArray[np.int64]] | None = None


def load_data(recipe: Recipe) -> RecipeData:
    """Read the data, once; where there are several processes, the main one first.

    Raises:
        ValueError: If `dataset` is nothing that can be read, or its data break a rule.
    """
    with PartialState().main_process_first():
        if recipe.dataset in BENCHMARKS and recipe.text_column is None and recipe.features_column is None:
            protocol = find_protocol(recipe.dataset, recipe.protocol)
            official = read_benchmark(recipe.dataset, recipe.data_dir)
            division: dict[str, Any] = {
                "protocol": protocol,
                "validation_fraction": recipe.validation_fraction,
                "query_fraction": recipe.query_fraction,
                "seed": recipe.seed,
            }
            return RecipeData(split_dataset(*official, **division), [], split_rows(*official, **division))
        splits, bad_images = load_splits(
            recipe.dataset,
            recipe.data_dir,
            protocol=recipe.protocol,
            text_column=recipe.text_column,
            features_column=recipe.features_column,
            label_column=recipe.label_column,
            validation_fraction=recipe.validation_fraction,
            query_fraction=recipe.query_fraction,
            seed=recipe.seed,
            skip_bad_images=recipe.skip_bad_images,
        )
        return RecipeData(splits, bad_images)


def build_model(recipe: Recipe, train_split: Dataset) -> tuple[CRHModel, Processor]:
    """The model, and what prepares its inputs, from the recipe's seed.

    Args:
        recipe: All settings.
        train_split: Has the classes, and two rows that the model is tried on.

    Raises:
        ValueError: If the settings make no model, or one that does not read these data.
    """
    set_seed(recipe.seed)
    names = label_names(train_split)
    fields = dict(recipe.model) | {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": f"{'multi' if is_multi_label(train_split) else 'single'}_label_classification",
    }
    if recipe.method != "crh":
        fields = _rival_fields(recipe, len(names), is_multi_label(train_split)) | fields
    if recipe.features_column is not None:
        fields |= {"backbone_config": None, "num_features": np.shape(train_split[0]["features"])[-1]}
    try:
        if recipe.backbone is None:
            model = CRHModel(CRHConfig(**fields))
        else:
            model = _from_backbone(recipe.backbone, fields)
        if recipe.freeze_backbone:
            model.freeze_backbone()
        processor = _build_processor(recipe, model)
    except _BUILDING_ERRORS as error:
        reason = f"{type(error).__name__}, {error}".partition("\n")[0].rstrip(".")
        raise ValueError(f"The recipe's model must be one that can be built, but is not: {reason}.") from error
    _try_samples(model, processor, train_split)
    return model, processor


def _rival_fields(recipe: Recipe, num_labels: int, multi_label: bool) -> dict[str, Any]:
    """What a rival asks of the config: one head of C words, which can hold any centers, and fields of its own."""
    rival = OBJECTIVES.get(recipe.method)
    if multi_label and rival is not None and not rival.has_multi_label:
        raise ValueError(
            f"`method` must define a loss for several labels a sample, which {recipe.method} does not; those that do "
            f"are crh, {', '.join(name for name, method in OBJECTIVES.items() if method.has_multi_label)}."
        )
    fields = {} if rival is None else rival.model_fields
    return fields | {"codebook_size": num_labels, "head_dim": recipe.model.get("num_bits", CRHConfig.num_bits)}


def build_objective(recipe: Recipe, model: CRHModel) -> Objective | None:
    """What the recipe's method trains, from the recipe's seed; None for CRH and for what is not trained.

    Raises:
        ValueError: If one of `method_settings` breaks its rule.
    """
    if recipe.method not in OBJECTIVES:
        return None
    rival: Any = OBJECTIVES[recipe.method]
    objective: Objective = rival(*model.centers.shape, recipe.seed, **recipe.method_settings)
    return objective


def _from_backbone(name: str, fields: dict[str, Any]) -> CRHModel:
    try:
        return CRHModel.from_backbone(name, **fields)
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"`backbone` must be a model's folder or Hub id, but {name!r} is not: {reason}.") from error


def _try_samples(model: CRHModel, processor: Processor, train_split: Dataset) -> None:
    """Find out whether model and data go together before anything is written."""
    items = labelled_dataset(train_split.select([0, len(train_split) - 1]), processor)
    try:
        model.train(False)(**default_collate(items.__getitems__([0, 1])))  # at once: texts are padded together
    except (ValueError, *_BUILDING_ERRORS) as error:
        reason = f"{type(error).__name__}, {error}".partition("\n")[0].rstrip(".")
        raise ValueError(f"The recipe's model must read what its data hold, but does not: {reason}.") from error


def _build_processor(recipe: Recipe, model: CRHModel) -> Processor:
    if recipe.image_processor is None:
        return load_processor(recipe.backbone or "", model.main_input_name)
    return ViTImageProcessor(**({"do_convert_rgb": True} | recipe.image_processor))


def build_trainer(recipe: Recipe, out: Path, model: CRHModel, processor: Processor, splits: DatasetDict) -> CRHTrainer:
    """The trainer of a run whose folder is `out`; it writes nothing before it trains, and shows nothing.

    The validation split is ranked against itself, or, where one of its rows shares no label with another, against the
    training images: such a row would find nothing relevant.

    Raises:
        ValueError: If a setting of `training`, of the method or of the augmentation breaks a rule.
    """
    settings = _TRAINING_DEFAULTS | recipe.training
    try:
        arguments = CRHTrainingArguments(output_dir=str(out / CHECKPOINTS_NAME), seed=recipe.seed, **settings)
    except (TypeError, RuntimeError, AttributeError, ImportError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"`training` must hold settings that transformers takes, but does not: {reason}.") from error
    augment = recipe.augmentation if isinstance(recipe.augmentation, str) else Augmentation(**recipe.augmentation)
    validation = labelled_dataset(splits["validation"], processor)
    trainer = CRHTrainer(
        model,
        arguments,
        objective=build_objective(recipe, model),
        train_dataset=labelled_dataset(splits["train"], processor, augment=augment, training=True, seed=recipe.seed),
        eval_dataset=validation,
        eval_database=labelled_dataset(splits["train"], processor) if _has_lone_rows(validation) else None,
        data_collator=default_collate,
        processing_class=processor,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _has_lone_rows(items: LabelledDataset) -> bool:
    """Whether a row that has labels shares none of them with another row."""
    labels = items.labels
    shared = (labels * labels.sum(0)).amax(1) if items.is_multi_label else labels.bincount()[labels]  # (N,)
    return bool((shared == 1).any())
