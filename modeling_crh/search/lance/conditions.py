"""Conditions on the rows of a table: SQL, or the values that columns must have."""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from modeling_crh.checks import is_number

Condition = str | Mapping[str, Any]
"""SQL such as `label = 'cat' AND price < 10`; or `{"label": "cat", "year": [2024, 2025]}`, which all must hold.

Of a column of lists, such as several labels an item, a value is one that the list holds.
"""


def to_sql(condition: Condition, schema: pa.Schema) -> str:
    """Give a condition as SQL; values of a mapping are quoted, so they may come from anywhere.

    Args:
        condition: See `Condition`. SQL is checked by the table itself.
        schema: Of the table.

    Raises:
        ValueError: If it is empty, or names a column that is not there or a value that no column holds.

    Example:
        >>> schema = pa.schema({"label": pa.string(), "year": pa.int64()})
        >>> to_sql({"label": "cat's", "year": [2024, 2025]}, schema)
        "`label` = 'cat''s' AND `year` IN (2024, 2025)"
    """
    if isinstance(condition, str) and condition.strip():
        return f"({condition})"  # so that what follows a complete condition is not ignored, but an error
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
        return repr(value.item() if hasattr(value, "item") else value)
    raise ValueError(f"`where` must give strings, finite numbers, booleans or lists of them, but gives {value!r:.80}.")
