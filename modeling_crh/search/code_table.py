"""From the shards of codes that `crh encode` writes to an index."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modeling_crh.checks import check_path
from modeling_crh.encoding.shards import code_files, one_model, read_code_schema
from modeling_crh.search.hamming_index import HammingIndex

_COLUMNS = ("id", "path", "code", "label")


def index_codes(codes: str | Path, *, kind: str = "auto", model: str | None = None) -> HammingIndex:
    """Index the codes of a parquet file, or of all parquet files in a folder in the order of their names.

    Args:
        codes: With the column `code` of packed codes as fixed-size binary, and where they are there `id`, `path` and
            `label`; the metadata of the schema names the `model`, and may name its `revision` and the `num_bits`.
        kind: See `HammingIndex`.
        model: What the index calls the model instead; for one that has moved since, say to the Hub.

    Raises:
        ValueError: If there is no such file, it holds no codes, the files of a folder are of different models, or
            `crh encode` has not come to its end.
    """
    path = check_path("codes", codes)
    files = code_files(path)
    schemas = [read_code_schema(file) for file in files]
    found_model, revision, num_bits = one_model(schemas, path)
    tables = [_read(file, schema) for file, schema in zip(files, schemas, strict=True)]
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise ValueError(f"`codes` must be files with the same columns, but those in {str(codes)!r} differ.") from error
    if not len(table):
        raise ValueError(f"`codes` must hold at least one code, but {str(codes)!r} holds none.")
    packed = _packed(table["code"])
    if num_bits not in ("", str(8 * packed.shape[1])):
        raise ValueError(
            f"`codes` must have codes of {num_bits} bits, as its metadata says, but they have {8 * packed.shape[1]}."
        )
    columns = {name: table[name] if name in table.column_names else None for name in ("id", "label", "path")}
    return HammingIndex(
        packed,
        columns["id"],
        labels=columns["label"],
        paths=columns["path"],
        kind=kind,
        model=found_model if model is None else model,
        revision=revision if model is None else "",
    )


def _read(file: Path, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(file, columns=[name for name in _COLUMNS if name in schema.names])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"`codes` must be a parquet file that can be read, but {str(file)!r} is not.") from error


def _packed(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    if column.null_count:
        raise ValueError(f"`codes` must have a code in every row, but {column.null_count} have none.")
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    width = column.type.byte_width
    rows = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width).reshape(-1, width)
        for chunk in chunks
    ]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)
