"""Rows of one or several tables, read a few at a time, from any row on."""

import tarfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import Features
from datasets.exceptions import DatasetsError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined] # exported by its `__getattr__`

_AT_A_TIME = 64

READ_ERRORS = (OSError, ValueError, pa.ArrowException, DatasetsError, httpx.HTTPError, tarfile.TarError)
"""What reading a table raises where the table is damaged, or cannot be reached."""


class Chunk(NamedTuple):
    """Some rows of one table.

    Attributes:
        table: The rows.
        source: The file or dataset that they are of.
        first: Number of the first one there, from 0.
        base: Folder that paths in cells start from; None where they are absolute.
    """

    table: pa.Table
    source: str
    first: int
    base: Path | None

    def place(self, row: int) -> str:
        """What a message calls a row of the chunk."""
        return f"row {self.first + row} of {self.source}"


class TableReader:
    """One table: a file, or a dataset. A subclass sets the attributes, and implements `only` and `batches`.

    Attributes:
        source: What messages call it.
        features: Names and types of the columns.
        num_rows: Number of rows; None where only reading to the end would tell.
        base: Folder that paths in cells start from; None where they are absolute.
        by_number: Whether it costs nothing to begin with any row.
    """

    source: str
    features: Features
    num_rows: int | None = None
    base: Path | None = None
    by_number: bool = False

    def only(self, columns: list[str]) -> "TableReader":
        """The same rows with at least these columns."""
        raise NotImplementedError

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """Number of the first row, and rows: from `start` on at the latest, up to the end."""
        raise NotImplementedError


class Rows:
    """The rows of several tables, one after the other.

    Args:
        readers: At least one, with the same columns.
    """

    def __init__(self, readers: Sequence[TableReader]) -> None:
        self.readers = readers
        self._sizes = [reader.num_rows for reader in readers]

    @property
    def features(self) -> Features:
        """Names and types of the columns."""
        return self.readers[0].features

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None where only reading to the end would tell."""
        known = [size for size in self._sizes if size is not None]
        return sum(known) if len(known) == len(self._sizes) else None

    @property
    def by_number(self) -> bool:
        """Whether it costs nothing to begin with any row."""
        return all(reader.by_number for reader in self.readers)

    def only(self, columns: Sequence[str]) -> "Rows":
        """The same rows with at least these columns, as far as a table has them."""
        wanted = list(dict.fromkeys(columns))
        return Rows([reader.only([name for name in wanted if name in reader.features]) for reader in self.readers])

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Rows from `start` up to `stop`, or up to the end, at most 64 at a time."""
        before = 0
        for number, reader in enumerate(self.readers):
            size = self._sizes[number]
            if size is not None and before + size <= start:
                before += size
                continue
            can_skip = size is not None or number == len(self.readers) - 1  # a stream does not tell what it passed over
            count = max(start - before, 0) if can_skip else 0
            for first, table in reader.batches(count):
                end = len(table) if stop is None else min(stop - before - first, len(table))
                for row in range(max(start - before - first, 0), end, _AT_A_TIME):
                    yield Chunk(table[row : min(row + _AT_A_TIME, end)], reader.source, first + row, reader.base)
                count = first + len(table)
                if stop is not None and before + count >= stop:
                    return
            if start <= before:
                self._sizes[number] = count
            before += count

    def place(self, row: int) -> str:
        """What a message calls a row; of tables that do not tell their size, after all rows were read."""
        for reader, size in zip(self.readers, self._sizes, strict=True):
            if size is None or row < size:
                return f"row {row} of {reader.source}"
            row -= size
        raise IndexError(f"There are {self.num_rows} rows only.")

    def in_memory(self) -> pa.Table:
        """All rows."""
        return pa.concat_tables([chunk.table for chunk in self.chunks()] or [self.features.arrow_schema.empty_table()])

    def first_cells(self, column: str) -> list[Any]:
        """The first cells of a column, at most 256."""
        chunks = islice(self.only([column]).chunks(0, 4 * _AT_A_TIME), 4)
        return [cell for chunk in chunks for cell in chunk.table[column].to_pylist()]


class Place:
    """What a message calls a row, looked up when it is asked for.

    Args:
        rows: The rows.
        row: Number of the row there.
    """

    def __init__(self, rows: Rows, row: int) -> None:
        self._rows, self._row = rows, row

    def __str__(self) -> str:
        return self._rows.place(self._row)
