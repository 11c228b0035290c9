"""Locate, open and write tables of codes, and make their rows."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modeling_crh.checks import needs_extra
from modeling_crh.data.rows import check_distinct
from modeling_crh.search.code_files import CODE, CodeSettings
from modeling_crh.search.code_index import TABLE_SUFFIX
from modeling_crh.search.index_file import COLUMNS, Column, to_array, with_types_of
from modeling_crh.search.inverted_lists import KINDS

os.environ.setdefault("LANCE_LOG", "error")  # read at import; its warnings do not help a caller

with needs_extra("A table of codes", "lancedb"):
    import lancedb
    from lancedb.index import IvfFlat

_FAULTS = {  # reasons by words in an object store's answer
    "Failed to get AWS credentials": "there are no credentials for the object store",
    "NoSuchBucket": "there is no such bucket",
    "kind: Connect": "the object store cannot be reached",
    "kind: Timeout": "the object store does not answer",
    "AccessDenied": "the object store denies access",
    "InvalidAccessKeyId": "the object store denies access",
    "SignatureDoesNotMatch": "the object store denies access",
    "status: 403": "the object store denies access",
}


@dataclass(frozen=True)
class LancePlace:
    """The place of a table."""

    uri: str  # as the caller wrote it
    folder: str  # of the database that holds the table
    name: str  # of the table in the database
    storage_options: dict[str, str] | None = None  # of the object store, for LanceDB

    @classmethod
    def of(cls, uri: str | Path, storage_options: dict[str, str] | None = None) -> "LancePlace":
        """Split a URI into folder and name.

        Raises:
            ValueError: If the URI is not `FOLDER/NAME.lance`.
        """
        text = str(uri)
        folder, _, last = text.rstrip("/").rpartition("/")
        name = last.removesuffix(TABLE_SUFFIX)
        if not last.endswith(TABLE_SUFFIX) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or folder.endswith(":/"):
            raise ValueError(
                f"`uri` must be FOLDER/NAME{TABLE_SUFFIX}, with letters, digits, `_`, `-` or `.` in its name, "
                f"but got {text!r:.200}."
            )
        return cls(text, folder or ("/" if text.startswith("/") else "."), name, storage_options)

    @property
    def local_path(self) -> Path | None:
        """Folder of the table on this machine; None for an object store."""
        return None if "://" in self.uri else Path(self.folder, self.name + TABLE_SUFFIX)

    def open(self) -> Any:
        """Open the newest version of the table.

        Raises:
            FileNotFoundError: If the folder does not exist.
            ValueError: If the table does not exist, or the object store refuses access.
        """
        if self.local_path is not None and not self.local_path.is_dir():  # LanceDB would make the folder
            raise FileNotFoundError(f"`uri` must be a table of codes, but there is no folder {self.uri!r}.")
        with table_errors(self.uri):
            return self.connect().open_table(self.name)

    def exists(self) -> bool:
        """Whether the table exists; the remains of an interrupted write do not count.

        Raises:
            FileNotFoundError: If the folder of the database does not exist.
            ValueError: If other files are there, or the object store refuses access.
        """
        if (place := self.local_path) is not None:
            if not place.parent.is_dir():
                raise FileNotFoundError(f"`uri` must be in a folder that exists, but got {self.uri!r}.")
            files = {file.relative_to(place).parts[0] for file in place.rglob("*") if file.is_file()}
            if place.is_file() or ("_versions" not in files and not files <= {"data", "_transactions"}):
                raise ValueError(f"`uri` must be new, or a table of codes, but {self.uri!r} is something else.")
            return "_versions" in files
        with table_errors(self.uri):
            database, page = self.connect(), None
            while True:
                found = database.list_tables(page_token=page)
                page = found.page_token
                if self.name in found.tables or not page:
                    return self.name in found.tables

    def connect(self) -> Any:
        """Open the database of the table."""
        return lancedb.connect(self.folder, storage_options=self.storage_options)


@contextmanager
def one_sentence(argument: str, rule: str, value: str) -> Iterator[None]:
    """Turn errors of LanceDB and object stores into a `ValueError` of one sentence.

    Raises:
        ValueError: "`argument` must be `rule`, but `value` is not", with the reason.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:  # Lance has no class for its own errors
            raise
        text = str(error)
        known = [fault for word, fault in _FAULTS.items() if word in text]
        line = re.sub(r",? /\S+\.rs:\d+(:\d+)?.*", "", " ".join(text.split()))  # drops the Rust source file
        reason = known[0] if known else line.removeprefix("Invalid input, ")[:200].rstrip(". ")
        raise ValueError(f"`{argument}` must be {rule}, but {value!r:.200} is not: {reason}.") from error


