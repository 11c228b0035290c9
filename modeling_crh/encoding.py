"""Codes of a whole dataset: as a tensor, or as a parquet file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import LabelledDataset
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.processing import model_inputs
from modeling_crh.progress_bar import progress_bar
from modeling_crh.whole_file import whole_file

CODES_NAME = "codes.parquet"


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


def write_codes(
    model: CRHModel,
    items: LabelledDataset,
    paths: list[str],
    folder: str | Path,
    *,
    model_name: str,
    batch_size: int = 256,
    num_workers: int = 0,
) -> Path:
    """Encode items into `codes.parquet`: columns `id`, `path`, `code`, and `label` where there are labels.

    `id` is the row's number, `code` the packed code as fixed-size binary, `label` the name of the class, or a list of
    names. The schema's metadata names the model and its bits. The file appears when it is complete, and not before.

    Args:
        model: The model.
        items: Not augmented.
        paths: Where each item comes from, in the order of `items`.
        folder: Made if it is missing.
        model_name: What the metadata calls the model.
        batch_size: Items at a time.
        num_workers: Processes that prepare them.

    Returns:
        Path of the file.

    Raises:
        ValueError: If `paths` and `items` differ in length, or the file is there already.
    """
    if len(paths) != len(items):
        raise ValueError(f"`paths` must have one entry an item, but got {len(paths)} for {len(items)} items.")
    target = Path(folder, CODES_NAME)
    if target.exists():
        raise ValueError(f"`folder` must hold no {CODES_NAME} yet, but {str(folder)!r} does.")
    schema = _schema(model, items, model_name)
    new_folder = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(target) as partial, pq.ParquetWriter(partial, schema) as writer:
            start = 0
            for codes in encode_batches(model, items, batch_size=batch_size, num_workers=num_workers):
                rows = slice(start, start + len(codes))
                writer.write_batch(_rows(codes, items, paths[rows], rows, schema))
                start += len(codes)
    except BaseException:
        if new_folder:
            target.parent.rmdir()
        raise
    return target


def _schema(model: CRHModel, items: LabelledDataset, model_name: str) -> pa.Schema:
    fields = [
        pa.field("id", pa.int64()),
        pa.field("path", pa.string()),
        pa.field("code", pa.binary(model.config.num_bits // 8)),
    ]
    if items.label_names:
        fields.append(pa.field("label", pa.list_(pa.string()) if items.is_multi_label else pa.string()))
    return pa.schema(fields, metadata={"model": model_name, "num_bits": str(model.config.num_bits)})


def _rows(codes: Tensor, items: LabelledDataset, paths: list[str], rows: slice, schema: pa.Schema) -> pa.RecordBatch:
    columns: list[list[Any]] = [
        list(range(rows.start, rows.stop)),
        paths,
        [code.tobytes() for code in pack_codes(codes).numpy()],
    ]
    names, labels = items.label_names, items.labels[rows]
    if names and items.is_multi_label:
        columns.append([[names[label] for label in row.nonzero().flatten().tolist()] for row in labels])
    elif names:
        columns.append([names[label] for label in labels.tolist()])
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema
    )
