"""The items of an index, and its file, which is verified by a checksum.

    bytes 0..7     "CRHINDEX"
    bytes 8..11    format version, little-endian
    bytes 12..43   SHA-256 of all that follows
    bytes 44..47   length of the header, little-endian
    then           header: JSON with `num_bits`, `num_items`, `kind`, `model`, `revision`, `dtype`, and the lengths of
                   the parts
    then           the parts, one after the other

The checksum detects damage; it is not a signature, and does not tell who made the file.
"""

import hashlib
import json
import os
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_path
from modeling_crh.data.rows import check_distinct
from modeling_crh.runtime.atomic_files import whole_file

COLUMNS = ("id", "label", "path")

_TEXT = pa.large_string()
_TYPES = {"id": (pa.int64(), _TEXT), "label": (pa.int64(), _TEXT, pa.large_list(_TEXT)), "path": (_TEXT,)}  # in a file

Column = Collection[Any]
"""Values of a column: a list, a NumPy array, an Arrow array or a range."""


def make_items(
    num_items: int, ids: Column | None = None, labels: Column | None = None, paths: Column | None = None
) -> pa.Table:
    """Make the table of items, with the columns `id`, `label` and `path` as far as they are given to a `HammingIndex`.

    Raises:
        ValueError: If a column has another length or type, or an id occurs twice.
    """
    given = {"id": ids, "label": labels, "path": paths}
    table = pa.table({name: _column(name, of, num_items) for name, of in given.items() if of is not None})
    if ids is not None:
        check_distinct(table["id"])
    return table


def items_to_bytes(items: pa.Table) -> NDArray[np.uint8]:
    """Serialize a table of items as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, items.schema) as writer:
        writer.write_table(items)
    return np.frombuffer(sink.getvalue(), np.uint8)


def items_of_bytes(num_items: int, content: NDArray[np.uint8]) -> pa.Table:
    """Restore items from `items_to_bytes`.

    Raises:
        ValueError: If `content` cannot be read.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(content.tobytes())) as reader:
            names = reader.schema.names
            in_order = [name for name in COLUMNS if name in names]
            if names != in_order or any(field.type not in _TYPES[field.name] for field in reader.schema):
                raise ValueError(f"its table of items has the columns {', '.join(map(str, reader.schema))}")
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError("its table of items cannot be read") from error
    if names and (len(table) != num_items or ("id" in names and table["id"].null_count)):
        raise ValueError(f"its table of items has {len(table)} rows, or one without an id")
    return table.combine_chunks()


def with_types_of(items: pa.Table, expected: pa.Schema, owner: str = "") -> pa.Table:
    """Give columns that hold nothing but nulls the types of an index or a table, and check the others.

    Raises:
        ValueError: If the items have other columns or types than their `owner`; without one, nothing is checked.
    """
    for place, field in enumerate(items.schema):
        if field.name in expected.names and items[field.name].null_count == len(items):
            kind = expected.field(field.name).type
            items = items.set_column(place, field.with_type(kind), pa.nulls(len(items), kind))
    kinds, wanted = ({field.name: str(field.type) for field in schema} for schema in (items.schema, expected))
    if owner and kinds != wanted:
        raise ValueError(f"Items must have the columns of the {owner}, {wanted}, but have {kinds}.")
    return items


