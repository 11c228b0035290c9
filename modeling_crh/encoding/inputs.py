"""Turn rows of images, sounds, texts or features into batches of model inputs, prepared by worker processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SequenceFeatureExtractor,
)

from modeling_crh.backbones import KINDS
from modeling_crh.data.open_source import Row
from modeling_crh.data.rows import BadRow, Kind, read_value
from modeling_crh.images import needed_side, pixel_values
from modeling_crh.pipeline_crh import tokenize
from modeling_crh.pretrained import declared_texts
from modeling_crh.processors import fit_processor
from modeling_crh.saved_files import FINDING_ARGUMENTS, read_checked
from modeling_crh.sounds import sound_inputs

Processor = BaseImageProcessor | SequenceFeatureExtractor | PreTrainedTokenizerBase | None
"""Preprocessor of a model: image processor, feature extractor of sound, tokenizer, or None for stored features."""

_LOADERS: dict[Kind, Any] = {"image": AutoImageProcessor, "audio": AutoFeatureExtractor, "text": AutoTokenizer}


class InputBatch(NamedTuple):
    """Rows of one shard, ready for the model.

    Attributes:
        shard: Number of the shard.
        rows: N rows, without their values.
        inputs: Inputs by name, each `(N, ...)`; empty if N is 0.
        left_out: Ids and faults of the rows that cannot be read.
        fault: Error if the batch cannot be encoded, or None.
    """

    shard: int
    rows: list[Row]
    inputs: dict[str, Tensor]
    left_out: list[tuple[int | str, BadRow]]
    fault: Exception | None = None


def kind_of(model: PreTrainedModel) -> Kind:
    """Return the kind of input of a model: image, audio, text or features.

    Raises:
        ValueError: If the model reads another kind of input.
    """
    if model.main_input_name not in (*KINDS, "features"):
        raise ValueError(f"`model` must read images, sounds, texts or features, but reads `{model.main_input_name}`.")
    return KINDS.get(model.main_input_name, "features")


def load_processor(name: str | Path, model: PreTrainedModel, **loading: Any) -> Processor:
    """Load the image processor, feature extractor or tokenizer that was saved with a model or with its backbone.

    `fit_processor` fits it to the model. `loading` are arguments of `from_pretrained`. Features have none.

    Raises:
        OSError: If none was saved.
        ValueError: If its files are damaged, or it cannot prepare inputs of the model.
    """
    kind = kind_of(model)
    if kind == "features":
        return None
    finding = {key: loading[key] for key in FINDING_ARGUMENTS if key in loading}
    for file in ("preprocessor_config", "processor_config", "tokenizer_config"):
        read_checked(name, f"{file}.json", **finding)
    loading.setdefault("trust_remote_code", False)  # or transformers asks at the terminal
    if kind == "image":
        loading["do_convert_rgb"] = True
    processor: Any = _LOADERS[kind].from_pretrained(name, **loading)
    if kind == "text":
        longest, prompt = declared_texts(name, **finding)
        processor.model_max_length = min(processor.model_max_length, longest or processor.model_max_length)
        if prompt:
            processor.init_kwargs["prompt"] = prompt  # `tokenize` puts it before every text
    return cast(Processor, fit_processor(processor, model))


def make_inputs(values: Sequence[Any], processor: Processor) -> dict[str, Tensor]:
    """Turn N images, sounds, texts or feature vectors, as `read_value` returns them, into the inputs of a model.

    Returns:
        `pixel_values`, or what `sound_inputs` makes, or `input_ids` and the tokenizer's other outputs, or `features`:
        each with N rows.

    Raises:
        ValueError: If the values cannot be put into one batch.
    """
    if isinstance(processor, BaseImageProcessor):
        return {"pixel_values": pixel_values(processor, values)}
    if isinstance(processor, SequenceFeatureExtractor):
        return sound_inputs(processor, values)
    if isinstance(processor, PreTrainedTokenizerBase):
        return tokenize(processor, list(values))
    first_views = [value[0] if value.ndim == 2 else value for value in values]
    widths = {len(value) for value in first_views}
    if len(widths) > 1:
        raise ValueError(f"`features` must hold as many numbers in every row, but hold {sorted(widths)}.")
    return {"features": torch.from_numpy(np.stack(first_views))}


def model_inputs(batch: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """Move a batch to the device and precision of a model, without its labels."""
    return {
        name: values.to(model.device, model.dtype if values.is_floating_point() else None)
        for name, values in batch.items()
        if name != "labels"
    }


def input_batches(
    shards: Iterable[tuple[int, Iterator[Row]]],
    kind: Kind,
    processor: Processor,
    *,
    batch_size: int,
    num_workers: int = 0,
    skip_bad: bool | None = False,
    pin_memory: bool = False,
) -> Iterator[InputBatch]:
    """Prepare rows for the model: this process reads them, and workers decode them, two batches ahead each.

    Args:
        shards: Numbers and rows of shards, see `OpenedSource.shards`.
        kind: Kind of the rows: image, audio, text or features.
        processor: Image processor, feature extractor or tokenizer of the model.
        batch_size: Largest number of rows of a batch; a batch never holds rows of two shards.
        num_workers: Number of worker processes; 0 prepares rows in this process.
        skip_bad: True leaves out unreadable rows; False and None report them as a fault, and only False mentions how
            to skip them.
        pin_memory: Whether to pin the batches in memory for a faster copy to a GPU.
    """
    loader: DataLoader[InputBatch] = DataLoader(
        _RowInputs(kind, processor, skip_bad),
        sampler=_batches(shards, batch_size),
        batch_size=None,  # a "sample" of this loader is a batch
        collate_fn=_share,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
    yield from loader


def _batches(shards: Iterable[tuple[int, Iterator[Row]]], batch_size: int) -> Iterator[tuple[int, list[Row]]]:
    for shard, rows in shards:
        while batch := list(islice(rows, batch_size)):
            yield shard, batch


def _share(batch: Any) -> Any:
    """Move inputs to shared memory at once in a worker: the thread that sends them would hide that there is no room."""
    if torch.utils.data.get_worker_info() is not None:
        for values in batch.inputs.values():
            values.share_memory_()
    return batch


class _RowInputs(torch.utils.data.Dataset[InputBatch]):
    """Dataset whose items are whole batches, prepared in the worker processes."""

    def __init__(self, kind: Kind, processor: Processor, skip_bad: bool | None) -> None:
        self._kind, self._processor, self._skip_bad = kind, processor, skip_bad
        self._least_side = needed_side(processor) if isinstance(processor, BaseImageProcessor) else None

    def __getitem__(self, batch: Any) -> InputBatch:
        """Prepare a batch; an error is stored in it, since a worker would hide its message in a traceback."""
        shard, rows = batch
        try:
            kept, values, left_out = self._read(rows)
            inputs = make_inputs(values, self._processor) if values else {}
        except (ValueError, OSError, ModuleNotFoundError) as error:
            return InputBatch(shard, [], {}, [], error)
        return InputBatch(shard, [row._replace(value=None) for row in kept], inputs, left_out)

    def _read(self, rows: list[Row]) -> tuple[list[Row], list[Any], list[tuple[int | str, BadRow]]]:
        kept, values, left_out = [], [], []
        for row in rows:
            value = read_value(self._kind, row.value, row.path, self._least_side)
            if not isinstance(value, BadRow):
                kept.append(row)
                values.append(value)
            elif self._skip_bad:
                left_out.append((row.id, value))
            else:
                raise value.as_error(can_skip=self._skip_bad is not None)
        return kept, values, left_out


def select_after_transform(dataset: Dataset, names: set[str]) -> Dataset:
    """Keep of what a dataset's own transform makes only the columns that a model reads; the transform gets all."""
    transform = dataset.format["format_kwargs"]["transform"]
    kept: Dataset = dataset.with_transform(partial(_select, transform, names))
    return kept


def _select(transform: Callable[[Any], dict[str, Any]], names: set[str], batch: Any) -> dict[str, Any]:
    return {name: values for name, values in transform(batch).items() if name in names}
