"""From the shards of codes that `crh encode` writes to a table, a part at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modeling_crh.checks import check_path
from modeling_crh.encoding.shards import code_files, one_model, read_code_schema
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.search.index_items import COLUMNS, Items
from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.search.lance_rows import CODE, LanceSettings, make_rows
from modeling_crh.search.lance_table import LancePlace, check_table_kind, check_target, write_table

_ROWS = 1 << 18  # at a time


def codes_to_table(
    codes: str | Path,
    uri: str | Path,
    *,
    kind: str = "auto",
    model: str | None = None,
    append: bool = False,
    storage_options: dict[str, str] | None = None,
) -> LanceIndex:
    """Write codes as a table, as the new version of one that is there, or into one.

    Args:
        codes: A parquet file or a folder of some, see `modeling_crh.search.index_codes`. Columns beside those that it
            names are kept to filter by.
        uri: See `LanceIndex`.
        kind: See `modeling_crh.search.lance_table.check_table_kind`.
        model: What the table calls the model instead.
        append: Whether to add to the table that is there; the ids must be new to it. All codes are then in memory.
        storage_options: See `LanceIndex`.

    Raises:
        ValueError: If `codes` or `uri` breaks its rule, or codes that are to be added are of another model or length.
    """
    check_table_kind(kind)
    place = LancePlace.of(uri, storage_options)
    if not append:
        check_target(place, replace=True)
        settings, parts = read_parts(codes, model)
        write_table(place, parts, settings, kind=kind, replace=True)
        return LanceIndex(uri, storage_options=storage_options)
    table = LanceIndex(uri, storage_options=storage_options)
    settings, parts = read_parts(codes, model)
    for name, found, expected in (
        ("model", settings.model, table.model),
        ("num_bits", settings.num_bits, table.num_bits),
    ):
        if found != expected:
            raise ValueError(f"`codes` must have the {name} of the table, {expected!r}, but have {found!r}.")
    table.add_rows(pa.concat_tables(parts))
    table.optimize(kind)
    return table


def read_parts(codes: str | Path, model: str | None = None) -> tuple[LanceSettings, Iterator[pa.Table]]:
    """What codes say of themselves, and their rows.

    Args:
        codes: See `codes_to_table`.
        model: See `codes_to_table`.

    Raises:
        ValueError: If there are none, they are of different models, or what they say of their bits is wrong.
    """
    path = check_path("codes", codes)
    files = code_files(path)
    schemas = [read_code_schema(file) for file in files]
    found_model, revision, named_bits = one_model(schemas, path)
    num_bits = 8 * schemas[0].field(CODE).type.byte_width
    if named_bits not in ("", str(num_bits)):
        raise ValueError(
            f"`codes` must have codes of {named_bits} bits, as its metadata says, but they have {num_bits}."
        )
    if not sum(pq.read_metadata(file).num_rows for file in files):
        raise ValueError(f"`codes` must hold at least one code, but {str(codes)!r} holds none.")
    settings = LanceSettings(num_bits, found_model if model is None else model, revision if model is None else "")
    return settings, _parts(files)


def _parts(files: list[Path]) -> Iterator[pa.Table]:
    start = 0
    for file in progress_bar(files, desc="Writing codes", unit="file"):
        try:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(_ROWS):
                    yield _rows(batch, start)
                    start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"`codes` must be a parquet file that can be read, but {str(file)!r} is not.") from error


def _rows(batch: pa.RecordBatch, start: int) -> pa.Table:
    code = batch[CODE]
    if code.null_count:
        raise ValueError(f"`codes` must have a code in every row, but {code.null_count} have none.")
    width = code.type.byte_width
    packed = np.frombuffer(code.buffers()[1], np.uint8, len(code) * width, code.offset * width).reshape(-1, width)
    given = {name: batch[name] for name in COLUMNS if name in batch.schema.names}
    ids = given.get("id", pa.array(np.arange(start, start + len(batch))))
    items = Items(len(batch), ids, given.get("label"), given.get("path"))
    others = [name for name in batch.schema.names if name not in (*COLUMNS, CODE)]
    return make_rows(packed, items, {name: batch[name] for name in others})
