"""Read the rows of tables from any row on, a few at a time, whatever the tables are stored as."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetsError
from numpy.typing import NDArray

READ_BYTES = 2**20
_AT_A_TIME = 64

READ_ERRORS = (OSError, ValueError, pa.ArrowException, DatasetsError, httpx.HTTPError)
"""What reading a table raises where the table is damaged, or cannot be reached."""


class Chunk(NamedTuple):
    """Some rows of a table.

    Attributes:
        table: The rows.
        source: The file or dataset that they are of.
        first: Number of the first one there, from 0.
    """

    table: pa.Table
    source: str
    first: int

    def place(self, row: int) -> str:
        """What a message calls a row of the chunk."""
        return f"row {self.first + row} of {self.source}"


class RowReader(Protocol):
    """The rows of a table, or of several that are read one after the other."""

    @property
    def features(self) -> Features:
        """Names and types of the columns."""

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None where only reading to the end would tell."""

    @property
    def by_number(self) -> bool:
        """Whether it costs nothing to begin with any row."""

    def only(self, columns: Sequence[str]) -> "RowReader":
        """The same rows with at least these columns."""

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Rows from `start` up to `stop`, or up to the end."""


class DatasetRows:
    """Rows of a `Dataset`, whose files are mapped into memory.

    Args:
        dataset: The rows.
        source: What messages call it.
    """

    by_number = True

    def __init__(self, dataset: Dataset, source: str) -> None:
        self._dataset, self._source = dataset.with_format("arrow"), source
        self.features: Features = dataset.features
        self.num_rows = len(dataset)

    def only(self, columns: Sequence[str]) -> "DatasetRows":
        """See `RowReader`."""
        return DatasetRows(self._dataset.select_columns(list(dict.fromkeys(columns))), self._source)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `RowReader`."""
        stop = self.num_rows if stop is None else min(stop, self.num_rows)
        for row in range(start, stop, _AT_A_TIME):
            yield Chunk(self._dataset[row : min(row + _AT_A_TIME, stop)], self._source, row)


class ParquetRows:
    """Rows of parquet files, of which a page a column is in memory, and not a whole row group.

    Args:
        files: The files, with the same columns.
        columns: Columns to read; None reads all.
    """

    by_number = False  # a row group is read from its beginning

    def __init__(self, files: Sequence[Path], columns: list[str] | None = None) -> None:
        self._files, self._columns = files, columns
        self.features = Features.from_arrow_schema(pq.read_schema(files[0]))
        self._sizes = [pq.read_metadata(file).num_rows for file in files]
        self.num_rows = sum(self._sizes)

    def only(self, columns: Sequence[str]) -> "ParquetRows":
        """See `RowReader`."""
        return ParquetRows(self._files, list(dict.fromkeys(columns)))

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `RowReader`."""
        before = 0
        for path, size in zip(self._files, self._sizes, strict=True):
            stop_here = size if stop is None else min(stop - before, size)
            if max(start - before, 0) < stop_here:
                yield from self._chunks_of_file(path, max(start - before, 0), stop_here)
            before += size

    def _chunks_of_file(self, path: Path, start: int, stop: int) -> Iterator[Chunk]:
        row = 0
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if row + size <= start or row >= stop:
                    row += size
                    continue
                for batch in file.iter_batches(_AT_A_TIME, row_groups=[group], columns=self._columns):
                    table = pa.Table.from_batches([batch])[max(start - row, 0) : max(stop - row, 0)]
                    if len(table):
                        yield Chunk(table, str(path), max(start, row))
                    row += len(batch)


class CsvRows:
    """Rows of CSV files, in which every cell is text: 007 stays 007, and NA is a name.

    Args:
        files: The files, with the same columns.
        columns: Columns to read; None reads all.
    """

    num_rows = None
    by_number = False

    def __init__(self, files: Sequence[Path], columns: list[str] | None = None) -> None:
        self._files = files
        if columns is None:
            with _open_csv(files[0], None) as reader:
                columns = reader.schema.names
        self._columns = columns
        self.features = Features({column: Value("string") for column in columns})

    def only(self, columns: Sequence[str]) -> "CsvRows":
        """See `RowReader`."""
        return CsvRows(self._files, list(dict.fromkeys(columns)))

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `RowReader`."""
        before = 0
        for path in self._files:
            row = 0
            with _open_csv(path, self._columns) as reader:
                for batch in reader:
                    for first in range(0, len(batch), _AT_A_TIME):
                        table = pa.Table.from_batches([batch[first : first + _AT_A_TIME]])
                        begin = max(start - before - row, 0)
                        end = len(table) if stop is None else max(stop - before - row, 0)
                        if len(table[begin:end]):
                            yield Chunk(table[begin:end], str(path), row + begin)
                        row += len(table)
            before += row


