"""Encode items into codes: whole datasets in memory, or sources of any length into shards."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from modeling_crh.checks import is_whole
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import BadImage, Source, SourceRow
from modeling_crh.encoding.inputs import InputBatch, Processor, input_batches, model_inputs
from modeling_crh.encoding.items import LabelledDataset
from modeling_crh.encoding.manifest import EncodingRecord, model_fields
from modeling_crh.encoding.shards import CodeShards
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.terminal import progress_bar


@dataclass(frozen=True)
class EncodedItems:
    """Codes and labels of a dataset.

    Attributes:
        codes: `(N, K)` int8, every entry -1 or +1.
        labels: `(N,)` int64, or `(N, C)` of 0 and 1.
        label_names: Of the C classes.
    """

    codes: Tensor
    labels: Tensor
    label_names: list[str]


def encode_batches(
    model: CRHModel, items: LabelledDataset, *, batch_size: int = 256, num_workers: int = 0
) -> Iterator[Tensor]:
    """Codes of the items in their order, a batch at a time, on the model's device, with a progress bar.

    Args:
        model: Put into evaluation mode.
        items: Not augmented.
        batch_size: Items at a time.
        num_workers: Processes that prepare them; 0 does so in this one.

    Yields:
        `(N, K)` int8 on the CPU, every entry -1 or +1.
    """
    model.eval()  # type: ignore[no-untyped-call]
    loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size, num_workers=num_workers)
    for batch in progress_bar(loader, desc="Encoding", unit="batch"):
        with torch.inference_mode():
            output = model(**model_inputs(batch, model))
        yield binarize(output.hash_logits).cpu()


def encode_items(
    model: CRHModel, items: LabelledDataset, *, batch_size: int = 256, num_workers: int = 0
) -> EncodedItems:
    """All codes at once, with the labels of the items. See `encode_batches`."""
    codes = torch.cat(list(encode_batches(model, items, batch_size=batch_size, num_workers=num_workers)))
    return EncodedItems(codes, items.labels, items.label_names)


_READS = {"pixel_values": "image", "input_ids": "text", "features": "features"}
_PLURALS = {"image": "images", "text": "texts", "features": "features"}
_LONGEST_WAIT = timedelta(days=30)  # of processes that are done for those that are not


@dataclass(frozen=True)
class EncodedSource:
    """What is in the folder at the end.

    Attributes:
        folder: Of the shards.
        items: Number of codes.
        left_out: Images that cannot be decoded, also those that an earlier run has found.
        was_complete: Whether there was nothing left to do.
    """

    folder: Path
    items: int
    left_out: list[BadImage]
    was_complete: bool


def encode_source(
    model: CRHModel,
    processor: Processor,
    source: Source,
    folder: str | Path,
    *,
    model_name: str,
    columns: dict[str, str | None] | None = None,
    shard_size: int = 10_000,
    batch_size: int = 64,
    num_workers: int = 0,
    skip_bad_images: bool = False,
) -> EncodedSource:
    """Write the codes of a source into a folder of parquet shards, see `CodeShards`.

    Every process that `accelerate` launched encodes its own shards, on its own device. A shard is kept in memory until
    it is whole; a run that stops loses no more than that, and the next one, on any number of processes, goes on.

    Args:
        model: Put into evaluation mode, and moved to the device of the process.
        processor: Of the model.
        source: What to encode.
        folder: New, empty, or what an earlier run with the same model and source has begun.
        model_name: What the metadata calls the model.
        columns: The options that `source` was opened with, which a run that goes on must have too.
        shard_size: Rows of a shard.
        batch_size: Rows at a time.
        num_workers: Processes that decode; 0 does so in this one.
        skip_bad_images: Leave out images that cannot be decoded.

    Raises:
        ValueError: If the model reads something else than `source` holds, `folder` holds other codes, an option is no
            positive number, a row is no good, or an image cannot be decoded, unless `skip_bad_images`.
    """
    for name, value in (("shard_size", shard_size), ("batch_size", batch_size)):
        if not is_whole(value) or value < 1:
            raise ValueError(f"`{name}` must be a whole number, 1 or larger, but got {value!r}.")
    check_kind(model, source.kind)
    record = EncodingRecord(
        **model_fields(model, processor, model_name),
        source=source.name,
        source_version=source.version,
        columns=columns or {},
        shard_size=shard_size,
    )
    shards = CodeShards(folder, record, _label_type(source))
    state = _own_state()
    was_complete = shards.is_complete
    if not was_complete:
        batches = _own_batches(
            shards, source, processor, state, batch_size=batch_size, num_workers=num_workers, skip=skip_bad_images
        )
        _encode(model.to(state.device), batches, shards)
        state.wait_for_everyone()
        if state.is_main_process:
            shards.complete()
    items, left_out = shards.count()
    return EncodedSource(shards.folder, items, left_out, was_complete)


def check_kind(model: CRHModel, kind: str) -> None:
    """Check that a model reads what a source holds.

    Args:
        model: The model.
        kind: Of the source: `image`, `text` or `features`.

    Raises:
        ValueError: If it does not.
    """
    reads = _READS[model.main_input_name]
    if kind != reads:
        rule = f"`{kind}_column` must be left out" if reads == "image" else f"`{reads}_column` must name a column"
        raise ValueError(f"{rule}, since the model reads {_PLURALS[reads]} and not {_PLURALS[kind]}.")


def _own_state() -> PartialState:
    """Of this process among those that were launched: without a GPU they must be told that they are of one group."""
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=_LONGEST_WAIT)


def _label_type(source: Source) -> pa.DataType | None:
    if not source.has_labels:
        return None
    return pa.list_(pa.string()) if source.is_multi_label else pa.string()


def _own_batches(
    shards: CodeShards,
    source: Source,
    processor: Processor,
    state: PartialState,
    *,
    batch_size: int,
    num_workers: int,
    skip: bool,
) -> Iterator[InputBatch]:
    """Batches of the shards of this process that are not there yet, with a progress bar on the main one."""
    size, done = shards.record.shard_size, shards.done()
    first = next(number for number in range(len(done) + 1) if number not in done)
    own = source.shards(
        size,
        wanted=lambda number: number % state.num_processes == state.process_index and number not in done,
        first=first,
    )
    batches = input_batches(
        own,
        processor,
        batch_size=batch_size,
        num_workers=num_workers,
        skip_bad_images=skip,
        pin_memory=state.device.type == "cuda",
    )
    left = None if source.num_rows is None else max(source.num_rows - len(done) * size, 0) // state.num_processes
    with progress_bar(total=left, desc="Encoding", unit="item", disable=None if state.is_main_process else True) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch.rows) + len(batch.left_out))


def _encode(model: CRHModel, batches: Iterator[InputBatch], shards: CodeShards) -> None:
    """Encode batches, and write each shard when the batches of the next one come."""
    model.eval()  # type: ignore[no-untyped-call]
    for number, parts in groupby(batches, key=lambda batch: batch.shard):
        rows: list[SourceRow] = []
        packed: list[NDArray[np.uint8]] = [np.empty((0, model.config.num_bits // 8), np.uint8)]
        left_out: list[tuple[int, BadImage]] = []
        for batch in parts:
            if batch.fault is not None:
                raise ValueError(batch.fault)
            if batch.rows:
                packed.append(_packed_codes(model, batch))
            rows += batch.rows
            left_out += batch.left_out
        shards.write(number, rows, np.concatenate(packed), left_out)


def _packed_codes(model: CRHModel, batch: InputBatch) -> NDArray[np.uint8]:
    """`(N, K / 8)`."""
    with torch.inference_mode():
        logits = model(**model_inputs(batch.inputs, model)).hash_logits
    packed: NDArray[np.uint8] = pack_codes(binarize(logits)).cpu().numpy()
    return packed