def to_array(name: str, values: Any, rule: str) -> pa.Array:
    """Convert a column to one Arrow array; `name` and `rule` are the argument's, for the error.

    Raises:
        ValueError: If `values` is not a column, or its entries are of several types.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if not isinstance(values, Collection) or isinstance(values, str | bytes | Mapping | set | frozenset):
        raise ValueError(f"`{name}` must be {rule}, in a fixed order, but got {type(values).__name__}.")
    try:
        return pa.array(values.numpy(force=True) if isinstance(values, Tensor) else values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"`{name}` must be {rule}, but are not: {error}.") from error


_RULES = {"id": "whole numbers or strings", "label": "names, numbers or lists of names", "path": "strings"}


def _column(name: str, values: Column, num_items: int) -> pa.Array:
    """Check a column of items, and convert it to the type that an index stores."""
    column = to_array(f"{name}s", values, f"{_RULES[name]}, all of one type")
    if len(column) != num_items:
        raise ValueError(f"`{name}s` must have one entry a code, but got {len(column)} for {num_items} codes.")
    kind = column.type
    if pa.types.is_integer(kind) and name != "path":
        try:
            column = column.cast(pa.int64())
        except pa.ArrowException as error:
            raise ValueError(f"`{name}s` must fit into 64 bits with a sign, but one does not: {error}.") from error
    elif kind in (pa.string(), _TEXT) or (pa.types.is_null(kind) and name == "path"):
        column = column.cast(_TEXT)
    elif name == "label" and (pa.types.is_null(kind) or _lists_names(kind)):
        column = column.cast(pa.large_list(_TEXT))
    else:
        raise ValueError(f"`{name}s` must be {_RULES[name]}, but got {kind}.")
    if name == "id" and column.null_count:
        raise ValueError(f"`ids` must hold no None, but holds {column.null_count}.")
    return column


def _lists_names(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and kind.value_type in (pa.string(), _TEXT, pa.null())


MAGIC = b"CRHINDEX"
FORMAT_VERSION = 1

_START = struct.Struct("<8sI32s")
_LENGTH = struct.Struct("<I")
_FIELDS = {"kind": str, "model": str, "revision": str, "dtype": str, "num_bits": int, "num_items": int, "parts": dict}

Parts = dict[str, NDArray[np.uint8]]


def write_index_file(path: str | Path, header: dict[str, Any], parts: Parts) -> None:
    """Write the file of an index atomically; the header has all fields but the lengths of the parts.

    Raises:
        ValueError: If `path` is empty or not a path.
        OSError: If the file cannot be written.
    """
    target = check_path("path", path)
    text = json.dumps(header | {"parts": {name: part.nbytes for name, part in parts.items()}}).encode()
    body: list[Any] = [_LENGTH.pack(len(text)), text, *(np.ascontiguousarray(part).data for part in parts.values())]
    checksum = hashlib.sha256()
    for piece in body:
        checksum.update(piece)
    with whole_file(target) as partial, partial.open("wb") as file:
        for piece in (_START.pack(MAGIC, FORMAT_VERSION, checksum.digest()), *body):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def read_index_file(path: str | Path) -> tuple[dict[str, Any], Parts]:
    """Read header and parts of the file of an index; nothing in it is interpreted before its checksum is right.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, of another format version, or not an index.
    """
    file = check_path("path", path)
    if not file.is_file():
        hint = "; of a folder of codes `crh index` makes one" if file.is_dir() else ""
        raise FileNotFoundError(f"`path` must be the file of an index, but there is no file {str(path)!r}{hint}.")
    content = file.read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError(f"`path` must be the file of an index, but {str(path)!r} is another file.")
    if len(content) < _START.size + _LENGTH.size:
        raise ValueError(f"`path` must be an undamaged index, but {str(path)!r} is cut short.")
    _, version, checksum = _START.unpack_from(content)
    if version != FORMAT_VERSION:
        raise ValueError(f"`path` must be an index of version {FORMAT_VERSION}, but '{path}' has version {version}.")
    if hashlib.sha256(memoryview(content)[_START.size :]).digest() != checksum:
        raise ValueError(f"`path` must be an undamaged index, but the checksum of {str(path)!r} is wrong.")
    try:
        return _divide(content)
    except (ValueError, RecursionError) as error:  # invalid or too deeply nested JSON
        raise ValueError(f"`path` must be an index, but the header of {str(path)!r} is wrong: {error}.") from error


def is_index_file(path: str | Path) -> bool:
    """Whether a file starts like an index."""
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _divide(content: bytes) -> tuple[dict[str, Any], Parts]:
    (length,) = _LENGTH.unpack_from(content, _START.size)
    text, rest = np.split(np.frombuffer(content, np.uint8)[_START.size + _LENGTH.size :], [length])
    header = json.loads(text.tobytes())
    if isinstance(header, dict):
        header.setdefault("dtype", "")  # which earlier versions did not write
    for name, kind in _FIELDS.items():
        if not isinstance(header, dict) or type(header.get(name)) is not kind:
            raise ValueError(f"it has no `{name}` of type {kind.__name__}")
    parts: Parts = {}
    for name, size in header.pop("parts").items():
        if type(size) is not int or not 0 <= size <= len(rest):
            raise ValueError(f"its part {name!r:.80} has {size!r:.80} of the {len(rest)} bytes that are left")
        parts[name], rest = rest[:size], rest[size:]
    if len(rest):
        raise ValueError(f"{len(rest)} bytes follow its last part")
    return header, parts
