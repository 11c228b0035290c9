"""Readers of single tables: datasets, parquet, CSV, NumPy's arrays, and streams."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from datasets import Audio, Dataset, Features, Image, IterableDataset, Value
from numpy.typing import NDArray

from modeling_crh.data.rows import AT_A_TIME, TableReader
from modeling_crh.runtime.terminal import say

READ_BYTES = 2**20
_HEADER_BYTES = 2**16  # of the first line of a CSV file


class DatasetReader(TableReader):
    """Rows of a `Dataset`, whose files are mapped into memory."""

    by_number = True

    def __init__(self, dataset: Dataset, source: str) -> None:
        self._dataset, self.source = dataset.with_format("arrow"), source
        self.features = dataset.features
        self.num_rows = len(dataset)

    def only(self, columns: list[str]) -> "DatasetReader":
        """See `TableReader`."""
        return DatasetReader(self._dataset.select_columns(columns), self.source)

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """See `TableReader`."""
        for row in range(start, len(self._dataset), AT_A_TIME):
            yield row, self._dataset[row : row + AT_A_TIME]


class ParquetReader(TableReader):
    """Rows of a parquet file, read page by page to save memory: a row group may hold gigabytes."""

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self.source, self.base = str(path), path.parent
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        names = schema.names if columns is not None else _distinct(schema.names, path)
        if len(names) < len(schema.names):
            schema, columns = pa.schema([schema.field(name) for name in names]), names
        self._path, self.columns = path, columns
        self.features = Features.from_arrow_schema(schema)
        self.num_rows = metadata.num_rows

    def only(self, columns: list[str]) -> "ParquetReader":
        """See `TableReader`."""
        return ParquetReader(self._path, columns)

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """See `TableReader`."""
        row = 0
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if row + size > start:
                    first = row
                    for batch in file.iter_batches(AT_A_TIME, row_groups=[group], columns=self.columns):
                        yield first, pa.Table.from_batches([batch])
                        first += len(batch)
                row += size

    def paths(self, column: str) -> Iterator[str | None]:
        """See `TableReader`; a file whose cells all hold their bytes is not read, which could take hours."""
        metadata = pq.read_metadata(self._path)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        leaves = [group.column(place) for group in groups for place in range(group.num_columns)]
        stored = [leaf.statistics for leaf in leaves if leaf.path_in_schema == f"{column}.bytes"]
        if not stored or any(found is None or found.null_count for found in stored):
            yield from super().paths(column)


class CsvReader(TableReader):
    """Rows of a CSV file, with every cell read as text: 007 stays 007, and NA is a name.

    Columns are divided by commas; where the first line has none, by its semicolons or tabs, as spreadsheets write them.
    """

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self._path = path
        self.source, self.base = str(path), path.parent
        with path.open("rb") as file:
            first = file.readline(_HEADER_BYTES)
        found = next((mark for mark in ",;\t" if mark.encode() in first), ",")
        self._delimiter = "\t" if path.suffix == ".tsv" else found
        if columns is None:
            if self._delimiter != "," and path.suffix != ".tsv":
                say(f"The columns of {path} are divided by {'tabs' if self._delimiter != ';' else 'semicolons'}.")
            with self._named_errors(), self._open(None) as reader:
                columns = _distinct(reader.schema.names, path)
        self._columns = columns
        self.features = Features(**{column: Value("string") for column in columns})

    def only(self, columns: list[str]) -> "CsvReader":
        """See `TableReader`."""
        return CsvReader(self._path, columns)

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """See `TableReader`."""
        row = 0
        with self._named_errors(), self._open(self._columns) as reader:
            for batch in reader:
                yield row, pa.Table.from_batches([batch])
                row += len(batch)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowInvalid as error:
            if "invalid UTF8" not in str(error):
                raise
            raise ValueError(f"`dataset` must hold texts in UTF-8, but {self.source} does not: {error}.") from error

    def _open(self, columns: list[str] | None) -> pa.csv.CSVStreamingReader:
        types = None if columns is None else dict.fromkeys(columns, pa.string())
        return pa.csv.open_csv(
            self._path,
            read_options=pa.csv.ReadOptions(block_size=READ_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=types, include_columns=columns, strings_can_be_null=False
            ),
        )


def _distinct(names: list[str], path: Path) -> list[str]:
    """Leave out columns that share their name, as those without one in a CSV file that a spreadsheet wrote."""
    if repeated := {name for name, count in Counter(names).items() if count > 1}:
        say(f"Columns of {path} that share their name are not read: {', '.join(map(repr, sorted(repeated)))}.")
    return [name for name in names if name not in repeated]


class NumpyReader(TableReader):
    """Rows of features in `NAME.npy`, with their labels in `NAME.labels.npy` if that file exists.

    Args:
        path: Path of an array `(N, F)` or `(N, V, F)` of numbers, mapped into memory.

    Raises:
        ValueError: If the file holds no such array, or the number of labels differs from N.
    """

    by_number = True

    def __init__(self, path: Path) -> None:
        self._array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # `np.load` would accept archives
        if self._array.dtype.kind not in "biuf" or self._array.ndim not in (2, 3):
            raise ValueError(
                f"it must hold numbers (N, F) or (N, V, F), but holds {self._array.dtype} {self._array.shape}"
            )
        self._labels = _read_labels(path.with_suffix(".labels.npy"), len(self._array))
        self.source, self.num_rows = str(path), len(self._array)
        self.features = Features.from_arrow_schema(self._table(slice(0, 1)).schema) if self.num_rows else Features()

    def only(self, columns: list[str]) -> "NumpyReader":
        """See `TableReader`; all columns are kept, `features` and `label`."""
        return self

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """See `TableReader`."""
        for row in range(start, len(self._array), AT_A_TIME):
            yield row, self._table(slice(row, row + AT_A_TIME))

    def _table(self, rows: slice) -> pa.Table:
        values: pa.Array = pa.array(self._array[rows].astype(np.float32).reshape(-1))
        for width in reversed(self._array.shape[1:]):
            values = pa.FixedSizeListArray.from_arrays(values, width)
        columns = {"features": values}
        if self._labels is not None:
            columns["label"] = pa.array(self._labels[rows].tolist())
        return pa.table(columns)


def _read_labels(path: Path, num_rows: int) -> NDArray[Any] | None:
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        labels: NDArray[Any] = np.lib.format.read_array(opened, allow_pickle=False)
    if labels.ndim not in (1, 2) or len(labels) != num_rows:
        raise ValueError(f"{path.name} must hold a label for each of the {num_rows} rows, but is {labels.shape}")
    return labels


class StreamReader(TableReader):
    """Rows of an `IterableDataset`; rows before the first wanted one are read and skipped."""

    def __init__(
        self, stream: IterableDataset, source: str, features: Features | None = None, base: Path | None = None
    ) -> None:
        self._stream, self.source, self.base = stream, source, base
        if (found := features or stream.features) is None:  # the format does not declare its columns
            first = next(iter(stream.with_format("arrow").iter(batch_size=AT_A_TIME)), None)
            found = Features() if first is None else Features.from_arrow_schema(first.schema)
        self.features = found

    def only(self, columns: list[str]) -> "StreamReader":
        """See `TableReader`."""
        types = Features(**{name: self.features[name] for name in columns})
        return StreamReader(self._stream.select_columns(columns), self.source, types, self.base)

    def paths(self, column: str) -> Iterator[str | None]:
        """See `TableReader`; of tars and of data sets on the Hub, whose own version tells of all files, none."""
        return iter(()) if isinstance(self.features[column], Image | Audio) else super().paths(column)

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """See `TableReader`."""
        stream = self._stream.skip(start) if start else self._stream
        for table in stream.with_format("arrow").iter(batch_size=AT_A_TIME):
            yield start, table
            start += len(table)
