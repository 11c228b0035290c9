"""Rows of a table of codes: schema, metadata, and conditions on rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modeling_crh.checks import is_number
from modeling_crh.search.index_file import COLUMNS, Column, Items, check_same_types, to_array

Condition = str | Mapping[str, Any]
"""SQL such as `label = 'cat' AND price < 10`; or `{"label": "cat", "year": [2024, 2025]}`, all of which must hold.

In a column of lists, such as several labels per item, the list must contain the value.
"""


def to_sql(condition: Condition, schema: pa.Schema) -> str:
    """Write a condition as SQL; the values of a mapping are quoted, so they may be untrusted.

    Args:
        condition: SQL, which the table itself checks, or values by column; see `Condition`.
        schema: Schema of the table.

    Raises:
        ValueError: If the condition is empty, or names a missing column or a value that no column can hold.

    Example:
        >>> schema = pa.schema({"label": pa.string(), "year": pa.int64()})
        >>> to_sql({"label": "cat's", "year": [2024, 2025]}, schema)
        "`label` = 'cat''s' AND `year` IN (2024, 2025)"
    """
    if isinstance(condition, str) and condition.strip():
        return f"({condition})"  # so that text after a complete condition is an error
    if not isinstance(condition, Mapping) or not condition:
        raise ValueError(f"`where` must be SQL or a mapping of columns to values, but got {condition!r:.80}.")
    return " AND ".join(_term(name, value, schema) for name, value in condition.items())


def _term(name: Any, value: Any, schema: pa.Schema) -> str:
    if name not in schema.names:
        raise ValueError(f"`where` must name columns of the table, {schema.names}, but names {name!r:.80}.")
    kind, column = schema.field(name).type, f"`{name}`"
    in_lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if isinstance(value, list | tuple):
        values = ", ".join(map(_literal, value))
        if not value:
            return "FALSE"
        return f"array_has_any({column}, [{values}])" if in_lists else f"{column} IN ({values})"
    if value is None:
        return f"{column} IS NULL"
    return f"array_has({column}, {_literal(value)})" if in_lists else f"{column} = {_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return str(value).upper()
    if is_number(value) and math.isfinite(value):
        return repr(value.item() if isinstance(value, np.generic) else value)
    raise ValueError(f"`where` must give strings, finite numbers, booleans or lists of them, but gives {value!r:.80}.")


CODE = "code"
FORMAT_VERSION = 1

_KEY = {"lance-schema:unenforced-primary-key": "true"}  # prevents two writers from adding one id


@dataclass(frozen=True)
class LanceSettings:
    """Settings of the codes, kept in the metadata of a table's schema.

    Args:
        num_bits: `K`.
        model: Name of the model that made the codes.
        revision: Commit on the Hub, or digest of the weights, of the model that made the codes.
        dtype: Precision that they were computed in.
    """

    num_bits: int
    model: str = ""
    revision: str = ""
    dtype: str = ""

    @property
    def origin(self) -> dict[str, str]:
        """Everything but the number of bits, by name."""
        return {"model": self.model, "revision": self.revision, "dtype": self.dtype}

    def to_metadata(self) -> dict[str, str]:
        """Make the metadata of a schema."""
        return {"crh_format": str(FORMAT_VERSION), "num_bits": str(self.num_bits)} | self.origin

    @classmethod
    def of_schema(cls, schema: pa.Schema, uri: str) -> "LanceSettings":
        """Read the settings of a schema.

        Raises:
            ValueError: If the metadata are missing, of another format version, or do not fit the columns.
        """
        found = {key.decode(): value.decode("utf-8", "replace") for key, value in (schema.metadata or {}).items()}
        version = found.get("crh_format")
        if version is None:
            raise ValueError(f"`uri` must be a table of codes, but {uri!r} is another table.")
        if version != str(FORMAT_VERSION):
            raise ValueError(
                f"`uri` must be a table of format version {FORMAT_VERSION}, but {uri!r} is of version {version:.20}."
            )
        kinds, num_bits = {field.name: str(field.type) for field in schema}, found.get("num_bits", "")
        expected = str(pa.list_(pa.uint8(), int(num_bits) // 8)) if num_bits.isdecimal() else ""
        if "id" not in kinds or kinds.get(CODE) != expected:
            raise ValueError(f"`uri` must be a table of ids and codes of {num_bits:.20} bits, but {uri!r} is not one.")
        return cls(int(num_bits), *(found.get(name, "") for name in ("model", "revision", "dtype")))


def make_rows(packed: NDArray[np.uint8], items: Items, columns: Mapping[str, Column] | None = None) -> pa.Table:
    """Make rows of `id`, `label` and `path`, if the items have them, other columns, and `code`.

    Args:
        packed: Packed codes `(N, K / 8)`, contiguous.
        items: `N` items with ids.
        columns: Other columns by name, `(N,)` each.

    Raises:
        ValueError: If a column has a wrong name, type or length.
    """
    table = items.table
    for name, values in (columns or {}).items():
        if not isinstance(name, str) or name in (*COLUMNS, CODE) or not name or name.startswith("_"):
            raise ValueError(
                f"`columns` must have names other than {', '.join((*COLUMNS, CODE))} that start with no `_`, "
                f"but got {name!r:.80}."
            )
        column = to_array(f"columns[{name!r}]", values, "values of one type")
        if len(column) != len(items):
            raise ValueError(f"`columns` must hold one value a code, but {name!r} holds {len(column)}.")
        table = table.append_column(name, column)
    fields = [pa.field("id", table.schema.field("id").type, nullable=False, metadata=_KEY)]
    fields += [field for field in table.schema if field.name != "id"]
    codes = pa.FixedSizeListArray.from_arrays(pa.array(packed.reshape(-1)), packed.shape[1])
    fields.append(pa.field(CODE, codes.type, nullable=False))
    return pa.table([*(table[field.name] for field in fields[:-1]), codes], pa.schema(fields))


def check_same_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Check that rows have the columns of a table, and return them in its order.

    Raises:
        ValueError: If the columns differ in names or types.
    """
    found, expected = (one.remove(one.get_field_index(CODE)) for one in (rows.schema, schema))
    check_same_types(found, expected, "table")
    return rows.select(schema.names).cast(schema)


def codes_of(table: pa.Table) -> NDArray[np.uint8]:
    """Return the column of codes as an array `(N, K / 8)`."""
    column = table[CODE].combine_chunks()
    packed: NDArray[np.uint8] = column.flatten().to_numpy(zero_copy_only=False)
    return packed.reshape(len(table), column.type.list_size)
