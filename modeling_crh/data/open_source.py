"""Open what a `DataSource` names, as rows of images, sounds, texts or features with their labels."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from modeling_crh.data.columns import Columns, choose_columns, stored_file
from modeling_crh.data.label_forms import Label
from modeling_crh.data.rows import FILE_KINDS, READ_ERRORS, Chunk, Kind, Rows
from modeling_crh.data.stored import open_stored
from modeling_crh.data.tables import Part, file_version, no_rows, raise_read_error
from modeling_crh.data_source import DataSource
from modeling_crh.runtime.terminal import silenced


class Row(NamedTuple):
    """One item of a source.

    Attributes:
        id: Number of the item in the source, from 0, or its cell in the column of ids.
        path: Path of the image or sound file, or place of the row, such as "row 17 of reviews.csv".
        label: Class name, several class names, or None without a label.
        value: Image or sound as `stored_source` takes it, text, or numbers; None if it is missing.
    """

    id: int | str
    path: str
    label: Label
    value: Any


@dataclass(frozen=True)
class OpenedSource:
    """A source whose rows can be read; `open_source` makes it.

    Attributes:
        name: Absolute path, or name of a benchmark or dataset.
        stored_version: Digest of the files that hold the rows.
        parts: Rows by name of the part: `train`, `validation`, `query`, `all`, or another split.
        columns: Columns that are read.
        allow_urls: Hosts that URLs in rows may lead to, see `read_bytes`; None for none.
        reopen: Function that opens the files again; None for other sources.
    """

    name: str
    stored_version: str
    parts: dict[str, Part]
    columns: Columns
    allow_urls: str | None = None
    reopen: "Callable[[], OpenedSource] | None" = None

    @cached_property
    def version(self) -> str:
        """Digest that changes with the files of the source, and with local images and sounds that its cells name."""
        column, found = self.columns.value, hashlib.sha256(self.stored_version.encode())
        names_files = False
        for reader in self._all_rows.readers if self.kind in FILE_KINDS else ():
            for path in reader.paths(column):
                found.update(file_version(stored_file(path, reader.base)["path"]))
                names_files = True
        return found.hexdigest() if names_files else self.stored_version

    def has_changed(self) -> bool:
        """Whether files on this machine have changed, come or gone since `version` was first read."""
        if self.reopen is None:
            return False
        with silenced():
            try:
                return self.reopen().version != self.version
            except (ValueError, FileNotFoundError):  # nothing is left that can be read
                return True

    @property
    def num_rows(self) -> int | None:
        """Number of rows of all parts; None if it is unknown before they are read to their end."""
        return self._all_rows.num_rows

    @property
    def kind(self) -> Kind:
        """Kind of the rows: image, audio, text or features."""
        return self.columns.kind

    @property
    def has_string_ids(self) -> bool:
        """Whether ids are strings rather than whole numbers."""
        column = self.columns.id
        return column is not None and str(self._all_rows.features[column].dtype).endswith("string")

    def shards(
        self, shard_size: int, wanted: Callable[[int], bool], first: int = 0
    ) -> Iterator[tuple[int, Iterator[Row]]]:
        """Yield the rows of chosen shards: shard `s` holds `shard_size` rows, from row `s * shard_size` on.

        Args:
            shard_size: Number of rows per shard; the last one may have fewer.
            wanted: Function that tells by its number whether to yield a shard.
            first: Number of the first shard to consider.

        Yields:
            Number and rows of each non-empty shard; read the rows before the next shard.

        Raises:
            ValueError: If the source, a label or an id cannot be read.
        """
        if self._all_rows.by_number and self.num_rows is not None:
            for shard in range(first, -(-self.num_rows // shard_size)):
                if wanted(shard):
                    yield shard, self.rows(shard * shard_size, (shard + 1) * shard_size)
            return
        rows = self.rows(first * shard_size)
        for shard, head in zip(count(first), rows):
            block = chain([head], islice(rows, shard_size - 1))
            if wanted(shard):
                yield shard, block
            deque(block, maxlen=0)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Yield the rows of all parts in turn, from `start` to `stop` (exclusive), or to the end.

        Raises:
            ValueError: If the source, a label or an id cannot be read.
            OSError: If the operating system cannot read a file, such as for a denied permission.
        """
        chunks, number = iter(self._all_rows.only(self.columns.names).chunks(start, stop)), start
        while True:
            try:  # around the reading alone: an error in what is made of the rows is another
                chunk = next(chunks, None)
            except READ_ERRORS as error:
                raise_read_error(self.name, error)
            if chunk is None:
                return
            yield from self._read(chunk, number)
            number += len(chunk.table)

    def spread(self, count: int) -> Iterator[Row]:
        """Yield at most `count` rows in order: spread evenly where rows are read by number, else the first."""
        if not self._all_rows.by_number or self.num_rows is None:
            yield from self.rows(0, count)
            return
        taken = min(count, self.num_rows)
        for number in range(taken):
            start = number * self.num_rows // taken
            yield from self.rows(start, start + 1)

    @cached_property
    def _all_rows(self) -> Rows:
        return Rows([reader for part in self.parts.values() for reader in part.rows.readers])

    def _read(self, chunk: Chunk, number: int) -> Iterator[Row]:
        for row, (value, cell, given) in enumerate(zip(*self._cells(chunk.table), strict=True)):
            path = place = chunk.place(row)
            if self.kind in FILE_KINDS and value is not None:
                value = stored_file(value, chunk.base)
                if self.allow_urls is not None:
                    value["allow_urls"] = self.allow_urls
                path = value["path"] or place
            label = None if self.columns.label is None else self.columns.label.read(cell, place)
            yield Row(self._id(given, number + row, place), path, label, value)

    def _cells(self, table: pa.Table) -> tuple[Any, Sequence[Any], Sequence[Any]]:
        column, label, ids = table[self.columns.value], self.columns.label, self.columns.id
        is_nested = self.kind == "features" and not pa.types.is_string(column.type)
        values = column.to_numpy(zero_copy_only=False) if is_nested else column.to_pylist()
        empty = [None] * len(table)
        labels = empty if label is None or label.column not in table.column_names else table[label.column].to_pylist()
        return values, labels, empty if ids is None else table[ids].to_pylist()

    def _id(self, given: Any, number: int, place: str) -> int | str:
        if self.columns.id is None:
            return number
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise ValueError(f"`id_column` must hold whole numbers or strings, but {place} has {given!r:.80}.")
        if isinstance(given, int) and given >= 2**63:
            raise ValueError(f"`id_column` must hold whole numbers below 2^63 or strings, but {place} has {given}.")
        return given


