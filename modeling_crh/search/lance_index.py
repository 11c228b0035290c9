"""LanceIndex: packed codes in a table of LanceDB, which may be larger than memory and lie in an object store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modeling_crh.checks import is_whole
from modeling_crh.search.code_files import CodePart, CodeSettings, check_same_origin, read_codes
from modeling_crh.search.code_index import Packed, check_packed
from modeling_crh.search.index_file import Column, make_items
from modeling_crh.search.lance_table import (
    LancePlace,
    check_same_columns,
    check_table_kind,
    make_lists,
    make_rows,
    table_errors,
    write_table,
)
from modeling_crh.search.lance_view import Condition, LanceView


@dataclass(frozen=True)
class TableVersion:
    """A state of a table that can be opened again."""

    number: int  # of the version, from 1
    time: datetime  # of writing, local
    num_items: int  # number of rows


class LanceIndex(LanceView):
    """A table of packed codes with ids of the caller, searched like a `HammingIndex`.

    The index shows one version of the table, regardless of what others write, until `refresh` or its own next change.
    Every change writes a new version atomically. Several processes may read and write at once.

    Args:
        uri: `FOLDER/NAME.lance`, on this machine or with a scheme, such as `s3://bucket/photos.lance`.
        storage_options: LanceDB's options of an object store, such as `aws_endpoint`; other options come from the
            environment.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the table does not exist, is not a table of codes, or the object store refuses access.
    """

    def __init__(self, uri: str | Path, *, storage_options: dict[str, str] | None = None) -> None:
        self._place = LancePlace.of(uri, storage_options)
        super().__init__(self._place.uri, self._place.open())

    @classmethod
    def create(
        cls,
        uri: str | Path,
        packed: Packed,
        ids: Column | None = None,
        *,
        labels: Column | None = None,
        paths: Column | None = None,
        columns: Mapping[str, Column] | None = None,
        kind: str = "auto",
        model: str = "",
        revision: str = "",
        dtype: str = "",
        replace: bool = False,
        storage_options: dict[str, str] | None = None,
    ) -> "LanceIndex":
        """Write a table and open it.

        Args:
            uri: URI of the table, see the class.
            packed: Packed codes `(N, K / 8)` uint8, at least one.
            ids: Distinct ids `(N,)`: whole numbers of 64 bits, or strings; None numbers the codes from 0.
            labels: Labels `(N,)`, as in a `HammingIndex`.
            paths: Paths `(N,)`, as in a `HammingIndex`.
            columns: More columns to filter by, `(N,)` each, by name.
            kind: `flat`, `ivf` or `auto`, see `modeling_crh.search.lance_table.check_table_kind`.
            model: Name of the model that made the codes.
            revision: Commit on the Hub, or digest of the weights, of the model that made the codes.
            dtype: Precision that they were computed in, such as `float32`.
            replace: Whether the codes become a new version of an existing table of codes.
            storage_options: Options of the object store, see the class.

        Raises:
            ValueError: If an argument has a wrong type, shape or value, or, without `replace`, the table exists.
        """
        codes = check_packed("packed", packed)
        items = make_items(len(codes), np.arange(len(codes)) if ids is None else ids, labels, paths)
        settings = CodeSettings(8 * codes.shape[1], model, revision, dtype)
        place = LancePlace.of(uri, storage_options)
        write_table(place, [make_rows(codes, items, columns)], settings, kind=kind, replace=replace)
        return cls(uri, storage_options=storage_options)

    def add(
        self,
        packed: Packed,
        ids: Column,
        *,
        labels: Column | None = None,
        paths: Column | None = None,
        columns: Mapping[str, Column] | None = None,
        replace: bool = False,
    ) -> None:
        """Add codes to the newest version of the table; this writes and opens a new version.

        An `ivf` table scans added codes one by one until `optimize` puts them into lists.

        Args:
            packed: Packed codes `(M, K / 8)` uint8.
            ids: Distinct ids `(M,)`.
            labels: Labels `(M,)`, if and only if the table has labels.
            paths: Paths `(M,)`, if and only if the table has paths.
            columns: Other columns of the table, `(M,)` each, by name.
            replace: Whether existing ids get the new codes and columns; otherwise they are an error.

        Raises:
            ValueError: If an argument has a wrong type, shape or value; the table is then unchanged.
        """
        codes = check_packed("packed", packed, self.num_bits)
        if ids is None:
            raise ValueError("`ids` must be given to add to a table, but are None.")
        self.add_rows(make_rows(codes, make_items(len(codes), ids, labels, paths), columns), replace=replace)

    def add_rows(self, rows: pa.Table, *, replace: bool = False) -> None:
        """Like `add`, with rows from `modeling_crh.search.lance_table.make_rows`."""
        self.refresh()
        rows = check_same_columns(rows, self._table.schema)
        if not replace:
            self._check_new(rows["id"])
        if not len(rows):
            return
        merge = self._table.merge_insert("id").when_not_matched_insert_all()
        merge = merge.use_index(False)  # with an index of ids, two writers could add the same id
        with table_errors(self.uri):
            inserted = (merge.when_matched_update_all() if replace else merge).execute(rows).num_inserted_rows
        if not replace and inserted < len(rows):
            raise ValueError(
                f"`ids` must be new, but another writer has just added {len(rows) - inserted} of them, whose items "
                "stay as they are; the others are in."
            )

    def delete(self, where: Condition) -> int:
        """Remove the items that meet a condition, which writes a new version; return their number.

        Raises:
            ValueError: If the table does not accept the condition.
        """
        self.refresh()
        sql = self._checked_sql(where)
        with table_errors(self.uri):
            return int(self._table.delete(sql).num_deleted_rows)

    def optimize(self, kind: str = "auto") -> None:
        """Join small files, add new codes to the lists of `ivf`, and make lists if `kind` asks for them.

        Args:
            kind: `auto` and `flat` keep existing lists; `ivf` makes new lists of all codes.
        """
        check_table_kind(kind)
        self.refresh()
        with table_errors(self.uri):
            self._table.optimize()
            if kind == "ivf" or self.kind == "flat":
                make_lists(self._table, kind)

    def versions(self) -> list[TableVersion]:
        """List all versions that can be opened, oldest first."""
        with table_errors(self.uri):
            found = self._table.list_versions()
        return [TableVersion(one["version"], one["timestamp"], int(one["metadata"]["total_rows"])) for one in found]

    def at(self, version: int) -> LanceView:
        """Open an older version.

        Raises:
            ValueError: If there is no such version.
        """
        return LanceView(self.uri, self._checked_out(version))

    def restore(self, version: int) -> None:
        """Make the items of an older version the newest version.

        Raises:
            ValueError: If there is no such version.
        """
        table = self._checked_out(version)
        with table_errors(self.uri):
            table.restore()
        self.refresh()

    def refresh(self) -> None:
        """Open the newest version."""
        with table_errors(self.uri):
            self._table.checkout_latest()
        self._read_settings()

    def _checked_out(self, version: int) -> Any:
        if not is_whole(version) or version not in [found.number for found in self.versions()]:
            raise ValueError(f"`version` must be one of the table's versions, but got {version!r:.80}.")
        table = self._place.open()
        with table_errors(self.uri):
            table.checkout(int(version))
        return table

    def _check_new(self, ids: pa.ChunkedArray) -> None:
        with table_errors(self.uri):
            batches = self._table.search().select(["id"]).to_batches()
            doubles = next(filter(len, (batch["id"].filter(pc.is_in(batch["id"], ids)) for batch in batches)), None)
        if doubles is not None:
            raise ValueError(f"`ids` must be new, but the table has {doubles[0].as_py()!r:.80} already.")


def codes_to_table(
    codes: str | Path,
    uri: str | Path,
    *,
    kind: str = "auto",
    model: str | None = None,
    append: bool = False,
    num_bits: int | None = None,
    storage_options: dict[str, str] | None = None,
) -> LanceIndex:
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
    check_table_kind(kind)
    table = LanceIndex(uri, storage_options=storage_options) if append else None
    settings, parts = read_codes(codes, model, num_bits=num_bits)
    if table is None:
        write_table(LancePlace.of(uri, storage_options), _rows(parts), settings, kind=kind, replace=True)
        return LanceIndex(uri, storage_options=storage_options)
    check_same_origin("codes", settings, table, f"the table {str(uri)!r}")
    table.add_rows(pa.concat_tables(_rows(parts)))
    table.optimize(kind)
    return table


def _rows(parts: Iterator[CodePart]) -> Iterator[pa.Table]:
    """Make rows of a table; codes without ids are numbered from 0."""
    start = 0
    for packed, columns in parts:
        ids = columns.pop("id", pa.array(np.arange(start, start + len(packed))))
        items = make_items(len(packed), ids, columns.pop("label", None), columns.pop("path", None))
        yield make_rows(packed, items, columns)
        start += len(packed)
