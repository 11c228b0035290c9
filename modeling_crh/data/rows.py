"""Rows of one or several tables, read in small chunks from any row on; and the one rule of what a readable row is.

Images and sounds must decode, texts say something, and features be finite.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Audio, Features, Image
from datasets.exceptions import DatasetsError
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.file_bytes import UnreadableError, httpx
from modeling_crh.images import read_pixels
from modeling_crh.sounds import Sound, read_sound

AT_A_TIME = 64

READ_ERRORS = (OSError, ValueError, pa.ArrowException, DatasetsError, httpx.HTTPError, tarfile.TarError)
"""Errors of a damaged or unreachable table."""


class Chunk(NamedTuple):
    """Some rows of a table, from row `first` on, with `source` and `base` of its `TableReader`."""

    table: pa.Table
    source: str
    first: int
    base: Path | None

    def place(self, row: int) -> str:
        """Name of a row of the chunk in messages."""
        return f"row {self.first + row} of {self.source}"


class TableReader:
    """Reader of one file or dataset. A subclass sets the attributes, and implements `only` and `batches`.

    Attributes:
        source: Name in messages.
        features: Names and types of the columns.
        num_rows: Number of rows; None if it is unknown before the table is read to its end.
        base: Folder that paths in cells are relative to; None for absolute paths.
        by_number: Whether reading can start at any row at no cost.
    """

    source: str
    features: Features
    num_rows: int | None = None
    base: Path | None = None
    by_number: bool = False

    def only(self, columns: list[str]) -> "TableReader":
        """Make a reader of the same rows with at least these columns."""
        raise NotImplementedError

    def batches(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        """Yield number of the first row, and rows, up to the end; the first batch may begin before `start`."""
        raise NotImplementedError

    def paths(self, column: str) -> Iterator[str | None]:
        """Yield what a column names as images or sounds: every cell of text, and paths of structs without bytes."""
        for _, table in self.only([column]).batches(0):
            cells = table[column]
            if pa.types.is_struct(cells.type):
                named = {cells.type.field(place).name for place in range(cells.type.num_fields)}
                cells = cells.filter(pc.struct_field(cells, "bytes").is_null()) if "bytes" in named else cells
                cells = pc.struct_field(cells, "path") if "path" in named else cells[:0]
            elif not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
                return
            yield from cells.to_pylist()


def _check_texts(table: pa.Table, place: str) -> None:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"`dataset` must hold texts in UTF-8, but in {place} one is not: {error}.") from error


class Rows:
    """The rows of several tables, at least one and all with the same columns, one after the other."""

    def __init__(self, readers: Sequence[TableReader]) -> None:
        self.readers = readers
        self._sizes = [reader.num_rows for reader in readers]

    @property
    def features(self) -> Features:
        """Names and types of the columns."""
        return self.readers[0].features

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None if it is unknown before the tables are read to their end."""
        known = [size for size in self._sizes if size is not None]
        return sum(known) if len(known) == len(self._sizes) else None

    @property
    def by_number(self) -> bool:
        """Whether reading can start at any row at no cost."""
        return all(reader.by_number for reader in self.readers)

    def only(self, columns: Sequence[str]) -> "Rows":
        """Make a reader of the same rows with at least these columns, if a table has them."""
        wanted = list(dict.fromkeys(columns))
        return Rows([reader.only([name for name in wanted if name in reader.features]) for reader in self.readers])

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield rows from `start` to `stop` (exclusive), or to the end, at most 64 at a time."""
        before = 0
        for number, reader in enumerate(self.readers):
            size = self._sizes[number]
            if size is not None and before + size <= start:
                before += size
                continue
            can_skip = size is not None or number == len(self.readers) - 1  # a stream does not count the rows it skips
            row_count = max(start - before, 0) if can_skip else 0
            for first, table in reader.batches(row_count):
                _check_texts(table, f"{reader.source} from row {first} on")
                end = len(table) if stop is None else min(stop - before - first, len(table))
                for row in range(max(start - before - first, 0), end, AT_A_TIME):
                    yield Chunk(table[row : min(row + AT_A_TIME, end)], reader.source, first + row, reader.base)
                row_count = first + len(table)
                if stop is not None and before + row_count >= stop:
                    return
            if start <= before:
                self._sizes[number] = row_count
            before += row_count

    def places(self) -> Iterator[str]:
        """Yield the names of all rows in messages; tables of unknown size must have been read before."""
        for reader, size in zip(self.readers, self._sizes, strict=True):
            yield from (f"row {row} of {reader.source}" for row in (count() if size is None else range(size)))

    def in_memory(self) -> pa.Table:
        """Read all rows into memory."""
        return pa.concat_tables([chunk.table for chunk in self.chunks()] or [self.features.arrow_schema.empty_table()])

    def first_cells(self, column: str) -> list[Any]:
        """Read the first cells of a column, at most 256."""
        chunks = islice(self.only([column]).chunks(0, 4 * AT_A_TIME), 4)
        return [cell for chunk in chunks for cell in chunk.table[column].to_pylist()]


Kind = Literal["image", "audio", "text", "features"]
"""What the rows of a source hold."""

PLURALS: dict[Kind, str] = {"image": "images", "audio": "sounds", "text": "texts", "features": "features"}
"""Words for the rows of a source, by kind."""

FILE_KINDS: dict[Kind, Any] = {"image": Image, "audio": Audio}
"""Types of the columns of files, by kind; where no column is named, the first kind is preferred."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Args:
        path: The file of its image, or its place such as "row 17 of reviews.csv".
        reason: What is wrong with it.
    """

    path: str
    reason: str

    def as_error(self, *, can_skip: bool = True) -> ValueError:
        """The error that ends a run which does not skip bad rows; `can_skip` tells how it could."""
        how = "; `--skip-bad` (`skip_bad=True`) leaves such rows out" if can_skip else ""
        return ValueError(f"Every row must be readable, but {self.path} is not: {self.reason}{how}.")


def read_value(
    kind: Kind, value: Any, place: object, least_side: int | None = None
) -> Tensor | Sound | str | NDArray[np.float32] | BadRow:
    """Read the value of one row.

    Args:
        kind: What the row holds.
        value: An image or a sound as `{"bytes": ..., "path": ...}` or anything that `read_image` or `read_sound` takes,
            a text, or numbers; None where it is missing.
        place: What a message calls the row.
        least_side: Number of pixels that a side of an image needs, see `images.needed_side`; None decodes all.

    Returns:
        Pixels `(3, H, W)` uint8, a `Sound`, a text, or features `(F,)` or `(V, F)`; or the bad row that it is.

    Raises:
        ValueError: If the value is of another type, which no row of the column can have.
        OSError: If the machine cannot read an image or a sound, such as for a denied permission.
        ModuleNotFoundError: If the package that decodes sound is not installed.
    """
    if value is None:
        return BadRow(str(place), "it is missing")
    if kind in FILE_KINDS:
        try:
            return read_pixels(value, place, least_side) if kind == "image" else read_sound(value, place)
        except UnreadableError as error:
            return BadRow(error.name, error.reason)
    if kind == "text":
        if not isinstance(value, str):
            raise ValueError(f"`text` must be a string, but {place} has {value!r:.80}.")
        return value if value.strip() else BadRow(str(place), "its text is empty")
    return _read_features(value, place)


def _read_features(value: Any, place: object) -> NDArray[np.float32] | BadRow:
    views = list(value) if isinstance(value, np.ndarray) and value.dtype == object else value
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told below
            numbers = np.asarray(views, dtype=np.float32)
    except (TypeError, ValueError) as error:  # NumPy's two errors for what is no array of numbers
        raise ValueError(f"`features` must hold numbers of one shape, but {place} does not: {error}.") from error
    if numbers.ndim not in (1, 2) or 0 in numbers.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but {place} has {numbers.shape}.")
    return numbers if np.isfinite(numbers).all() else BadRow(str(place), "its features are not finite")


def check_distinct(ids: pa.ChunkedArray, name: str = "ids") -> None:
    """Raise a `ValueError` if an id comes twice."""
    if pa.types.is_integer(ids.type):
        numbers = ids.to_numpy()
        if (numbers[1:] > numbers[:-1]).all():  # as numbered by `crh encode`: no count is needed
            return
    counts = pc.value_counts(ids.cast(pa.large_string()) if pa.types.is_string(ids.type) else ids)
    doubles = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(doubles):
        raise ValueError(f"`{name}` must be distinct, but {doubles[0]['values'].as_py()!r:.80} comes twice.")
