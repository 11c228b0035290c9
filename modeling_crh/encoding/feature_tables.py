"""Extract the features of a backbone once, with any number of augmented views: a head trains on them in minutes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, List
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from modeling_crh.backbones import pool, pooling_arguments
from modeling_crh.encoding.augmentation import Augmentation
from modeling_crh.encoding.inputs import Processor, labelled_dataset, model_inputs
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.terminal import progress_bar

PART_NAMES = {1: ("features",), 2: ("train", "test")}


def load_backbone(name: str | Path) -> PreTrainedModel:
    """A backbone in evaluation mode; of a CRH model, the one inside.

    Args:
        name: A folder or a Hub id.

    Raises:
        ValueError: If there is no such model, or it has no backbone.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        model = AutoModel.from_pretrained(name, use_safetensors=True, **pooling_arguments(config))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`backbone` must be a model's folder or Hub id, but {str(name)!r} is not: {reason}."
        ) from error
    backbone: PreTrainedModel | None = model.backbone if isinstance(model, CRHModel) else model
    if backbone is None:
        raise ValueError(f"`backbone` must read images or texts, but {str(name)!r} reads stored features.")
    return backbone


def store_features(
    backbone: PreTrainedModel,
    processor: Processor,
    parts: list[Dataset],
    folder: str | Path,
    *,
    num_views: int = 1,
    augment: Augmentation | str = "standard",
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> list[Path]:
    """Extract the features of a dataset into a folder, of which `load_table` makes the same dataset.

    Args:
        backbone: In evaluation mode.
        processor: Of the backbone.
        parts: One prepared dataset, which becomes `features.parquet`; or the training and the test set of an official
            division, `train.parquet` and `test.parquet`.
        folder: Made if it is missing.
        num_views: V, of the training set; a test set has one.
        augment: See `extract_views`.
        seed: Of the augmentation.
        batch_size: Items at a time.
        num_workers: Processes that prepare them; 0 does so in this one.

    Returns:
        The files.

    Raises:
        ValueError: If a file is there already, or as `extract_views`.
    """
    files = [Path(folder, f"{name}.parquet") for name in PART_NAMES[len(parts)]]
    _check_new(*files)
    views = (num_views, 1)[: len(parts)]
    how: dict[str, Any] = {"augment": augment, "seed": seed, "batch_size": batch_size, "num_workers": num_workers}
    features = [
        extract_views(backbone, processor, part, num_views=count, **how)
        for part, count in zip(parts, views, strict=True)
    ]
    has_views = num_views > 1
    return [
        write_features(values, part, file, has_views=has_views)
        for values, part, file in zip(features, parts, files, strict=True)
    ]


@torch.inference_mode()
def extract_views(
    backbone: PreTrainedModel,
    processor: Processor,
    split: Dataset,
    *,
    num_views: int = 1,
    augment: Augmentation | str = "standard",
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> Tensor:
    """Pooled features of items as they are, and of augmented views of them.

    Args:
        backbone: In evaluation mode.
        processor: Of the backbone: its image processor or tokenizer.
        split: With the columns `image` or `text`, and `label`.
        num_views: V, the first of which is the image as it is; 1 for texts.
        augment: How the others are augmented.
        seed: Of the augmentation.
        batch_size: Items at a time.
        num_workers: Processes that prepare them; 0 does so in this one.

    Returns:
        `(N, V, F)` float32 on the CPU.

    Raises:
        ValueError: If `num_views` is less than 1, or more than 1 for texts; or an image cannot be decoded.
    """
    is_text = isinstance(processor, PreTrainedTokenizerBase)
    if num_views < 1 or (is_text and num_views > 1):
        raise ValueError(f"`num_views` must be {'1 for texts' if is_text else 'at least 1'}, but got {num_views}.")
    views = []
    for view in range(num_views):
        items = labelled_dataset(split, processor, augment=augment if view else "none", seed=seed)
        items.set_epoch(view)
        loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size, num_workers=num_workers)
        parts = []
        for batch in progress_bar(loader, desc=f"Extracting view {view + 1} of {num_views}", unit="batch"):
            inputs = model_inputs(batch, backbone)
            pooled = pool(backbone(**inputs), inputs.get("attention_mask"), None, is_text=is_text)
            parts.append(pooled.float().cpu())
        views.append(torch.cat(parts))
    return torch.stack(views, dim=1)


def write_features(features: Tensor, split: Dataset, path: str | Path, *, has_views: bool = True) -> Path:
    """Write features, and all columns of a split but the images, into a parquet file that `load_table` reads.

    The file appears when it is complete, and not before.

    Args:
        features: `(N, V, F)` float32.
        split: N rows with the column `label`, and any others.
        path: The file; its folder is made if it is missing.
        has_views: Write a list of V views a row; False, which needs V = 1, writes the F numbers alone.

    Returns:
        `path`.

    Raises:
        ValueError: If `features` and `split` differ in length, or the file is there already.
    """
    target = Path(path)
    if len(features) != len(split):
        raise ValueError(f"`features` must have one row an item, but got {len(features)} for {len(split)} items.")
    _check_new(target)
    columns = {name: _named(split, name) for name in split.column_names if name != "image"}
    num_views, width = features.shape[1:]
    values: pa.Array = pa.FixedSizeListArray.from_arrays(pa.array(features.flatten().numpy()), width)
    if has_views:
        values = pa.ListArray.from_arrays(range(0, num_views * len(features) + 1, num_views), values)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as partial:
        pq.write_table(pa.table(columns | {"features": values}), partial)
    return target


def _check_new(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise ValueError(f"`path` must be a new file, but {str(file)!r} is there already.")


def _named(split: Dataset, column: str) -> pa.Array:
    """A column, with classes by their names."""
    feature, values = split.features[column], split.select_columns(column)[:][column]
    if isinstance(feature, ClassLabel):
        return pa.array([feature.names[value] for value in values], pa.string())
    if isinstance(feature, List) and isinstance(feature.feature, ClassLabel):
        return pa.array([[feature.feature.names[value] for value in row] for row in values], pa.list_(pa.string()))
    return pa.array(values)
