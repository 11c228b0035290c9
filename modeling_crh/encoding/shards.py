"""Write codes as parquet shards atomically, so that a run may stop at any point."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modeling_crh.checks import check_path
from modeling_crh.data.open_source import Row
from modeling_crh.data.rows import BadRow, check_distinct
from modeling_crh.encoding.manifest import EncodingRecord
from modeling_crh.runtime.atomic_files import first_file, whole_file

_MOST_SHARDS = 100_000  # five digits, so that the order of the names is the order of the rows

_NUM_BITS = r"[1-9]\d{0,5}"


class CodeShards:
    """A folder of codes to write.

    Shard `s` holds the codes of `shard_size` rows of the source, from row `s * shard_size` on, without rows that were
    left out. Its columns are `id`, `path`, `code` (the packed code as fixed-size binary) and, for labelled data,
    `label` (a class name or a list of names). The metadata of its schema hold `model`, `revision` (on the Hub),
    `num_bits`, `dtype`, `left_out` and a `checksum`, see `shard_writer`. A run continues with the shards that are
    missing.

    Args:
        folder: Folder: new, empty, or begun by a run of the same record; nothing is written before the first shard.
        record: Record of this run.
        label_type: Type of the column `label`; None for no such column.
        id_type: Type of the column `id`: 64-bit integers or strings.

    Raises:
        ValueError: If the folder holds other codes, or is a file.
    """

    def __init__(
        self,
        folder: str | Path,
        record: EncodingRecord,
        label_type: pa.DataType | None,
        id_type: pa.DataType | None = None,
    ) -> None:
        self.folder = check_path("out", folder)
        if self.folder.is_file():
            raise ValueError(f"`out` must be a folder, but {str(folder)!r} is a file.")
        found = first_file(self.folder)  # before the record, which a run writes before its first shard
        begun = EncodingRecord.read(self.folder)
        if found is not None and begun is None:
            rule = "`out` must be a new or empty folder, or hold codes of this run"
            raise ValueError(f"{rule}, but {str(folder)!r} holds {found!r}.")
        if begun is not None:
            record.check_same(begun, self.folder)
        self.record = begun or record  # all shards name the model as the first run did
        self._label_type, self._id_type = label_type, id_type or pa.int64()

    @property
    def is_complete(self) -> bool:
        """Whether the codes of the whole source are written."""
        return self.record.num_shards is not None and len(self.done()) == self.record.num_shards

    def done(self) -> set[int]:
        """Return the numbers of the shards that exist and can be read."""
        return {number for number, file in shard_files(self.folder) if _footer(file) is not None}

    def count(self) -> tuple[int, list[BadRow]]:
        """Return the number of codes written, and the rows left out."""
        items, left_out = 0, []
        for _, file in shard_files(self.folder):
            if (footer := _footer(file)) is not None:
                items += footer.num_rows
                try:
                    found = json.loads((footer.metadata or {}).get(b"left_out", b"[]"))
                    left_out += [BadRow(str(path), str(reason)) for _, path, reason in found]
                except (ValueError, TypeError, RecursionError) as error:
                    raise _unreadable(file) from error
        return items, left_out

    def write(
        self,
        number: int,
        rows: Sequence[Row],
        packed: NDArray[np.uint8],
        left_out: Sequence[tuple[int | str, BadRow]] = (),
    ) -> None:
        """Write one shard: N rows in the order of the source (without their values), and their packed codes.

        Codes are `(N, K / 8)`; the rows that were left out are named by their ids and faults.

        Raises:
            ValueError: If the source has more than 100,000 shards, or an id comes twice.
        """
        if number >= _MOST_SHARDS:
            raise ValueError(
                f"`shard_size` must be larger, since a source has at most {_MOST_SHARDS:,} shards, but got "
                f"{self.record.shard_size}."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if EncodingRecord.read(self.folder) is None:
            self.record.write(self.folder)
        columns = {
            "id": pa.array([row.id for row in rows], self._id_type),
            "path": pa.array([row.path for row in rows], pa.string()),
            "code": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(self.record.num_bits // 8), len(rows), [None, pa.py_buffer(np.ascontiguousarray(packed))]
            ),
        }
        if self._label_type is not None:
            columns["label"] = pa.array([row.label for row in rows], self._label_type)
        table = pa.table(columns, metadata=self._metadata(left_out))
        check_distinct(table["id"], "id_column")
        with whole_file(shard_path(self.folder, number)) as partial, shard_writer(partial, table.schema) as writer:
            if rows:  # `load_dataset` reads a file without row groups, but not an empty row group
                writer.write_table(table)

    def complete(self) -> None:
        """Record that all shards of the source are written.

        Raises:
            ValueError: If a shard is missing, the source has no rows, or an id comes twice.
        """
        done, files = self.done(), [file for _, file in shard_files(self.folder)]
        if not done:
            raise ValueError(f"`source` must hold at least one row, but {self.record.source!r} holds none.")
        if done != set(range(len(done))):
            raise ValueError(f"{self.folder} must hold every shard up to the last, but some have been taken away.")
        if not _ascend(files):  # as the numbers of rows do, whose ids then need not all be in memory
            ids = [batch["id"] for file in files for batch in read_batches(file, ["id"])]
            check_distinct(pa.chunked_array(ids, self._id_type), "id_column")
        self.record = replace(self.record, num_shards=len(done))
        self.record.write(self.folder)

    def _metadata(self, left_out: Sequence[tuple[int | str, BadRow]]) -> dict[str, str]:
        record = self.record
        metadata = {"model": record.model, "num_bits": str(record.num_bits), "dtype": record.dtype}
        if record.revision:
            metadata["revision"] = record.revision
        if record.prefix_bits:
            metadata["prefix_bits"] = ",".join(map(str, record.prefix_bits))
        if left_out:
            metadata["left_out"] = json.dumps([(number, bad.path, bad.reason) for number, bad in left_out])
        return metadata


def _ascend(files: Sequence[Path]) -> bool:
    """Whether ids are whole numbers, each larger than the one before."""
    last: int | None = None
    for ids in (batch["id"] for file in files for batch in read_batches(file, ["id"]) if len(batch)):
        if not pa.types.is_integer(ids.type) or (last is not None and ids[0].as_py() <= last):
            return False
        if not (np.diff(ids.to_numpy()) > 0).all():
            return False
        last = ids[-1].as_py()
    return True


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard.

    Example:
        >>> shard_path(Path("codes"), 7).name
        'codes-00007.parquet'
    """
    return folder / f"codes-{number:05d}.parquet"


