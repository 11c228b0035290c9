"""Extract the features of a backbone once, with any number of augmented views: a head trains on them in minutes."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, List
from datasets.utils import tqdm
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModel, BaseImageProcessor, PreTrainedModel

from modeling_crh.data import Augmentation, ImageDataset
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.pooling import pool, pooling_arguments


def load_backbone(name: str | Path) -> PreTrainedModel:
    """A backbone in evaluation mode; of a CRH model, the one inside.

    Args:
        name: A folder or a Hub id.

    Raises:
        ValueError: If there is no such model, or it has no backbone.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        model = AutoModel.from_pretrained(name, **pooling_arguments(config))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`backbone` must be a model's folder or Hub id, but {str(name)!r} is not: {reason}."
        ) from error
    backbone: PreTrainedModel | None = model.backbone if isinstance(model, CRHModel) else model
    if backbone is None:
        raise ValueError(f"`backbone` must read images, but {str(name)!r} reads stored features.")
    return backbone


@torch.inference_mode()
def extract_views(
    backbone: PreTrainedModel,
    image_processor: BaseImageProcessor,
    split: Dataset,
    *,
    num_views: int = 1,
    augment: Augmentation | str = "standard",
    seed: int = 0,
    batch_size: int = 64,
) -> Tensor:
    """Pooled features of images as they are, and of augmented views of them.

    Args:
        backbone: In evaluation mode.
        image_processor: Of the backbone.
        split: With the columns `image` and `label`.
        num_views: V, the first of which is the image as it is.
        augment: How the others are augmented.
        seed: Of the augmentation.
        batch_size: Images at a time.

    Returns:
        `(N, V, F)` float32 on the CPU.

    Raises:
        ValueError: If `num_views` is less than 1, or an image cannot be decoded.
    """
    if num_views < 1:
        raise ValueError(f"`num_views` must be at least 1, but got {num_views}.")
    views = []
    for view in range(num_views):
        images = ImageDataset(split, image_processor, augment=augment if view else "none", seed=seed)
        images.set_epoch(view)
        loader: DataLoader[dict[str, Tensor]] = DataLoader(images, batch_size=batch_size)
        parts = []
        for batch in tqdm(loader, desc=f"Extracting view {view + 1} of {num_views}", unit="batch", delay=2):
            outputs = backbone(pixel_values=batch["pixel_values"].to(backbone.device, backbone.dtype))
            parts.append(pool(outputs, None, None, is_text=False).float().cpu())
        views.append(torch.cat(parts))
    return torch.stack(views, dim=1)


def write_features(features: Tensor, split: Dataset, path: str | Path) -> Path:
    """Write features, and all columns of a split but the images, into a parquet file that `load_table` reads.

    The file appears when it is complete, and not before.

    Args:
        features: `(N, V, F)` float32; one view a row is written as `(F,)`.
        split: N rows with the columns `image` and `label`, and any others.
        path: The file; its folder is made if it is missing.

    Returns:
        `path`.

    Raises:
        ValueError: If `features` and `split` differ in length, or the file is there already.
    """
    target = Path(path)
    if len(features) != len(split):
        raise ValueError(f"`features` must have one row an image, but got {len(features)} for {len(split)} images.")
    if target.exists():
        raise ValueError(f"`path` must be a new file, but {str(target)!r} is there already.")
    columns = {name: _named(split, name) for name in split.column_names if name != "image"}
    values: pa.Array = pa.array(features.flatten().numpy())
    for size in features.shape[:0:-1] if features.shape[1] > 1 else features.shape[2:]:
        values = pa.FixedSizeListArray.from_arrays(values, size)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        pq.write_table(pa.table(columns | {"features": values}), partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _named(split: Dataset, column: str) -> pa.Array:
    """A column, with classes by their names."""
    feature, values = split.features[column], split.select_columns(column)[:][column]
    if isinstance(feature, ClassLabel):
        return pa.array([feature.names[value] for value in values], pa.string())
    if isinstance(feature, List) and isinstance(feature.feature, ClassLabel):
        return pa.array([[feature.feature.names[value] for value in row] for row in values], pa.list_(pa.string()))
    return pa.array(values)
