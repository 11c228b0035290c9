"""Extract a backbone's features into tables, with any number of augmented views, to train a head in minutes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, List
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from modeling_crh.backbones import embed
from modeling_crh.data.rows import FILE_KINDS, PLURALS
from modeling_crh.encoding.encoder import run_batches
from modeling_crh.encoding.inputs import Processor, kind_of
from modeling_crh.encoding.items import Augmentation, labelled_dataset
from modeling_crh.encoding.labelled_items import LabelledDataset
from modeling_crh.encoding.loading import check_tower
from modeling_crh.runtime.atomic_files import first_file, only_run, whole_file

FILE_NAMES = {"all": "features", "query": "test"}  # other parts keep their names


def store_features(
    backbone: PreTrainedModel,
    processor: Processor,
    parts: dict[str, Dataset],
    folder: str | Path,
    *,
    num_views: int = 1,
    **settings: Any,
) -> list[Path]:
    """Extract the features of a dataset into a new or empty folder of tables, which `load_splits` reads.

    Of the parts of `read_parts`, `all` becomes `features.parquet`, and `train`, `validation` and `query` become
    `train.parquet`, `validation.parquet` and `test.parquet`. Items to train on have `num_views` views each, and others
    one. The other arguments are those of `extract_views`.

    Returns:
        Paths of the tables.

    Raises:
        ValueError: If `folder` holds anything, another run writes to it, or an argument breaks a rule of
            `extract_views`.
    """
    files = {name: Path(folder, f"{FILE_NAMES.get(name, name)}.parquet") for name in parts}
    with only_run(Path(folder)):
        if (found := first_file(Path(folder))) is not None:
            raise ValueError(f"`out` must be a new or empty folder, but {str(folder)!r} holds {found!r}.")
        views = {name: num_views if name in ("all", "train") else 1 for name in parts}
        features = {
            name: extract_views(backbone, processor, part, num_views=views[name], **settings)
            for name, part in parts.items()
        }
        has_views = num_views > 1
        return [write_features(features[name], part, files[name], has_views=has_views) for name, part in parts.items()]


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
    """Compute pooled features of items, and of augmented views of them.

    Args:
        backbone: Backbone in evaluation mode.
        processor: Image processor, feature extractor or tokenizer of the backbone.
        split: A prepared dataset with the columns `image`, `audio` or `text`, and `label`.
        num_views: Number of views, V: the first is the unchanged item; 1 for all but images.
        augment: Augmentation of the other views.
        seed: Seed of the augmentation.
        batch_size: Number of items that go through the backbone at a time.
        num_workers: Number of processes that prepare items; 0 prepares them in this process.

    Returns:
        `(N, V, F)` float32 on the CPU.

    Raises:
        ValueError: If `num_views` is less than 1, or more than 1 for other items than images; or an image or
            a sound cannot be decoded.
    """
    kind = kind_of(backbone)
    if num_views < 1 or (kind != "image" and num_views > 1):
        rule = "at least 1" if kind == "image" else f"1 for {PLURALS[kind]}"
        raise ValueError(f"`num_views` must be {rule}, but got {num_views}.")
    check_tower(backbone, split.column_names)
    views = []
    for view in range(num_views):
        items = labelled_dataset(split, processor, augment=augment if view else "none", seed=seed)
        items.set_epoch(view)
        desc = f"Extracting view {view + 1} of {num_views}"
        views.append(torch.cat([*pooled_batches(backbone, items, batch_size, num_workers, desc=desc)]))
    return torch.stack(views, dim=1)


def pooled_batches(
    backbone: PreTrainedModel, items: LabelledDataset, batch_size: int = 64, num_workers: int = 0, *, desc: str
) -> Iterator[Tensor]:
    """Yield the features of the batches of a dataset, each `(N, F)` float32 on the CPU; see `extract_views`."""

    def pooled(**inputs: Tensor) -> Tensor:
        return embed(backbone, inputs)[0]

    loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size, num_workers=num_workers)
    yield from run_batches(backbone, loader, pooled, desc=desc)


def write_features(features: Tensor, split: Dataset, path: Path, *, has_views: bool = True) -> Path:
    """Write features, and all columns of a split but images and sounds, into a parquet file that `load_splits` reads.

    The file is written atomically; an older one is replaced.

    Args:
        features: Features of N items in V views, `(N, V, F)` float32.
        split: N rows with the column `label`, and any other columns.
        path: Path of the file, in a folder that exists.
        has_views: Whether to write a list of V views per row; False, which needs V = 1, writes only the F numbers.

    Returns:
        The path.
    """
    columns = {name: _named(split, name) for name in split.column_names if name not in FILE_KINDS}
    num_views, width = features.shape[1:]
    values: pa.Array = pa.FixedSizeListArray.from_arrays(pa.array(features.flatten().numpy()), width)
    if has_views:
        values = pa.ListArray.from_arrays(range(0, num_views * len(features) + 1, num_views), values)
    with whole_file(path) as partial:
        pq.write_table(pa.table(columns | {"features": values}), partial)
    return path


def _named(split: Dataset, column: str) -> pa.Array:
    """Read a column, with class ids replaced by names, and None for a row without a class."""
    feature, values = split.features[column], split.select_columns(column)[:][column]
    if isinstance(feature, ClassLabel):
        return pa.array([None if value < 0 else feature.names[value] for value in values], pa.string())
    if isinstance(feature, List) and isinstance(feature.feature, ClassLabel):
        return pa.array([[feature.feature.names[value] for value in row] for row in values], pa.list_(pa.string()))
    return pa.array(values)
