"""Encode datasets in memory, and sources of any length into folders of shards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from modeling_crh.checks import check_whole
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data.open_source import OpenedSource, Row
from modeling_crh.data.rows import FILE_KINDS, PLURALS, BadRow, Kind
from modeling_crh.encoding.encoder import Encoder, run_batches
from modeling_crh.encoding.inputs import InputBatch
from modeling_crh.encoding.labelled_items import LabelledDataset
from modeling_crh.encoding.manifest import EncodingRecord, model_fields
from modeling_crh.encoding.shards import CodeShards
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.atomic_files import only_run
from modeling_crh.runtime.processes import own_state
from modeling_crh.runtime.terminal import progress_bar


@dataclass(frozen=True)
class EncodedItems:
    """Codes and labels of a dataset.

    Attributes:
        codes: Codes `(N, K)` int8, every entry -1 or +1.
        labels: Class ids `(N,)` int64, -100 for no label; or multi-hot rows `(N, C)` of 0 and 1.
        label_names: Names of the C classes.
        hash_logits: Hash logits `(N, K)` float32, whose signs are the codes; None where only codes were kept.
    """

    codes: Tensor
    labels: Tensor
    label_names: list[str]
    hash_logits: Tensor | None = None


@dataclass(frozen=True)
class EncodedSource:
    """A source that was encoded.

    Attributes:
        folder: Folder of the shards.
        items: Number of codes.
        left_out: Rows that cannot be read, including those found by an earlier run.
        was_complete: Whether an earlier run had already written all codes.
    """

    folder: Path
    items: int
    left_out: list[BadRow]
    was_complete: bool


def encode_items(
    model: CRHModel, items: LabelledDataset, *, batch_size: int = 256, num_workers: int = 0, keep_logits: bool = False
) -> EncodedItems:
    """Encode a dataset in memory.

    Args:
        model: Model to encode with; it is put into evaluation mode.
        items: Dataset to encode, without augmentation.
        batch_size: Number of items that go through the model at a time.
        num_workers: Number of processes that prepare items; 0 prepares them in this process.
        keep_logits: Whether to keep the hash logits beside the codes, as queries of an asymmetric search need.
    """
    model.train(False)
    loader: DataLoader[dict[str, Tensor]] = DataLoader(items, batch_size=batch_size, num_workers=num_workers)
    parts = run_batches(model, loader, desc="Encoding")
    if not keep_logits:
        return EncodedItems(torch.cat([*map(binarize, parts)]), items.labels, items.label_names)
    hash_logits = torch.cat([*parts])
    return EncodedItems(binarize(hash_logits), items.labels, items.label_names, hash_logits)


def encode_source(
    encoder: Encoder,
    source: OpenedSource,
    folder: str | Path,
    *,
    model_name: str,
    options: Mapping[str, str] | None = None,
    shard_size: int = 10_000,
    skip_bad: bool = False,
) -> EncodedSource:
    """Write the codes of a source into a folder of parquet shards, see `CodeShards`.

    Every process that `accelerate` launched encodes its own shards, on its own device. A shard is kept in memory until
    it is complete; an interrupted run loses at most that, and a later run, on any number of processes, continues it.

    Args:
        encoder: Encoder of the model.
        source: Opened source to encode.
        folder: Folder of the codes: new, empty, or begun by an earlier run with the same model and source.
        model_name: Name of the model in the metadata.
        options: Options that `source` was opened with; a run that continues another one must have the same.
        shard_size: Number of source rows per shard.
        skip_bad: Whether to leave out unreadable rows.

    Raises:
        ValueError: If the kinds of model and `source` differ, `folder` holds other codes or is in use, a size is not a
            positive whole number, or `source` changes meanwhile; or, without `skip_bad`, if a row cannot be read.
        OSError: If the operating system cannot read a row, such as for a denied permission.
    """
    for name, value in (("shard_size", shard_size), ("batch_size", encoder.batch_size)):
        check_whole(name, value)
    check_kind(encoder.reads, source.kind)
    record = EncodingRecord(
        **model_fields(encoder.model, encoder.processor, model_name),
        source=source.name,
        source_version=source.version,
        options=dict(options or {}),
        shard_size=shard_size,
        dtype=encoder.dtype,
    )
    layout = record, _label_type(source), pa.string() if source.has_string_ids else pa.int64()
    shards = CodeShards(folder, *layout)
    state = own_state()
    was_complete = shards.is_complete
    if not was_complete:
        with only_run(shards.folder, is_main=state.is_main_process, wait=state.wait_for_everyone):
            shards = CodeShards(folder, *layout)  # another run may have written since
            encoder.begin(source, shards)
            _encode(encoder, _own_batches(encoder, source, shards, state, skip_bad), shards)
            state.wait_for_everyone()
            if state.is_main_process:
                if source.has_changed():
                    raise ValueError(
                        f"`source` must not change while it is encoded, but files of {source.name!r} have; encode it "
                        "into another `out`."
                    )
                shards.complete()
    items, left_out = shards.count()
    return EncodedSource(shards.folder, items, left_out, was_complete)


def check_kind(reads: Kind, kind: Kind) -> None:
    """Raise a `ValueError` unless what a model reads is the kind of the rows of a source."""
    if kind != reads:
        rule = f"`{kind}_column` must be left out" if reads == "image" else f"`{reads}_column` must name a column"
        if kind in FILE_KINDS and reads in FILE_KINDS:  # a folder has no columns
            rule = f"`source` must hold {PLURALS[reads]}"
        raise ValueError(f"{rule}, since the model reads {PLURALS[reads]} and not {PLURALS[kind]}.")


def _label_type(source: OpenedSource) -> pa.DataType | None:
    form = source.columns.label
    return None if form is None else pa.list_(pa.string()) if form.is_list else pa.string()


def _own_batches(
    encoder: Encoder, source: OpenedSource, shards: CodeShards, state: PartialState, skip_bad: bool
) -> Iterator[InputBatch]:
    """Yield batches of this process's missing shards, with a progress bar in the main process."""
    size, done = shards.record.shard_size, shards.done()
    first = next(number for number in range(len(done) + 1) if number not in done)
    own = source.shards(
        size,
        wanted=lambda number: number % state.num_processes == state.process_index and number not in done,
        first=first,
    )
    total = source.num_rows
    left = None if total is None else max(total - len(done) * size, 0) // state.num_processes
    with progress_bar(total=left, desc="Encoding", unit="item", disable=None if state.is_main_process else True) as bar:
        for batch in encoder.batches(own, skip_bad=skip_bad, num_rows=left):
            yield batch
            bar.update(len(batch.rows) + len(batch.left_out))


def _encode(encoder: Encoder, batches: Iterator[InputBatch], shards: CodeShards) -> None:
    """Encode batches, and write each shard when the batches of the next one come."""
    for number, parts in groupby(batches, key=lambda batch: batch.shard):
        rows: list[Row] = []
        packed: list[NDArray[np.uint8]] = [np.empty((0, encoder.num_bits // 8), np.uint8)]
        left_out: list[tuple[int | str, BadRow]] = []
        for batch in parts:
            packed.append(pack_codes(binarize(encoder.batch_logits(batch))).numpy())
            rows += batch.rows
            left_out += batch.left_out
        shards.write(number, rows, np.concatenate(packed), left_out)