def open_source(dataset: Any, *, needs_label: bool = True, **options: Any) -> OpenedSource:
    """Open data to encode or to train on; only the first rows are read.

    Args:
        dataset: Name of a data source or a dataset object, see `DataSource`.
        needs_label: Whether the column that `label_column` names must exist.
        **options: Other fields of `DataSource`.

    Raises:
        FileNotFoundError: If `dataset` does not exist.
        ValueError: If the source is empty, cannot be read, or lacks a named column.

    Example:
        >>> source = open_source("fashion_mnist_sample")
        >>> number, rows = next(source.shards(1000, wanted=lambda shard: shard == 2))
        >>> source.num_rows, number, next(rows).id
        (7000, 2, 2000)
    """
    return open_data(DataSource(dataset=dataset, **options), needs_label=needs_label)


def open_data(source: DataSource, *, needs_label: bool = True) -> OpenedSource:
    """Open a `DataSource`, see `open_source`."""
    stored = open_stored(source)
    parts = stored.parts(source.split)
    if all(part.rows.num_rows == 0 or not part.rows.features for part in parts.values()):
        raise no_rows(stored.name)
    columns = choose_columns(source, next(iter(parts.values())), needs_label=needs_label)
    for name, part in parts.items():
        if missing := [column for column in (columns.value, columns.id) if column and column not in part.rows.features]:
            found = list(part.rows.features)
            raise ValueError(f"`split` {name} must have a column {missing[0]!r} as the others do, but has {found}.")
    allowed = ",".join(filter(None, (source.allow_urls, stored.place))) or None
    is_here = isinstance(source.dataset, str | Path) and Path(source.dataset).exists()
    reopen = partial(open_data, source, needs_label=needs_label) if is_here else None
    return OpenedSource(stored.name, stored.version, parts, columns, allowed, reopen)