def shard_files(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield number and path of every shard in a folder, in order."""
    for file in sorted(folder.glob("codes-*.parquet")):
        if match := re.fullmatch(r"codes-(\d{5})\.parquet", file.name):
            yield int(match[1]), file


def shard_writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a shard to write, with checksums of its pages and, in its metadata, of its columns and metadata."""
    metadata = (schema.metadata or {}) | {_CHECKSUM: _schema_checksum(schema)}
    return pq.ParquetWriter(file, schema.with_metadata(metadata), write_page_checksum=True)


def read_batches(
    file: Path, columns: Sequence[str] | None = None, most_rows: int = 1 << 18
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a parquet file of codes.

    Raises:
        ValueError: If a part of the file cannot be read, a page differs from its checksum, a text is no UTF-8, or rows
            are missing.
    """
    rows = 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as shard:
            if shard.num_row_groups:  # pyarrow 18 fails without one
                for batch in shard.iter_batches(most_rows, columns=columns):
                    batch.validate(full=True)
                    rows += len(batch)
                    yield batch
            expected = shard.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file) from error
    if rows != expected:
        raise _unreadable(file)


def _unreadable(file: Path) -> ValueError:
    return ValueError(f"`codes` must be a parquet file that can be read, but {str(file)!r} is not.")


_CHECKSUM = b"checksum"


def _schema_checksum(schema: pa.Schema) -> bytes:
    """Digest names and types of the columns, and all metadata but the digest itself."""
    # parquet calls the entries of a list "element", whatever they were called when it was written
    columns = [(field.name, str(field.type).replace("list<element: ", "list<item: ")) for field in schema]
    metadata = sorted((key, value) for key, value in (schema.metadata or {}).items() if key != _CHECKSUM)
    return hashlib.sha256(repr((columns, metadata)).encode()).hexdigest().encode()


def _footer(file: Path) -> pq.FileMetaData | None:
    """Read the schema and size of a shard; None if it is damaged, so that it is encoded again."""
    try:
        return pq.read_metadata(file)
    except (OSError, pa.ArrowException):
        return None


def code_files(codes: Path) -> list[Path]:
    """Return the parquet file itself, or all parquet files of a folder in the order of their names.

    Raises:
        ValueError: If there is no parquet file, or `crh encode` has not completed the folder.
    """
    if codes.is_file():
        return [codes]
    files = sorted(file for file in codes.glob("*.parquet") if file.is_file()) if codes.is_dir() else []
    record = EncodingRecord.read(codes) if codes.is_dir() else None
    if record is not None and record.num_shards != len(list(shard_files(codes))):
        raise ValueError(
            f"`codes` must be complete, but in {str(codes)!r} files are missing; the same `crh encode` goes on with it."
        )
    if not files:
        raise ValueError(f"`codes` must be a parquet file, or a folder that holds some, but got {str(codes)!r}.")
    return files


def read_code_schema(file: Path) -> pa.Schema:
    """Read the schema of a file of codes, with `code` as fixed-size binary; metadata give the size in codes of the Hub.

    Raises:
        ValueError: If the file cannot be read, is damaged, or has no column `code` of fixed-size binary.
    """
    try:
        schema = pq.read_schema(file)
        found = _schema_checksum(schema)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of the name of a column
        raise _unreadable(file) from error
    if (schema.metadata or {}).get(_CHECKSUM, found) != found:  # other programs write none
        raise ValueError(f"`codes` must be an undamaged file, but the checksum of {str(file)!r} is wrong.")
    if len(set(schema.names)) < len(schema.names):
        raise ValueError(f"`codes` must have columns with names that differ, but those of {str(file)!r} do not.")
    named_bits = (schema.metadata or {}).get(b"num_bits", b"").decode("utf-8", "replace")
    code = schema.field("code") if "code" in schema.names else pa.field("code", pa.null())
    # `load_dataset` knows no fixed size, so codes on the Hub have none
    if code.type == pa.binary() and re.fullmatch(_NUM_BITS, named_bits):
        code = code.with_type(pa.binary(int(named_bits) // 8))
        schema = schema.set(schema.get_field_index("code"), code)
    if not pa.types.is_fixed_size_binary(code.type):
        rule = "have a column `code` of fixed-size binary, as `crh encode` writes"
        raise ValueError(f"`codes` must {rule}, but {str(file)!r} has none.")
    return schema


def one_model(schemas: list[pa.Schema], codes: Path) -> tuple[str, str, str, str]:
    """Return the model, revision, number of bits and precision of all files; empty if the files do not name them.

    Raises:
        ValueError: If the files name different ones, or others than the record of `crh encode` in their folder.
    """
    names = (b"model", b"revision", b"num_bits", b"dtype")
    record = EncodingRecord.read(codes)
    named = set() if record is None else {(record.model, record.revision, str(record.num_bits), record.dtype)}
    for schema in schemas:
        found = schema.metadata or {}
        if b"num_bits" in found:
            found.setdefault(b"dtype", b"float32")  # which earlier versions did not name
        model, revision, num_bits, dtype = (found.get(name, b"").decode("utf-8", "replace") for name in names)
        named.add((model, revision, num_bits, dtype))
    if len(named) > 1:
        raise ValueError(f"`codes` must be codes of one model, but {str(codes)!r} holds those of {sorted(named)}.")
    return named.pop()
