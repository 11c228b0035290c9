"""Build an index of the codes that `crh encode` writes: in memory, over FAISS, or as a table of LanceDB."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import snapshot_download
from numpy.typing import NDArray

from modeling_crh.checks import check_path
from modeling_crh.codebook import choose_length
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.shards import code_files, one_model, read_batches, read_code_schema, shard_path, shard_writer
from modeling_crh.file_bytes import httpx
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.index_file import COLUMNS, Items
from modeling_crh.search.lance_rows import CODE, LanceSettings, make_rows

if TYPE_CHECKING:
    from modeling_crh.search.lance_index import LanceIndex

_ROWS = 1 << 18  # rows of a part


CodePart = tuple[NDArray[np.uint8], dict[str, pa.Array]]
"""Rows from files of codes: packed codes `(n, K / 8)`, and all other columns, `(n,)` each, by name."""


def read_codes(
    codes: str | Path, model: str | None = None, columns: Sequence[str] | None = None, num_bits: int | None = None
) -> tuple[LanceSettings, Iterator[CodePart]]:
    """Read the codes of a parquet file, or of all parquet files in a folder in the order of their names.

    Args:
        codes: File or folder, with a column `code` of packed codes as fixed-size binary; the metadata of its schema
            name the `model`, and may name its `revision` and the `num_bits`. Or the Hub id of codes that were pushed,
            such as `org/codes`.
        model: Name of the model that replaces the one in the metadata, such as for a model moved to the Hub.
        columns: Columns to read besides the codes, if they exist; None reads all.
        num_bits: Number of first bits to keep of every code, one of the `prefix_bits` of the model; None keeps all.

    Returns:
        Settings from the metadata, and the rows part by part.

    Raises:
        ValueError: If there is no such file, it holds no codes, the files of a folder differ in model or columns,
            `crh encode` has not completed the folder, or the model is not trained for codes of `num_bits` bits.
    """
    path = _found(codes)
    files = code_files(path)
    schemas = [read_code_schema(file) for file in files]
    found_model, revision, named_bits, dtype = one_model(schemas, path)
    all_bits = 8 * schemas[0].field(CODE).type.byte_width
    if named_bits not in ("", str(all_bits)):
        raise ValueError(
            f"`codes` must have codes of {named_bits} bits, as its metadata says, but they have {all_bits}."
        )
    kept_bits = choose_length(num_bits, [*_prefix_bits(schemas[0]), all_bits])
    kinds = [{one.name: one.type for one in schema if columns is None or one.name in columns} for schema in schemas]
    if any(kind != kinds[0] for kind in kinds) or len({schema.field(CODE).type for schema in schemas}) > 1:
        raise ValueError(f"`codes` must be files with the same columns, but those in {str(codes)!r} differ.")
    if not sum(pq.read_metadata(file).num_rows for file in files):
        raise ValueError(f"`codes` must hold at least one code, but {str(codes)!r} holds none.")
    named = (found_model, revision) if model is None else (model, "")
    settings = LanceSettings(kept_bits, *named, dtype)
    return settings, _parts(files, [CODE, *(name for name in kinds[0] if name != CODE)], all_bits, kept_bits)


def _found(codes: str | Path) -> Path:
    """Return the file or folder of codes; those that are a dataset on the Hub are downloaded first."""
    path, name = check_path("codes", codes), str(codes)
    if path.exists() or "/" not in name or not is_hub_id(name):
        return path
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns="codes*.parquet"))
        if not any(folder.glob("*.parquet")):
            raise FileNotFoundError("it has no codes*.parquet")
        return folder
    except (OSError, httpx.HTTPError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the machine's own, such as a full disk
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`codes` must be a parquet file, a folder that holds some or the Hub id of codes, but {name!r} is none: "
            f"{reason}."
        ) from error


def _prefix_bits(schema: pa.Schema) -> list[int]:
    """Return the numbers of first bits that are codes by themselves, as the metadata of a file of codes name them."""
    named = (schema.metadata or {}).get(b"prefix_bits", b"").decode("utf-8", "replace")
    return [int(length) for length in named.split(",") if length.isdecimal()]


def _parts(files: Sequence[Path], columns: list[str], all_bits: int, kept_bits: int) -> Iterator[CodePart]:
    for file in progress_bar(files, desc="Reading codes", unit="file"):
        for batch in read_batches(file, columns, _ROWS):
            packed, others = _part(batch, all_bits // 8)
            yield np.ascontiguousarray(packed[:, : kept_bits // 8]), others


def _part(batch: pa.RecordBatch, width: int) -> CodePart:
    code = batch[CODE]
    if code.null_count:
        raise ValueError(f"`codes` must have a code in every row, but {code.null_count} have none.")
    if code.type == pa.binary():
        try:
            code = code.cast(pa.binary(width))
        except pa.ArrowException as error:
            raise ValueError(
                f"`codes` must be codes of {8 * width} bits in every row, but are not: {error}."
            ) from error
    packed = np.frombuffer(code.buffers()[1], np.uint8, len(code) * width, code.offset * width).reshape(-1, width)
    return packed, {name: batch[name] for name in batch.schema.names if name != CODE}


def index_codes(
    codes: str | Path, *, kind: str = "auto", model: str | None = None, num_bits: int | None = None
) -> HammingIndex:
    """Index codes in memory.

    Args:
        codes: Parquet file or folder of parquet files, see `read_codes`. Its columns `id`, `label` and `path`, if they
            exist, become those of the index.
        kind: Kind of the index, see `HammingIndex`.
        model: Name of the model that replaces the one in the metadata.
        num_bits: Number of first bits to index of every code, see `read_codes`.

    Raises:
        ValueError: If the codes cannot be read, see `read_codes`.
    """
    settings, parts = read_codes(codes, model, COLUMNS, num_bits)
    packed, read = zip(*parts, strict=True)
    columns = {f"{name}s": pa.chunked_array([part[name] for part in read]) for name in read[0]}
    return HammingIndex(np.concatenate(packed), **columns, kind=kind, **settings.origin)


def write_codes(index: HammingIndex, folder: str | Path) -> Path:
    """Write the items of an index as `crh encode` writes codes, such as to push them to the Hub; return the file.

    Args:
        index: Index with a path for every item.
        folder: Folder for the file, which exists.

    Raises:
        ValueError: If an item has no path.
    """
    target = shard_path(check_path("folder", folder), 0)
    packed, items = index.packed, index.items.table
    if "path" not in items.column_names or items["path"].null_count:
        raise ValueError("`index` must have a path for every item to be written as codes, but lacks one.")
    columns = {
        "id": items["id"] if "id" in items.column_names else pa.array(np.arange(len(index))),
        "path": items["path"].cast(pa.string()),
        "code": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(packed.shape[1]), len(packed), [None, pa.py_buffer(packed.tobytes())]
        ),
    }
    if "label" in items.column_names:
        kind = items["label"].type
        small = pa.list_(pa.string()) if pa.types.is_large_list(kind) else pa.string()
        columns["label"] = items["label"] if pa.types.is_integer(kind) else items["label"].cast(small)
    named = {"model": index.model, "revision": index.revision, "dtype": index.dtype, "num_bits": str(index.num_bits)}
    table = pa.table(columns).replace_schema_metadata(named)
    with shard_writer(target, table.schema) as writer:
        writer.write_table(table)
    return target


def codes_to_table(
    codes: str | Path,
    uri: str | Path,
    *,
    kind: str = "auto",
    model: str | None = None,
    append: bool = False,
    num_bits: int | None = None,
    storage_options: dict[str, str] | None = None,
) -> "LanceIndex":
    """Write codes as a table or as its new version, or append them to a table.

    Args:
        codes: Parquet file or folder of parquet files, see `read_codes`. All columns are kept to filter by.
        uri: URI of the table, see `LanceIndex`.
        kind: Kind of the table: `flat`, `ivf` or `auto`.
        model: Name of the model that replaces the one in the metadata.
        append: Whether to add to an existing table, which must not hold the ids. All codes are then in memory.
        num_bits: Number of first bits to write of every code, see `read_codes`.
        storage_options: Options of the object store, see `LanceIndex`.

    Raises:
        ValueError: If `codes` or `uri` cannot be used, or appended codes are of another model or length.
    """
    from modeling_crh.search.lance_index import LanceIndex
    from modeling_crh.search.lance_table import LancePlace, check_table_kind, write_table

    check_table_kind(kind)
    if not append:
        settings, parts = read_codes(codes, model, num_bits=num_bits)
        write_table(LancePlace.of(uri, storage_options), _rows(parts), settings, kind=kind, replace=True)
        return LanceIndex(uri, storage_options=storage_options)
    table = LanceIndex(uri, storage_options=storage_options)
    settings, parts = read_codes(codes, model, num_bits=num_bits)
    for name in ("model", "num_bits"):
        found, expected = getattr(settings, name), getattr(table, name)
        if found != expected:
            raise ValueError(f"`codes` must have the {name} of the table, {expected!r}, but have {found!r}.")
    table.add_rows(pa.concat_tables(_rows(parts)))
    table.optimize(kind)
    return table


def _rows(parts: Iterator[CodePart]) -> Iterator[pa.Table]:
    """Make rows of a table; codes without ids are numbered from 0."""
    start = 0
    for packed, columns in parts:
        ids = columns.pop("id", pa.array(np.arange(start, start + len(packed))))
        items = Items(len(packed), ids, columns.pop("label", None), columns.pop("path", None))
        yield make_rows(packed, items, columns)
        start += len(packed)
