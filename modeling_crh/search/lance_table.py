"""Locate, open and write tables of codes."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from modeling_crh.search.code_index import TABLE_SUFFIX
from modeling_crh.search.index_file import check_distinct
from modeling_crh.search.lance_rows import CODE, LanceSettings, check_same_columns

os.environ.setdefault("LANCE_LOG", "error")  # read at import; its warnings do not help a caller

try:
    import lancedb
    from lancedb.index import IvfFlat
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"A table of codes needs {error.name}; run `pip install 'modeling-crh[lancedb]'`.", name=error.name
    ) from error


TABLE_RULE = "a table that can be read and written"

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
    """The place of a table.

    Args:
        uri: URI as the caller wrote it.
        folder: Folder of the database that holds the table.
        name: Name of the table in the database.
        storage_options: LanceDB's options of the object store.
    """

    uri: str
    folder: str
    name: str
    storage_options: dict[str, str] | None = None

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
        with one_sentence("uri", TABLE_RULE, self.uri):
            return self._connect().open_table(self.name)

    def exists(self) -> bool:
        """Whether the table exists; the remains of an interrupted write do not count.

        Raises:
            FileNotFoundError: If the folder of the database does not exist.
            ValueError: If other files are there, or the object store refuses access.
        """
        if self.local_path is not None:
            if not self.local_path.parent.is_dir():
                raise FileNotFoundError(f"`uri` must be in a folder that exists, but got {self.uri!r}.")
            return self._has_versions(self.local_path)
        with one_sentence("uri", TABLE_RULE, self.uri):
            database = self._connect()
            page: str | None = None
            while True:
                found = database.list_tables(page_token=page)
                page = found.page_token
                if self.name in found.tables or not page:
                    return self.name in found.tables

    def _has_versions(self, place: Path) -> bool:
        files = {file.relative_to(place).parts[0] for file in place.rglob("*") if file.is_file()}
        if place.is_file() or ("_versions" not in files and not files <= {"data", "_transactions"}):
            raise ValueError(f"`uri` must be new, or a table of codes, but {self.uri!r} is something else.")
        return "_versions" in files

    def write(self, batches: Any, *, replace: bool) -> Any:
        """Write a table atomically.

        Args:
            batches: Rows as a `pyarrow.RecordBatchReader`.
            replace: Whether to write a new version of an existing table.
        """
        with one_sentence("uri", TABLE_RULE, self.uri):
            return self._connect().create_table(self.name, batches, mode="overwrite" if replace else "create")

    def _connect(self) -> Any:
        return lancedb.connect(self.folder, storage_options=self.storage_options)


@contextmanager
def one_sentence(argument: str, rule: str, value: str) -> Iterator[None]:
    """Turn errors of LanceDB and object stores into a `ValueError` of one sentence.

    Raises:
        ValueError: "`argument` must be `rule`, but `value` is not", with the reason.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise _refusal(argument, rule, value, error) from error
    except RuntimeError as error:  # LanceDB has no own class for errors of Lance and object stores
        if type(error) is not RuntimeError:
            raise
        raise _refusal(argument, rule, value, error) from error


def _refusal(argument: str, rule: str, value: str, error: Exception) -> ValueError:
    text = str(error)
    known = [fault for word, fault in _FAULTS.items() if word in text]
    line = re.sub(r",? /\S+\.rs:\d+(:\d+)?.*", "", " ".join(text.split()))  # drops the Rust source file
    reason = known[0] if known else line.removeprefix("Invalid input, ")[:200].rstrip(". ")
    return ValueError(f"`{argument}` must be {rule}, but {value!r:.200} is not: {reason}.")


KINDS = ("flat", "ivf")
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
    place: LancePlace, parts: Iterable[pa.Table], settings: LanceSettings, *, kind: str = "auto", replace: bool = False
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
        LanceSettings.of_schema(place.open().schema, place.uri)
    failures: list[BaseException] = []
    try:
        table = place.write(_reader(parts, settings, failures), replace=is_there)
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


def _reader(parts: Iterable[pa.Table], settings: LanceSettings, failures: list[BaseException]) -> pa.RecordBatchReader:
    remaining = iter(parts)
    first = next(remaining)
    schema = first.schema.with_metadata(settings.to_metadata())

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
