"""Read tables of rows from the middle on, with little of them in memory: by their numbers, or in one pass."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset

_AT_A_TIME = 64
READ_BYTES = 2**20


class RowReader(Protocol):
    """Rows of a source."""

    @property
    def num_rows(self) -> int | None:
        """How many there are; None where only reading to the end would tell."""

    @property
    def by_number(self) -> bool:
        """Whether it costs nothing to begin with any row."""

    def only(self, columns: list[str], id_column: str | None) -> "RowReader":
        """The same rows, with at least these columns, and one of whole numbers."""

    def tables(self, start: int, stop: int | None = None) -> Iterator[pa.Table]:
        """Rows from `start` up to `stop`, or up to the end, a few at a time."""


class DatasetRows:
    """Rows of a `Dataset`, which lie in files that are mapped into memory."""

    by_number = True

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset.with_format("arrow")
        self.num_rows = len(dataset)

    def only(self, columns: list[str], id_column: str | None) -> "DatasetRows":
        """See `RowReader`."""
        return DatasetRows(self._dataset.select_columns(_together(columns, id_column)))

    def tables(self, start: int, stop: int | None = None) -> Iterator[pa.Table]:
        """See `RowReader`."""
        stop = self.num_rows if stop is None else min(stop, self.num_rows)
        for row in range(start, stop, _AT_A_TIME):
            yield self._dataset[row : min(row + _AT_A_TIME, stop)]


class ParquetRows:
    """Rows of one parquet file, of which a page a column is in memory, and not a whole row group.

    Args:
        file: The file.
        columns: Those to read; None stands for all.
    """

    by_number = False  # a row group is read from its beginning

    def __init__(self, file: Path, columns: list[str] | None = None) -> None:
        self._file, self._columns = file, columns
        self.num_rows = pq.read_metadata(file).num_rows

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""
        return pq.read_schema(self._file)

    def only(self, columns: list[str], id_column: str | None) -> "ParquetRows":
        """See `RowReader`."""
        return ParquetRows(self._file, _together(columns, id_column))

    def tables(self, start: int, stop: int | None = None) -> Iterator[pa.Table]:
        """See `RowReader`."""
        stop = self.num_rows if stop is None else min(stop, self.num_rows)
        row = 0
        with pq.ParquetFile(self._file, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if row + size <= start or row >= stop:
                    row += size
                    continue
                for batch in file.iter_batches(_AT_A_TIME, row_groups=[group], columns=self._columns):
                    table = pa.Table.from_batches([batch])[max(start - row, 0) : max(stop - row, 0)]
                    row += len(batch)
                    if len(table):
                        yield table


class CsvRows:
    """Rows of one CSV file.

    Args:
        file: The file.
        types: Of the columns to read; None stands for all, of the types that their first values have.
    """

    num_rows = None
    by_number = False

    def __init__(self, file: Path, types: dict[str, pa.DataType] | None = None) -> None:
        self._file, self._types = file, types

    @property
    def schema(self) -> pa.Schema:
        """Columns and types, as the beginning of the file has them."""
        with self._open() as reader:
            return reader.schema

    def only(self, columns: list[str], id_column: str | None) -> "CsvRows":
        """See `RowReader`; what is no id is text, which needs no guess: 007 stays 007."""
        ids = {} if id_column is None else {id_column: pa.int64()}
        return CsvRows(self._file, dict.fromkeys(columns, pa.string()) | ids)

    def tables(self, start: int, stop: int | None = None) -> Iterator[pa.Table]:
        """See `RowReader`."""
        row = 0
        with self._open() as reader:
            for batch in reader:
                for first in range(0, len(batch), _AT_A_TIME):
                    table = pa.Table.from_batches([batch[first : first + _AT_A_TIME]])
                    stop_here = len(table) if stop is None else max(stop - row, 0)
                    kept = table[max(start - row, 0) : stop_here]
                    row += len(table)
                    if len(kept):
                        yield kept

    def _open(self) -> pa.csv.CSVStreamingReader:
        return pa.csv.open_csv(
            self._file,
            read_options=pa.csv.ReadOptions(block_size=READ_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=self._types, include_columns=self._types, strings_can_be_null=True
            ),
        )


class StreamRows:
    """Rows of an `IterableDataset`; those before the first one are read and passed over."""

    num_rows = None
    by_number = False

    def __init__(self, dataset: IterableDataset) -> None:
        self._dataset = dataset

    def only(self, columns: list[str], id_column: str | None) -> "StreamRows":
        """See `RowReader`; all columns are read."""
        return self

    def tables(self, start: int, stop: int | None = None) -> Iterator[pa.Table]:
        """See `RowReader`."""
        rows: Any = self._dataset.skip(start)
        if stop is not None:
            rows = rows.take(max(stop - start, 0))
        yield from rows.with_format("arrow").iter(batch_size=_AT_A_TIME)


def _together(columns: list[str], id_column: str | None) -> list[str]:
    return list(dict.fromkeys([*columns, *filter(None, [id_column])]))
