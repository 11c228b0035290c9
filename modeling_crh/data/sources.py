"""What can be encoded, with labels or without: images, texts or features, one row after another, of any number."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from datasets import ClassLabel, Features, LargeList, List

from modeling_crh.data.open_rows import OpenRows, open_rows, unreadable
from modeling_crh.data.prepare import holds_images
from modeling_crh.data.row_readers import RowReader

SourceKind = Literal["image", "text", "features"]


class SourceRow(NamedTuple):
    """One item to encode.

    Attributes:
        id: Its number in the source, from 0, or what the column of ids says.
        path: Its file, or "row 17" if it has none.
        label: Name of its class, names of its classes, or None without one.
        value: `{"bytes": ..., "path": ...}` of an image, or None where it is missing; a text; or numbers.
    """

    id: int
    path: str
    label: Any
    value: Any


@dataclass(frozen=True)
class Source:
    """An opened source; `open_source` makes it.

    Attributes:
        name: Whole path, or name of a benchmark or dataset.
        version: Differs after the source has changed.
        kind: What its rows hold.
        has_labels: Whether its rows have labels, and
        is_multi_label: whether those are lists.
    """

    name: str
    version: str
    kind: SourceKind
    has_labels: bool
    is_multi_label: bool
    _reader: RowReader
    _base: Path | None  # that paths in a table start from
    _column: str
    _label: "_Label | None"
    _id_column: str | None

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None where only reading to the end would tell."""
        return self._reader.num_rows

    def shards(
        self, shard_size: int, wanted: Callable[[int], bool], first: int = 0
    ) -> Iterator[tuple[int, Iterator[SourceRow]]]:
        """The rows of some shards: shard `s` is the rows from `s * shard_size` up to that of the next.

        Args:
            shard_size: Rows of a shard; the last one may have fewer.
            wanted: Whether to give the shard of this number.
            first: Shards before this one are passed over.

        Yields:
            Number and rows of each shard that has rows, in their order; the rows are to be read before the next shard.

        Raises:
            ValueError: If the source cannot be read on, or a label or id is no good.
        """
        if self._reader.by_number and self.num_rows is not None:
            for shard in range(first, -(-self.num_rows // shard_size)):
                if wanted(shard):
                    yield shard, self._rows(shard * shard_size, (shard + 1) * shard_size)
            return
        rows = self._rows(first * shard_size)
        for shard in count(first):
            head = next(rows, None)
            if head is None:
                return
            block = chain([head], islice(rows, shard_size - 1))
            if wanted(shard):
                yield shard, block
            deque(block, maxlen=0)

    def _tables(self, start: int, stop: int | None) -> Iterator[pa.Table]:
        try:
            yield from self._reader.tables(start, stop)
        except Exception as error:  # `datasets` raises errors of its own, of pyarrow, of pandas and of the network
            raise unreadable(self.name, error) from error

    def _rows(self, start: int, stop: int | None = None) -> Iterator[SourceRow]:
        for table in self._tables(start, stop):
            values = self._values(table[self._column])
            labels = [None] * len(table) if self._label is None else table[self._label.column].to_pylist()
            ids = range(start, start + len(table)) if self._id_column is None else table[self._id_column].to_pylist()
            for row, (value, label, number) in enumerate(zip(values, labels, ids, strict=True), start):
                path = f"row {row}"
                if self.kind == "image" and value is not None:
                    value = _image(value, self._base)
                    path = value["path"] or path
                if not isinstance(number, int):
                    raise ValueError(f"`id_column` must hold whole numbers, but row {row} has {number!r:.80}.")
                yield SourceRow(number, path, self._label and self._label.names(label, row), value)
            start += len(table)

    def _values(self, column: pa.ChunkedArray) -> Any:
        if self.kind == "features" and _is_list(column.type):
            return column.to_numpy(zero_copy_only=False)  # an array a row, far sooner than a list
        return column.to_pylist()


def open_source(
    source: str | Path,
    *,
    image_column: str = "image",
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
    id_column: str | None = None,
    split: str = "train",
) -> Source:
    """Open what is to be encoded; nothing but its first rows is read.

    Args:
        source: A folder, whose image files are taken at any depth, in the order of their paths; a CSV, JSON lines or
            parquet file, or a folder of them; a folder that `save_to_disk` made; the name of a benchmark, of which the
            whole database is taken; or the Hub id of a dataset, which is streamed. Where all images of a folder lie in
            two or more sub-folders of it, those are their classes.
        image_column: Of images, in a table or a dataset. Paths start from the folder of the table.
        text_column: Of strings, to encode texts instead; or
        features_column: of numbers.
        label_column: Of class names or numbers, or lists of them. Where there is no `label`, rows have no label.
        id_column: Of whole numbers, to be the ids; by default rows are numbered from 0.
        split: Of a dataset with several.

    Raises:
        ValueError: If there is no such source, it is empty, or it has no such column.

    Example:
        >>> source = open_source("fashion_mnist_sample")
        >>> number, rows = next(source.shards(1000, wanted=lambda shard: shard == 2))
        >>> source.num_rows, number, next(rows).id
        (6000, 2, 2000)
    """
    if text_column is not None and features_column is not None:
        raise ValueError("Only one of `text_column` and `features_column` may be named, but both are.")
    opened = open_rows(source, split)
    kind: SourceKind = "image"
    column = image_column
    if text_column is not None:
        kind, column = "text", text_column
    elif features_column is not None:
        kind, column = "features", features_column
    features = _check_column(opened, f"{kind}_column", column)
    if kind == "image" and not holds_images(features[column]):
        raise ValueError(f"`image_column` {column!r} must hold images, paths or bytes, but holds {features[column]}.")
    if id_column is not None:
        _check_column(opened, "id_column", id_column)
    label = None
    if label_column != "label" or label_column in features:
        label = _Label.of(_check_column(opened, "label_column", label_column), label_column)
    return Source(
        name=opened.name,
        version=opened.version,
        kind=kind,
        has_labels=label is not None,
        is_multi_label=label is not None and label.is_list,
        _reader=opened.reader.only([column, *([label_column] if label else [])], id_column),
        _base=opened.base,
        _column=column,
        _label=label,
        _id_column=id_column,
    )


def _check_column(opened: OpenRows, name: str, column: str) -> Features:
    if column not in opened.features:
        raise ValueError(f"`{name}` must be one of {list(opened.features)}, but got {column!r}.")
    return opened.features


@dataclass(frozen=True)
class _Label:
    """How a column of labels is read."""

    column: str
    is_list: bool
    class_names: tuple[str, ...] | None  # of a `ClassLabel`

    @classmethod
    def of(cls, features: Features, column: str) -> "_Label":
        feature = features[column]
        is_list = isinstance(feature, List | LargeList)
        inner = feature.feature if is_list else feature
        if isinstance(inner, ClassLabel):
            return cls(column, is_list, tuple(inner.names))
        dtype = str(getattr(inner, "dtype", ""))
        if not dtype.startswith(("int", "uint", "float", "string", "large_string", "bool", "null")):
            raise ValueError(
                f"`label_column` {column!r} must hold whole numbers, strings or lists of them, but holds {feature}."
            )
        return cls(column, is_list, None)

    def names(self, value: Any, row: int) -> Any:
        """The class, or the sorted classes without repetition, by name; None where there is none."""
        if value is None:
            return None
        if not self.is_list:
            return self._name(value, row)
        if None in value:
            raise ValueError(f"`label` must be a whole number or a string, but row {row} has None in a list.")
        return [self._name(label, row) for label in sorted(set(value))]

    def _name(self, value: Any, row: int) -> str | None:
        if self.class_names is None:
            if isinstance(value, float) and not value.is_integer():  # where a column with gaps was read by pandas
                raise ValueError(f"`label` must be a whole number or a string, but row {row} has {value!r}.")
            return str(value if isinstance(value, str) else int(value))
        if value == -1 and not self.is_list:  # what data sets say of a row without a label
            return None
        if not 0 <= value < len(self.class_names):
            raise ValueError(f"`label` must be from 0 to C-1={len(self.class_names) - 1}, but row {row} has {value}.")
        name: str = self.class_names[value]
        return name


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _image(value: Any, base: Path | None) -> dict[str, Any]:
    """As `datasets` stores an image that is not decoded."""
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
    if content is None and path and base is not None and "://" not in path:
        path = str(base / path)
    return {"bytes": content, "path": path}