class NumpyRows:
    """Rows of features in NumPy's files, `NAME.npy`, with their labels in `NAME.labels.npy` where there are some.

    Args:
        files: Arrays `(N, F)` or `(N, V, F)` of numbers, mapped into memory.

    Raises:
        ValueError: If a file is no such array, or its labels are not one a row.
    """

    by_number = True

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._arrays = [_open_array(file) for file in files]
        self._labels = [_open_labels(file, len(array)) for file, array in zip(files, self._arrays, strict=True)]
        self.num_rows = sum(map(len, self._arrays))
        first = next(iter(self.chunks(0, 1)), None)
        self.features = Features() if first is None else Features.from_arrow_schema(first.table.schema)

    def only(self, columns: Sequence[str]) -> "NumpyRows":
        """See `RowReader`; there are no other columns."""
        return self

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `RowReader`."""
        before = 0
        for file, array, labels in zip(self._files, self._arrays, self._labels, strict=True):
            last = len(array) if stop is None else min(stop - before, len(array))
            for row in range(max(start - before, 0), last, _AT_A_TIME):
                rows = slice(row, min(row + _AT_A_TIME, last))
                columns = {"features": _nested(array[rows])}
                if labels is not None:
                    columns["label"] = pa.array(labels[rows].tolist())
                yield Chunk(pa.table(columns), str(file), row)
            before += len(array)


class StreamRows:
    """Rows of an `IterableDataset`; those before the first wanted one are read and passed over.

    Args:
        stream: The rows.
        source: What messages call it.
        features: Types of the columns, where they are known.
    """

    num_rows = None
    by_number = False

    def __init__(self, stream: IterableDataset, source: str, features: Features | None = None) -> None:
        self._stream, self.source = stream, source
        found = features or stream.features
        if found is None:  # a format that does not name its columns at the beginning
            first = next(iter(stream.with_format("arrow").iter(batch_size=_AT_A_TIME)), None)
            found = Features() if first is None else Features.from_arrow_schema(first.schema)
        self.features: Features = found

    def only(self, columns: Sequence[str]) -> "StreamRows":
        """See `RowReader`."""
        chosen = list(dict.fromkeys(columns))
        types = Features({name: self.features[name] for name in chosen})
        return StreamRows(self._stream.select_columns(chosen), self.source, types)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `RowReader`."""
        rows: Any = self._stream.skip(start) if start else self._stream
        if stop is not None:
            rows = rows.take(max(stop - start, 0))
        for table in rows.with_format("arrow").iter(batch_size=_AT_A_TIME):
            yield Chunk(table, self.source, start)
            start += len(table)


class ChainedRows:
    """Rows of several readers, one after the other.

    Args:
        readers: At least one, with the same columns.
    """

    by_number = False

    def __init__(self, readers: Sequence[RowReader]) -> None:
        self._readers = readers
        self.features = readers[0].features
        sizes = [reader.num_rows for reader in readers]
        self.num_rows = None if None in sizes else sum(size for size in sizes if size is not None)

    def only(self, columns: Sequence[str]) -> "ChainedRows":
        """See `RowReader`."""
        return ChainedRows([reader.only(columns) for reader in self._readers])

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `RowReader`."""
        before = 0
        for reader in self._readers:
            if stop is not None and before >= stop:
                return
            size = reader.num_rows
            if size is not None and before + size <= start:
                before += size
                continue
            first = max(start - before, 0) if size is not None else 0  # a stream does not tell how much it passed over
            count = first
            for chunk in reader.chunks(first, None if stop is None else stop - before):
                begin = max(start - before - count, 0)
                count += len(chunk.table)
                if begin < len(chunk.table):
                    yield Chunk(chunk.table[begin:], chunk.source, chunk.first + begin)
            before += count


class Place:
    """What a message calls a row, looked up when it is asked for.

    Args:
        reader: The rows.
        row: Number of the row there.
    """

    def __init__(self, reader: RowReader, row: int) -> None:
        self._reader, self._row = reader, row

    def __str__(self) -> str:
        if isinstance(self._reader, StreamRows):
            return f"row {self._row} of {self._reader.source}"
        return next(iter(self._reader.chunks(self._row, self._row + 1))).place(0)


def read_table(reader: RowReader) -> pa.Table:
    """All rows of a reader in memory."""
    return pa.concat_tables([chunk.table for chunk in reader.chunks()])


def first_cells(reader: RowReader, column: str) -> list[Any]:
    """The first cells of a column."""
    return [cell for chunk in islice(reader.chunks(0, _AT_A_TIME), 4) for cell in chunk.table[column].to_pylist()]


def _open_csv(file: Path, columns: list[str] | None) -> pa.csv.CSVStreamingReader:
    types = None if columns is None else dict.fromkeys(columns, pa.string())
    return pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(block_size=READ_BYTES, use_threads=False),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=types, include_columns=columns, strings_can_be_null=False),
    )


def _open_array(file: Path) -> NDArray[Any]:
    """One array, and no archive of several, which `np.load` would read too."""
    array: NDArray[Any] = np.lib.format.open_memmap(file, mode="r")
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        raise ValueError(f"it must hold numbers (N, F) or (N, V, F), but holds {array.dtype} {array.shape}")
    return array


def _open_labels(file: Path, num_rows: int) -> NDArray[Any] | None:
    path = file.with_suffix(".labels.npy")
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        labels: NDArray[Any] = np.lib.format.read_array(opened, allow_pickle=False)
    if labels.ndim not in (1, 2) or len(labels) != num_rows:
        raise ValueError(f"{path.name} must hold a label for each of the {num_rows} rows, but is {labels.shape}")
    return labels


def _nested(values: NDArray[Any]) -> pa.Array:
    """Numbers `(n, F)` or `(n, V, F)` as lists."""
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), values.shape[-1])
    return flat if values.ndim == 2 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
