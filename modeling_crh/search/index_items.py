"""Items: what a caller calls the codes of an index, in the order of their positions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

COLUMNS = ("id", "label", "path")

Ids = NDArray[np.int64] | NDArray[np.object_]


class Items:
    """Ids, labels and paths of `N` codes, each of them only if it was given.

    Args:
        num_items: `N`.
        ids: `(N,)` whole numbers, or strings; their positions where there are none.
        labels: A name, a number, or a list of names an item; None where an item has none.
        paths: Strings.

    Raises:
        ValueError: If one of them is of another length or type.
    """

    def __init__(self, num_items: int, ids: Any = None, labels: Any = None, paths: Any = None) -> None:
        self.num_items = num_items
        given = {"id": ids, "label": labels, "path": paths}
        columns = {name: _column(name, values, num_items) for name, values in given.items() if values is not None}
        self.table = pa.table(columns)

    def __len__(self) -> int:
        return self.num_items

    def ids(self, positions: NDArray[np.int64]) -> Ids:
        """Ids at positions of any shape, in that shape: int64, or objects that are strings."""
        if "id" not in self.table.column_names:
            return positions
        column = self.table["id"]
        if pa.types.is_integer(column.type):
            chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            numbers: NDArray[np.int64] = chunk.to_numpy(zero_copy_only=False)[positions]
            return numbers
        names = column.take(pa.array(positions.reshape(-1))).to_numpy()
        return np.asarray(names, dtype=object).reshape(positions.shape)

    def records(self, positions: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """`{"id": ..., "label": ..., "path": ...}` in Python's types for `(P,)` positions; None where there is none."""
        numbers = np.asarray(positions, dtype=np.int64)
        rows = self.table.take(pa.array(numbers)).to_pylist() if self.table.column_names else [{} for _ in numbers]
        return [
            {"id": int(number), "label": None, "path": None} | row for number, row in zip(numbers, rows, strict=True)
        ]

    def extended(self, others: "Items") -> "Items":
        """These items, and then `others`.

        Raises:
            ValueError: If only one of the two has ids, labels or paths, or they differ in type.
        """
        for name in COLUMNS:
            schemas = [items.table.schema for items in (self, others)]
            types = [str(schema.field(name).type) for schema in schemas if name in schema.names]
            if len(types) == 1:
                has = "has" if name in self.table.column_names else "has no"
                raise ValueError(f"`{name}s` must be given if and only if the index has them, but it {has} {name}s.")
            if len(set(types)) == 2:
                raise ValueError(f"`{name}s` must be {types[0]}, as those of the index, but got {types[1]}.")
        return Items.of_table(len(self) + len(others), pa.concat_tables([self.table, others.table]).combine_chunks())

    @classmethod
    def of_table(cls, num_items: int, table: pa.Table) -> "Items":
        """Items whose columns are made already."""
        items = cls(num_items)
        items.table = table
        return items

    def to_bytes(self) -> NDArray[np.uint8]:
        """As an Arrow stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return np.frombuffer(sink.getvalue(), np.uint8)

    @classmethod
    def from_bytes(cls, num_items: int, content: NDArray[np.uint8]) -> "Items":
        """Undo `to_bytes`.

        Raises:
            ValueError: If `content` is no such stream.
        """
        try:
            with pa.ipc.open_stream(pa.py_buffer(content.tobytes())) as reader:
                table = reader.read_all().combine_chunks()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError("its table of items cannot be read") from error
        if not set(table.column_names) <= set(COLUMNS) or (table.column_names and len(table) != num_items):
            raise ValueError(f"its table of items has {len(table)} rows of {table.column_names}")
        return cls.of_table(num_items, table)


def _column(name: str, values: Any, num_items: int) -> pa.Array:
    """One column of one of the types that it may have."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    try:
        column = values if isinstance(values, pa.Array) else pa.array(values)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"`{name}s` must be of one type, but are not: {error}.") from error
    if len(column) != num_items:
        raise ValueError(f"`{name}s` must have one entry a code, but got {len(column)} for {num_items} codes.")
    kind = column.type
    if pa.types.is_integer(kind) and name != "path":
        try:
            column = column.cast(pa.int64())
        except pa.ArrowException as error:
            raise ValueError(f"`{name}s` must fit into 64 bits with a sign, but one does not: {error}.") from error
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_string())
    elif name == "label" and (pa.types.is_null(kind) or _lists_names(kind)):
        column = column.cast(pa.large_list(pa.large_string()))
    else:
        raise ValueError(f"`{name}s` must be {_RULES[name]}, but got {kind}.")
    if name == "id" and column.null_count:
        raise ValueError(f"`ids` must hold no None, but holds {column.null_count}.")
    return column


def _lists_names(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    inner = kind.value_type
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_null(inner))


_RULES = {"id": "whole numbers or strings", "label": "names, numbers or lists of names", "path": "strings"}
