"""Build the data, model, processor and trainer of a recipe."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from huggingface_hub.errors import HFValidationError
from torch import nn
from torch.utils.data import default_collate
from transformers import SequenceFeatureExtractor, ViTImageProcessor, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from modeling_crh.checks import check_keys, is_number
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.data import DataSource, Division, LoadedSplits, is_multi_label, label_names, load_splits, options_of
from modeling_crh.encoding import Augmentation, LabelledDataset, labelled_dataset, run_batches
from modeling_crh.encoding.encoder import multiplies_bfloat16
from modeling_crh.encoding.inputs import Processor, load_processor
from modeling_crh.encoding.loading import check_tower, class_names, find_model, load_model
from modeling_crh.losses import has_label
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.pretrained import refused_backbone
from modeling_crh.runtime.processes import choose_workers, main_process_first, own_state
from modeling_crh.runtime.terminal import say
from modeling_crh.training.arguments import CRHTrainingArguments
from modeling_crh.training.checkpointing import CHECKPOINTS_NAME
from modeling_crh.training.chosen_recipe import find_recipe
from modeling_crh.training.fine_tuning import LoraSettings, add_lora, unfreeze_last
from modeling_crh.training.objectives import OBJECTIVES, Objective, find_objective
from modeling_crh.training.recipe import MODEL_PRESETS, Recipe
from modeling_crh.training.trainer import CRHTrainer

_TRAINING_DEFAULTS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "load_best_model_at_end": True,
    "save_total_limit": 1,
    "dataloader_pin_memory": torch.cuda.is_available(),
}

_FIELDS_OF_CENTERS = (
    "num_bits prefix_bits codebook codebook_size head_dim shared_room codebook_draws codebook_seed".split()
)


def join_processes(recipe: Recipe) -> PartialState:
    """Join the group of processes, if any, with the device and the `ddp_timeout` of a recipe; every run begins so."""
    timeout = recipe.training.get("ddp_timeout", CRHTrainingArguments.ddp_timeout)
    if not is_number(timeout) or not 0 < timeout <= 10**9:
        raise ValueError(f"`ddp_timeout` must be a number of seconds above 0, at most 10^9, but got {timeout!r}.")
    return own_state(timeout, use_cpu=bool(recipe.training.get("use_cpu")))


def load_data(recipe: Recipe) -> LoadedSplits:
    """Read and divide the data of a recipe, with the errors of `load_splits`; the main process goes first."""
    join_processes(recipe)
    with main_process_first():
        return load_splits(**options_of(DataSource, recipe), **options_of(Division, recipe))


def build_model(recipe: Recipe, train_split: Dataset) -> tuple[CRHModel, Processor]:
    """Build the model of a recipe, from its seed, and its processor, and try both on two training rows."""
    set_seed(recipe.seed)
    source = None if recipe.centers_from is None else _load_source(recipe.centers_from)
    names = label_names(train_split) if source is None else class_names(source)
    fields = MODEL_PRESETS[recipe.preset] | recipe.model
    fields |= {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": f"{'multi' if is_multi_label(train_split) else 'single'}_label_classification",
    }
    if source is not None:
        fields |= _fields_of_centers(recipe, source, label_names(train_split))
    if recipe.method != "crh":
        fields = _rival_fields(recipe, len(names), is_multi_label(train_split)) | fields
    if recipe.features_column is not None:
        fields |= {"backbone_config": None, "num_features": np.shape(train_split[0]["features"])[-1]}
    if recipe.backbone is None:
        _check_depths(recipe.model.get("backbone_config") or {})
        model = CRHModel(CRHConfig(**fields))
    else:
        with refused_backbone(recipe.backbone, OSError, HFValidationError):
            model = CRHModel.from_backbone(str(find_model(recipe.backbone)), **fields)
    if source is not None:
        model.codebook.copy_(source.codebook)
        model.assignment.copy_(source.assignment)
    if recipe.freeze_backbone:
        model.freeze_backbone()
    check_tower(model.backbone, train_split.column_names)
    if recipe.unfreeze_last is not None:
        unfreeze_last(model, recipe.unfreeze_last)
    if recipe.lora is not None:
        add_lora(model, LoraSettings(**recipe.lora))
    processor = _build_processor(recipe, model)
    items = labelled_dataset(train_split.select([0, len(train_split) - 1]), processor)
    batch = default_collate(items.__getitems__([0, 1]))  # together, since texts are padded to one length
    next(run_batches(model.train(False), [batch]))  # before anything is written
    return model, processor


def _load_source(name: str) -> CRHModel:
    recipe = find_recipe(name)
    if recipe is not None and recipe.method != "crh":
        raise ValueError(f"`centers_from` must be a model trained by crh, but {name!r} was by {recipe.method}.")
    try:
        return load_model(name)
    except ValueError as error:
        raise ValueError(str(error).replace("`checkpoint`", "`centers_from`")) from error


def _fields_of_centers(recipe: Recipe, source: CRHModel, names: list[str]) -> dict[str, Any]:
    """Make the config fields that a model with the centers of `source` must have, for data with classes `names`."""
    fields = {name: getattr(source.config, name) for name in _FIELDS_OF_CENTERS}
    for name, value in fields.items():
        if recipe.model.get(name) not in (None, value):
            raise ValueError(f"`{name}` must be {value!r}, as in `centers_from`, but got {recipe.model[name]!r}.")
    unknown = sorted(set(names) - set(class_names(source)))
    if unknown:
        others = f" and {len(unknown) - 1:,} more of the {len(names):,}" if len(unknown) > 1 else ""
        raise ValueError(
            f"`centers_from` must know every class of the data, but {recipe.centers_from!r} has no {unknown[0]!r}"
            f"{others}."
        )
    return fields | {"fixed_centers": True}


def _renumber(items: LabelledDataset, names: list[str]) -> None:
    """Number the classes of items as `names` does, which holds all of them."""
    place = {name: number for number, name in enumerate(names)}
    ids = torch.tensor([place[name] for name in items.label_names])
    if items.is_multi_label:
        labels = items.labels.new_zeros(len(items), len(names))
        labels[:, ids] = items.labels
    else:
        labels = torch.where(has_label(items.labels), ids[items.labels.clamp(min=0)], items.labels)
    items.labels, items.label_names = labels, names


def _rival_fields(recipe: Recipe, num_labels: int, multi_label: bool) -> dict[str, Any]:
    """Make config fields of a rival: one head of C codewords, which can hold any centers, and its `model_fields`."""
    rival = find_objective(recipe.method)
    if multi_label and rival is not None and not rival.has_multi_label:
        raise ValueError(
            f"`method` must define a loss for several labels a sample, which {recipe.method} does not; those that do "
            f"are crh, {', '.join(name for name, method in OBJECTIVES.items() if method.has_multi_label)}."
        )
    fields = {} if rival is None else rival.model_fields
    return fields | {"codebook_size": num_labels, "head_dim": recipe.model.get("num_bits", CRHConfig.num_bits)}


def build_objective(recipe: Recipe, model: CRHModel) -> Objective | None:
    """Build the objective of a recipe, from its seed; None for CRH and for methods without training."""
    rival: Any = find_objective(recipe.method)
    if rival is None:
        return None
    check_keys("`method_settings`", recipe.method_settings, rival.setting_names())
    objective: Objective = rival(*model.centers.shape, recipe.seed, **recipe.method_settings)
    return objective


def _check_depths(backbone_config: dict[str, Any]) -> None:
    """Refuse backbones with lists of stages of unequal length, which transformers builds but cannot run."""
    depths, widths = backbone_config.get("depths"), backbone_config.get("hidden_sizes")
    if isinstance(depths, list) and isinstance(widths, list) and len(depths) != len(widths):
        raise ValueError(
            "`backbone_config` must have as many `depths` as `hidden_sizes`, one a stage, but has "
            f"{len(depths)} and {len(widths)}."
        )


def _build_processor(recipe: Recipe, model: CRHModel) -> Processor:
    if recipe.feature_extractor is None:
        if recipe.image_processor is not None:
            return ViTImageProcessor(**({"do_convert_rgb": True} | recipe.image_processor))
        with refused_backbone(recipe.backbone or ""):
            return load_processor(recipe.backbone or "", model)
    settings = dict(recipe.feature_extractor)
    name = str(settings.pop("feature_extractor_type", None))
    kind: Any = getattr(transformers, name, None)
    if not name.endswith("FeatureExtractor") or kind is None:
        raise ValueError(
            f"`feature_extractor_type` must be a class of transformers, such as ASTFeatureExtractor, but got {name!r}."
        )
    check_keys("`feature_extractor`", settings, set(inspect.signature(kind).parameters) - {"kwargs"})
    extractor: SequenceFeatureExtractor = kind(**settings)
    return extractor


def build_trainer(recipe: Recipe, out: Path, model: CRHModel, processor: Processor, splits: DatasetDict) -> CRHTrainer:
    """Build the trainer of a run in the folder `out`; it writes nothing before training.

    Validation items are ranked against each other, or against the training split if one of them shares no label with
    another and would find nothing relevant.
    """
    settings = _TRAINING_DEFAULTS | _defaults_of_gpu(model, recipe) | recipe.training
    if recipe.centers_from is not None:
        settings["reassignment"] = "none"
    arguments = CRHTrainingArguments(output_dir=str(out / CHECKPOINTS_NAME), seed=recipe.seed, **settings)
    augment = recipe.augmentation if isinstance(recipe.augmentation, str) else Augmentation(**recipe.augmentation)
    rows = _without_lone_row(splits["train"], model, arguments)
    training = labelled_dataset(rows, processor, augment=augment, training=True, seed=recipe.seed)
    if recipe.balanced:
        training.balance(recipe.seed)
    validation = labelled_dataset(splits["validation"], processor)
    database = labelled_dataset(splits["train"], processor) if _has_lone_rows(validation) else None
    if recipe.centers_from is not None:
        for items in (training, validation, *([] if database is None else [database])):
            _renumber(items, class_names(model))
    trainer = CRHTrainer(
        model,
        arguments,
        objective=build_objective(recipe, model),
        train_dataset=training,
        eval_dataset=validation,
        eval_database=database,
        data_collator=default_collate,
        processing_class=processor,
    )
    hide_progress(trainer)
    return trainer


def _defaults_of_gpu(model: CRHModel, recipe: Recipe) -> dict[str, Any]:
    """Choose bfloat16 and a decoding process a core for a backbone on a GPU, where both help; on a CPU neither."""
    device = join_processes(recipe).device
    if model.backbone is None or device.type != "cuda":
        return {}
    workers = choose_workers(model.main_input_name)
    return {"dataloader_num_workers": workers, "bf16": multiplies_bfloat16(device) and not recipe.training.get("fp16")}


def _without_lone_row(rows: Dataset, model: CRHModel, arguments: CRHTrainingArguments) -> Dataset:
    """Leave out the last training row if it would be a batch alone, which a batch norm cannot take; also say so."""
    normalises = any(isinstance(layer, nn.BatchNorm1d) for layer in model.hash_head.modules())
    is_alone = len(rows) % arguments.train_batch_size == 1 and not arguments.dataloader_drop_last
    if not normalises or arguments.world_size > 1 or not is_alone:
        return rows
    say("The last training row is left out: it would be a batch alone, and the head's batch norm needs two.")
    rest: Dataset = rows.select(range(len(rows) - 1))
    return rest


def hide_progress(trainer: CRHTrainer) -> None:
    """Remove the callbacks that print for transformers."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)


def _has_lone_rows(items: LabelledDataset) -> bool:
    """Whether a labelled row shares none of its labels with another row."""
    labels = items.labels[has_label(items.labels)]
    shared = (labels * labels.sum(0)).amax(1) if items.is_multi_label else labels.bincount()[labels]  # (N,)
    return bool((shared == 1).any())
