"""Search one version of a table of codes, like a `HammingIndex`, also by conditions on its rows."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from modeling_crh.checks import is_number
from modeling_crh.search.code_files import CODE
from modeling_crh.search.code_index import CodeIndex, Hits, check_positions
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.index_file import COLUMNS
from modeling_crh.search.lance_table import codes_of, one_sentence, settings_of, table_errors

PROBES = 64
"""Number of lists that a query searches, of about 8,000 codes each: `benchmarks/bench_lance.py`."""

_AT_ONCE = 64  # queries per call of LanceDB
_MORE = 64  # rows fetched beyond k, to see which rows tie for the last place


Condition = str | Mapping[str, Any]
"""SQL such as `label = 'cat' AND price < 10`; or `{"label": "cat", "year": [2024, 2025]}`, all of which must hold.

In a column of lists, such as several labels per item, the list must contain the value.
"""


def to_sql(condition: Condition, schema: pa.Schema) -> str:
    """Write a condition as SQL, which the table itself checks; values of a mapping are quoted: they may be untrusted.

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
    if isinstance(value, bool | np.bool_):
        return str(value).upper()
    if is_number(value) and math.isfinite(value):
        return repr(value.item() if isinstance(value, np.generic) else value)
    raise ValueError(f"`where` must give strings, finite numbers, booleans or lists of them, but gives {value!r:.80}.")


