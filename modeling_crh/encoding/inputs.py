"""Turn images, texts and features into the inputs of a model."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_crh.data import BadImage, SourceRow
from modeling_crh.data.images import REMEDY, try_decode
from modeling_crh.encoding.augmentation import Augmentation
from modeling_crh.encoding.items import FeatureDataset, ImageDataset, LabelledDataset, TextDataset, process_images

Processor = BaseImageProcessor | PreTrainedTokenizerBase | None


def load_processor(name: str | Path, main_input_name: str) -> Processor:
    """The image processor or tokenizer that was saved with a model.

    Args:
        name: A folder or a Hub id.
        main_input_name: What the model reads: `pixel_values`, `input_ids` or `features`.

    Raises:
        OSError: If it is not there.
    """
    if main_input_name == "features":
        return None
    if main_input_name == "input_ids":
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
        return tokenizer
    image_processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(name, do_convert_rgb=True)
    return image_processor


def labelled_dataset(
    split: Dataset, processor: Processor, *, augment: Augmentation | str = "none", training: bool = False, seed: int = 0
) -> LabelledDataset:
    """A split as what the model reads.

    Args:
        split: With a column `image`, `text` or `features`, and `label`.
        processor: Of the model.
        augment: Of images.
        training: Whether features with several views a row are to be seen in all of them.
        seed: Of augmentation and views.

    Raises:
        ValueError: If the model does not read what the split holds.
    """
    if "features" in split.column_names and processor is None:
        return FeatureDataset(split, first_view=not training, seed=seed)
    if "text" in split.column_names and isinstance(processor, PreTrainedTokenizerBase):
        return TextDataset(split, processor)
    if "image" in split.column_names and isinstance(processor, BaseImageProcessor):
        return ImageDataset(split, processor, augment=augment, seed=seed)
    reads = "features" if processor is None else "text" if isinstance(processor, PreTrainedTokenizerBase) else "image"
    raise ValueError(f"`dataset` must have a column {reads!r}, which the model reads, but has {split.column_names}.")


def model_inputs(batch: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """A batch of a `LabelledDataset` without its labels, on the device and in the precision of a model."""
    return {
        name: values.to(model.device, model.dtype if values.is_floating_point() else None)
        for name, values in batch.items()
        if name != "labels"
    }


class InputBatch(NamedTuple):
    """Rows of one shard, ready for the model.

    Attributes:
        shard: Its number.
        rows: N rows, without their values.
        inputs: Each `(N, ...)`; none where N is 0.
        left_out: Ids of images that cannot be decoded, and what is wrong with them.
        fault: Why the batch cannot be encoded, or None.
    """

    shard: int
    rows: list[SourceRow]
    inputs: dict[str, Tensor]
    left_out: list[tuple[int, BadImage]]
    fault: str | None = None


def input_batches(
    shards: Iterable[tuple[int, Iterator[SourceRow]]],
    processor: Processor,
    *,
    batch_size: int,
    num_workers: int = 0,
    skip_bad_images: bool = False,
    pin_memory: bool = False,
) -> Iterator[InputBatch]:
    """Prepare rows for the model; this process reads them, and the workers decode them, two batches ahead each.

    Args:
        shards: See `Source.shards`.
        processor: Of the model.
        batch_size: Most rows of a batch; a batch never holds rows of two shards.
        num_workers: Processes that prepare rows; 0 does so in this one.
        skip_bad_images: Leave out images that cannot be decoded; else they are a fault.
        pin_memory: For copies to a GPU.

    Yields:
        Batches in the order of the rows.
    """
    loader: DataLoader[InputBatch] = DataLoader(
        _RowInputs(processor, skip_bad_images),
        sampler=_batches(shards, batch_size),
        batch_size=None,  # a "sample" is a batch already
        collate_fn=_as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
    yield from loader


def _batches(
    shards: Iterable[tuple[int, Iterator[SourceRow]]], batch_size: int
) -> Iterator[tuple[int, list[SourceRow]]]:
    for shard, rows in shards:
        while batch := list(islice(rows, batch_size)):
            yield shard, batch


def _as_it_is(batch: Any) -> Any:
    return batch


class _RowInputs(torch.utils.data.Dataset[InputBatch]):
    """What the workers do: "index" it with rows."""

    def __init__(self, processor: Processor, skip_bad_images: bool) -> None:
        self._processor = processor
        self._skip_bad_images = skip_bad_images

    def __getitem__(self, batch: Any) -> InputBatch:
        """The inputs of a batch of rows; an error is a fault of the batch, since a worker would wrap its sentence."""
        shard, rows = batch
        left_out: list[tuple[int, BadImage]] = []
        try:
            if isinstance(self._processor, BaseImageProcessor):
                rows, inputs, left_out = self._images(rows, self._processor)
            elif isinstance(self._processor, PreTrainedTokenizerBase):
                inputs = _tokens(rows, self._processor)
            else:
                inputs = _features(rows)
        except ValueError as error:
            return InputBatch(shard, [], {}, [], str(error))
        return InputBatch(shard, [row._replace(value=None) for row in rows], inputs, left_out)

    def _images(
        self, rows: list[SourceRow], processor: BaseImageProcessor
    ) -> tuple[list[SourceRow], dict[str, Tensor], list[tuple[int, BadImage]]]:
        images, kept, left_out = [], [], []
        for row in rows:
            image = try_decode(row.value, row.path)
            if isinstance(image, Tensor):
                images.append(image)
                kept.append(row)
            elif self._skip_bad_images:
                left_out.append((row.id, image))
            else:
                raise image.as_error(REMEDY)
        return kept, {"pixel_values": process_images(processor, images)} if images else {}, left_out


def _tokens(rows: list[SourceRow], tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    for row in rows:
        if not isinstance(row.value, str):
            raise ValueError(f"`text` must be a string, but {row.path} has {row.value!r:.80}.")
    return dict(tokenizer([row.value for row in rows], padding=True, truncation=True, return_tensors="pt"))


def _features(rows: list[SourceRow]) -> dict[str, Tensor]:
    """The first view of every row, `(N, F)` float32."""
    features = [_numbers(row) for row in rows]
    for row, numbers in zip(rows, features, strict=True):
        if numbers.shape != features[0].shape:
            raise ValueError(
                f"`features` must hold numbers of one shape in every row, but {rows[0].path} has {features[0].shape} "
                f"and {row.path} {numbers.shape}."
            )
    return {"features": torch.from_numpy(np.stack(features))}


def _numbers(row: SourceRow) -> np.ndarray:
    try:
        views = list(row.value) if isinstance(row.value, np.ndarray) and row.value.dtype == object else row.value
        numbers = np.asarray(views, dtype=np.float32)  # (F,) or (V, F)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`features` must hold numbers, but {row.path} does not: {error}.") from error
    if numbers.ndim not in (1, 2) or 0 in numbers.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but {row.path} has {numbers.shape}.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"`features` must be finite, but {row.path} is not.")
    return numbers[0] if numbers.ndim == 2 else numbers