def table_errors(uri: str) -> AbstractContextManager[None]:
    """Turn errors of LanceDB and object stores on a table into a `ValueError` of one sentence."""
    return one_sentence("uri", "a table that can be read and written", uri)


_FORMAT = 1  # version of the metadata of a table


def settings_of(schema: pa.Schema, uri: str) -> CodeSettings:
    """Read the settings of codes from the schema of a table.

    Raises:
        ValueError: If the metadata are missing, of another format version, or do not fit the columns.
    """
    found = {key.decode(): value.decode("utf-8", "replace") for key, value in (schema.metadata or {}).items()}
    version = found.get("crh_format")
    if version is None:
        raise ValueError(f"`uri` must be a table of codes, but {uri!r} is another table.")
    if version != str(_FORMAT):
        raise ValueError(f"`uri` must be a table of format version {_FORMAT}, but {uri!r} is of version {version:.20}.")
    kinds, num_bits = {field.name: str(field.type) for field in schema}, found.get("num_bits", "")
    expected = str(pa.list_(pa.uint8(), int(num_bits) // 8)) if num_bits.isdecimal() else ""
    if "id" not in kinds or kinds.get(CODE) != expected:
        raise ValueError(f"`uri` must be a table of ids and codes of {num_bits:.20} bits, but {uri!r} is not one.")
    return CodeSettings(int(num_bits), *(found.get(name, "") for name in ("model", "revision", "dtype")))


_KEY = {"lance-schema:unenforced-primary-key": "true"}  # prevents two writers from adding one id


def make_rows(packed: NDArray[np.uint8], items: pa.Table, columns: Mapping[str, Column] | None = None) -> pa.Table:
    """Make rows of `id`, `label` and `path`, if the items have them, other columns, and `code`.

    Args:
        packed: Packed codes `(N, K / 8)`, contiguous.
        items: `N` items with ids, from `make_items`.
        columns: Other columns by name, `(N,)` each.

    Raises:
        ValueError: If a column has a wrong name, type or length.
    """
    table = items
    for name, values in (columns or {}).items():
        if not isinstance(name, str) or name in (*COLUMNS, CODE) or not name or name.startswith("_"):
            raise ValueError(
                f"`columns` must have names other than {', '.join((*COLUMNS, CODE))} that start with no `_`, "
                f"but got {name!r:.80}."
            )
        column = to_array(f"columns[{name!r}]", values, "values of one type")
        if len(column) != len(items):
            raise ValueError(f"`columns` must hold one value a code, but {name!r} holds {len(column)}.")
        table = table.append_column(name, column)
    fields = [pa.field("id", table.schema.field("id").type, nullable=False, metadata=_KEY)]
    fields += [field for field in table.schema if field.name != "id"]
    codes = pa.FixedSizeListArray.from_arrays(pa.array(packed.reshape(-1)), packed.shape[1])
    fields.append(pa.field(CODE, codes.type, nullable=False))
    return pa.table([*(table[field.name] for field in fields[:-1]), codes], pa.schema(fields))


def check_same_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Check that rows have the columns of a table, and return them in its order.

    Raises:
        ValueError: If the columns differ in names or types.
    """
    without_codes = schema.remove(schema.get_field_index(CODE))
    items = with_types_of(rows.drop_columns([CODE]), without_codes, "table")
    return items.append_column(CODE, rows[CODE]).select(schema.names).cast(schema)


def codes_of(table: pa.Table) -> NDArray[np.uint8]:
    """Return the column of codes as an array `(N, K / 8)`."""
    column = table[CODE].combine_chunks()
    packed: NDArray[np.uint8] = column.flatten().to_numpy(zero_copy_only=False)
    return packed.reshape(len(table), column.type.list_size)


FLAT_LIMIT = 200_000
"""Most codes that `auto` scans: some ten milliseconds per query of 64 bits, `benchmarks/bench_lance.py`."""


def check_table_kind(kind: str) -> None:
    """Check the kind of a table.

    `flat` compares all codes and is exact; `ivf` searches the nearest lists of codes; `auto` is `flat` up to
    `FLAT_LIMIT` codes and `ivf` above.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in ("auto", *KINDS):
        raise ValueError(f"`kind` must be auto, {' or '.join(KINDS)} for a table, but got {kind!r:.80}.")


def write_table(
    place: LancePlace, parts: Iterable[pa.Table], settings: CodeSettings, *, kind: str = "auto", replace: bool = False
) -> None:
    """Write rows as a table, or as a new version of an existing table.

    Args:
        place: Place of the table.
        parts: Rows from `make_rows`, at least one part. Only one part at a time, and all ids, are in memory.
        settings: Settings of the codes, for the metadata of the table.
        kind: `flat`, `ivf` or `auto`, see `check_table_kind`.
        replace: Whether the rows become a new version of an existing table of codes.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the kind is unknown, the table exists and `replace` is False, a part has other columns than the
            first, or two rows have one id; nothing is then written.
    """
    check_table_kind(kind)
    is_there = place.exists()
    if is_there and not replace:
        raise ValueError(f"`uri` must be new, but {place.uri!r} is there already.")
    if is_there:
        settings_of(place.open().schema, place.uri)
    failures: list[BaseException] = []
    try:
        rows, mode = _reader(parts, settings, failures), "overwrite" if is_there else "create"
        with table_errors(place.uri):
            table = place.connect().create_table(place.name, rows, mode=mode)
    except ValueError:
        if failures:  # LanceDB passes on only the text of the error
            raise failures[0] from None
        raise
    make_lists(table, kind)


def make_lists(table: Any, kind: str) -> None:
    """Divide the codes of a table into lists of about 8,000 neighbours, if `kind` asks for lists.

    Codes of which only a few differ have fewer lists. LanceDB says how many, but only in its error.
    """
    if kind != "ivf" and not (kind == "auto" and table.count_rows() > FLAT_LIMIT):
        return
    try:
        table.create_index(CODE, config=IvfFlat(distance_type="hamming"), replace=True)
    except RuntimeError as error:
        most = re.search(r"Reduce num_partitions to <= (\d+)", str(error))
        if most is None:
            raise
        table.create_index(CODE, config=IvfFlat(distance_type="hamming", num_partitions=int(most[1])), replace=True)


def _reader(parts: Iterable[pa.Table], settings: CodeSettings, failures: list[BaseException]) -> pa.RecordBatchReader:
    remaining = iter(parts)
    first = next(remaining)
    facts = {"crh_format": str(_FORMAT)} | settings._asdict() | {"num_bits": str(settings.num_bits)}
    schema = first.schema.with_metadata(facts)

    def batches() -> Iterator[pa.RecordBatch]:
        ids: list[pa.Array] = []
        try:
            for part in chain([first], remaining):
                ids += part["id"].chunks
                yield from check_same_columns(part, schema).to_batches()
            check_distinct(pa.chunked_array(ids))
        except BaseException as error:
            failures.append(error)
            raise

    return pa.RecordBatchReader.from_batches(schema, batches())