class LanceView(CodeIndex):
    """All items of a version of a table, or those that meet a condition; `LanceIndex` makes it.

    Items at the same distance are sorted by id. Positions number the rows of this version of the table; they are not
    consecutive. `flat` is exact; `ivf` may miss items, and which ones depends on its lists.

    Args:
        uri: URI of the table, for messages.
        table: Table of LanceDB, at the version.
        condition: SQL that the items meet; None takes all items.

    Raises:
        ValueError: If `table` is not a table of codes.
    """

    def __init__(self, uri: str, table: Any, condition: str | None = None) -> None:
        self.uri = uri
        self._table = table
        self._condition = condition
        self._read_settings()

    def _read_settings(self) -> None:
        self.num_bits, self.model, self.revision, self.dtype = settings_of(self._table.schema, self.uri)

    def __len__(self) -> int:
        with table_errors(self.uri):
            return int(self._table.count_rows(self._condition))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.uri!r}, version={self.version}, {self.num_bits} bits, model={self.model!r})"
        )

    @property
    def version(self) -> int:
        """Number of the open version."""
        return int(self._table.version)

    @property
    def kind(self) -> str:
        """`flat`, or `ivf` if there are lists of codes."""
        return "ivf" if any(CODE in index.columns for index in self._table.list_indices()) else "flat"

    def where(self, condition: Condition) -> "LanceView":
        """Make an index of the items that meet a condition, which are chosen before codes are compared.

        Args:
            condition: SQL, or values by column; see `Condition`.

        Raises:
            ValueError: If the table does not accept the condition.
        """
        sql = self._checked_sql(condition)
        both = sql if self._condition is None else f"({self._condition}) AND ({sql})"
        return LanceView(self.uri, self._table, both)

    def records(self, positions: ArrayLike) -> list[dict[str, Any]]:
        """Return all columns but the code of the items at `(P,)` positions; see `CodeIndex`."""
        numbers = check_positions(positions).tolist()
        if not numbers:
            return []
        columns = [name for name in self._table.schema.names if name != CODE]
        with table_errors(self.uri):
            query = self._table.take_row_ids(sorted(set(numbers))).select(columns).with_row_id()
            found = {row.pop("_rowid"): row for row in query.to_list()}
        missing = set(numbers) - set(found)
        if missing:
            raise ValueError(f"`positions` must be those of items of this version, but got {min(missing)}.")
        return [dict.fromkeys(COLUMNS) | found[number] for number in numbers]

    def in_memory(self, kind: str = "auto") -> HammingIndex:
        """Read all items that meet the condition into a FAISS index, in the order of their ids."""
        with table_errors(self.uri):
            query = self._table.search().select([*(c for c in COLUMNS if c in self._table.schema.names), CODE])
            table = (query if self._condition is None else query.where(self._condition)).to_arrow().sort_by("id")
        given = {f"{name}s": table[name] for name in COLUMNS if name in table.column_names}
        return HammingIndex(codes_of(table), **given, kind=kind, **self.origin)

    def _nearest(self, queries: NDArray[np.uint8], k: int, *, with_codes: bool) -> tuple[Hits, NDArray[np.uint8]]:
        exact = self.kind == "flat"
        with table_errors(self.uri):
            k = min(k, max(1, self._table.count_rows()))
            tables = [found.slice(0, k) for found in self._rows_up_to(queries, k, exact, with_codes)]
        if not tables:
            count = min(k, len(self))
            empty = np.empty((0, count), np.int64)
            return Hits(empty, empty, empty.astype(np.int32)), np.empty((0, count, self.num_bits // 8), np.uint8)
        hits = Hits(*(np.stack(values) for values in zip(*map(_hits, tables), strict=True)))
        return hits, np.stack([codes_of(found) for found in tables]) if with_codes else np.empty(0, np.uint8)

    def _rows_up_to(self, queries: NDArray[np.uint8], k: int, exact: bool, with_codes: bool) -> list[pa.Table]:
        """Fetch the `k` nearest rows of each query, all that tie with the last, or more, by distance and id."""
        found = self._fetch(queries, k + _MORE, exact=exact, with_codes=with_codes)
        for row, rows in enumerate(found):
            query = queries[row : row + 1]
            if len(rows) < k and not exact:  # the lists hold too few
                (found[row],) = self._rows_up_to(query, k, True, with_codes)
            elif len(rows) == k + _MORE and _distance(rows, -1) == _distance(rows, k - 1):
                (found[row],) = self._fetch(query, exact=exact, radius=_distance(rows, -1), with_codes=with_codes)
        return found

    def _within(self, queries: NDArray[np.uint8], radius: int) -> list[Hits]:
        with table_errors(self.uri):
            return [_hits(rows) for rows in self._fetch(queries, exact=True, radius=radius)]

    def _fetch(
        self,
        queries: NDArray[np.uint8],
        limit: int | None = None,
        *,
        exact: bool,
        radius: int | None = None,
        with_codes: bool = False,
    ) -> list[pa.Table]:
        """Fetch `limit` rows of each query, or all, within `radius` bits if given, by distance and id."""
        most = max(1, self._table.count_rows()) if limit is None else limit
        columns = ["id", "_distance", *([CODE] if with_codes else [])]
        found: list[pa.Table] = []
        for start in range(0, len(queries), _AT_ONCE):
            part = queries[start : start + _AT_ONCE]
            query = self._table.search(list(part), vector_column_name=CODE).distance_type("hamming").limit(most)
            query = query.select(columns).with_row_id(True)
            query = query.bypass_vector_index() if exact else query.nprobes(PROBES)
            if radius is not None:
                query = query.distance_range(None, radius + 0.5)
            if self._condition is not None:
                query = query.where(self._condition, prefilter=True)
            found += _divide(query.to_arrow(), len(part))
        return found

    def _checked_sql(self, condition: Condition) -> str:
        sql = to_sql(condition, self._table.schema)
        shown = condition if isinstance(condition, str) else sql
        with one_sentence("where", "a condition on the table", shown):
            self._table.search().where(sql).explain_plan()  # reads no row
        return sql


def _divide(table: pa.Table, num_queries: int) -> list[pa.Table]:
    """Divide an answer of LanceDB into one table per query, in order."""
    table = table.append_column("distance", pc.cast(table["_distance"], pa.int32()))
    if "query_index" not in table.column_names:  # as LanceDB answers a single query
        table = table.append_column("query_index", pa.array(np.zeros(len(table), np.int32)))
    table = table.sort_by([(name, "ascending") for name in ("query_index", "distance", "id")])
    bounds = np.searchsorted(table["query_index"].to_numpy(), np.arange(num_queries + 1))
    return [table.slice(bounds[row], bounds[row + 1] - bounds[row]) for row in range(num_queries)]


def _distance(rows: pa.Table, row: int) -> int:
    return int(rows["distance"][row].as_py())


def _hits(rows: pa.Table) -> Hits:
    return Hits(rows["id"].to_numpy(), rows["_rowid"].to_numpy().astype(np.int64), rows["distance"].to_numpy())
