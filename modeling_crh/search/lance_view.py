"""One version of a table of codes, searched as a `HammingIndex` is."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modeling_crh.search.code_index import (
    check_candidates,
    check_count,
    check_logits,
    check_packed,
    check_radius,
    rerank,
)
from modeling_crh.search.faiss_store import Distances, Positions
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.index_items import COLUMNS, Ids
from modeling_crh.search.lance_rows import CODE, Condition, LanceSettings, codes_of, to_sql
from modeling_crh.search.lance_table import TABLE_RULE, one_sentence

PROBES = 64
"""Lists that a query looks through, of about 8,000 codes each: `benchmarks/bench_lance.py`."""

_AT_ONCE = 64  # queries
_MORE = 64  # rows beyond k that are fetched, so that those which tie for the last place are seen


@dataclass(frozen=True, eq=False)
class LanceScan:
    """What is searched.

    Args:
        table: Of LanceDB.
        condition: SQL that rows must meet; they are chosen before codes are compared.
        with_codes: Whether found rows bring their codes.
    """

    table: Any
    condition: str | None = None
    with_codes: bool = False

    def nearest(self, packed: NDArray[np.uint8], k: int, *, exact: bool) -> list[pa.Table]:
        """The `k` nearest rows of each query, or all where there are fewer.

        Args:
            packed: `(Q, K / 8)`.
            k: How many.
            exact: Whether all codes are compared, and not only some lists of an index.

        Returns:
            For each query `id`, `distance`, `_rowid`, and the code if asked for.
        """
        found = self._fetch(packed, k + _MORE, exact=exact)
        for row, rows in enumerate(found):
            query = packed[row : row + 1]
            if len(rows) < k and not exact:  # the lists hold too few
                (rows,) = self.nearest(query, k, exact=True)
            elif len(rows) == k + _MORE and _distance(rows, -1) == _distance(rows, k - 1):
                rows = self.within(query, _distance(rows, -1), exact=exact)[0]
            found[row] = rows.slice(0, k)
        return found

    def within(self, packed: NDArray[np.uint8], radius: int, *, exact: bool = True) -> list[pa.Table]:
        """All rows within `radius` bits of each query."""
        return self._fetch(packed, max(1, self.table.count_rows()), exact=exact, radius=radius)

    def _fetch(
        self, packed: NDArray[np.uint8], limit: int, *, exact: bool, radius: int | None = None
    ) -> list[pa.Table]:
        found: list[pa.Table] = []
        for start in range(0, len(packed), _AT_ONCE):
            queries = packed[start : start + _AT_ONCE]
            query = self.table.search(list(queries), vector_column_name=CODE).distance_type("hamming").limit(limit)
            query = query.select(["id", "_distance", *([CODE] if self.with_codes else [])]).with_row_id(True)
            query = query.bypass_vector_index() if exact else query.nprobes(PROBES)
            if radius is not None:
                query = query.distance_range(None, radius + 0.5)
            if self.condition is not None:
                query = query.where(self.condition, prefilter=True)
            found += _divide(query.to_arrow(), len(queries))
        return found


def _divide(table: pa.Table, num_queries: int) -> list[pa.Table]:
    """A table a query, in order."""
    table = table.append_column("distance", pc.cast(table["_distance"], pa.int32()))
    if "query_index" not in table.column_names:  # as LanceDB answers a single query
        table = table.append_column("query_index", pa.array(np.zeros(len(table), np.int32)))
    table = table.sort_by([(name, "ascending") for name in ("query_index", "distance", "id")])
    bounds = np.searchsorted(table["query_index"].to_numpy(), np.arange(num_queries + 1))
    return [table.slice(bounds[row], bounds[row + 1] - bounds[row]) for row in range(num_queries)]


def _distance(rows: pa.Table, row: int) -> int:
    return int(rows["distance"][row].as_py())


class LanceView:
    """All items of a version of a table, or those that meet a condition; `LanceIndex` makes it.

    Args:
        uri: Of the table, for messages.
        table: LanceDB's, at the version.
        condition: SQL.

    Raises:
        ValueError: If it is no table of codes.
    """

    def __init__(self, uri: str, table: Any, condition: str | None = None) -> None:
        self.uri = uri
        self._table = table
        self._condition = condition
        self._settings = LanceSettings.of_schema(table.schema, uri)

    def __len__(self) -> int:
        with self._speaking():
            return int(self._table.count_rows(self._condition))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.uri!r}, version={self.version}, {self.num_bits} bits, model={self.model!r})"
        )

    @property
    def version(self) -> int:
        """Number of the version that is open."""
        return int(self._table.version)

    @property
    def kind(self) -> str:
        """`flat`, or `ivf` if there are lists of codes."""
        return "ivf" if any(CODE in index.columns for index in self._table.list_indices()) else "flat"

    @property
    def num_bits(self) -> int:
        """`K`."""
        return self._settings.num_bits

    @property
    def model(self) -> str:
        """Name of the model that made the codes; empty where it is not known."""
        return self._settings.model

    @property
    def revision(self) -> str:
        """Of that model."""
        return self._settings.revision

    def where(self, condition: Condition) -> "LanceView":
        """The items that meet a condition, as an index of their own: they are chosen before codes are compared.

        Args:
            condition: SQL, or values by column; see `modeling_crh.search.lance_rows.Condition`.

        Raises:
            ValueError: If it is no condition on this table.
        """
        sql = self._checked_sql(condition)
        both = sql if self._condition is None else f"({self._condition}) AND ({sql})"
        return LanceView(self.uri, self._table, both)

    def search(
        self, packed_queries: Any, k: int = 10, *, rerank_logits: Any = None, num_candidates: int | None = None
    ) -> tuple[Ids, Distances]:
        """As `HammingIndex.search`, but items at the same distance stand in the order of their ids.

        `flat` is exact. `ivf` may miss an item, and another division into lists may miss another.
        """
        found = self._search(packed_queries, k, rerank_logits, num_candidates)
        return _stacked(found, "id"), _stacked(found, "distance")

    def search_positions(
        self, packed_queries: Any, k: int = 10, *, rerank_logits: Any = None, num_candidates: int | None = None
    ) -> tuple[Positions, Distances]:
        """As `search`, with positions in this version of the table instead of ids; they are not consecutive."""
        found = self._search(packed_queries, k, rerank_logits, num_candidates)
        return _stacked(found, "_rowid"), _stacked(found, "distance")

    def search_radius(self, packed_queries: Any, radius: int) -> tuple[list[Ids], list[Distances]]:
        """As `HammingIndex.search_radius`, exactly, whatever the kind; ties by id."""
        found = self._within(packed_queries, radius)
        return [_column(rows, "id") for rows in found], [_column(rows, "distance") for rows in found]

    def search_radius_positions(self, packed_queries: Any, radius: int) -> tuple[list[Positions], list[Distances]]:
        """As `search_radius`, with positions in this version of the table instead of ids."""
        found = self._within(packed_queries, radius)
        return [_column(rows, "_rowid") for rows in found], [_column(rows, "distance") for rows in found]

    def records(self, positions: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Id, label, path and all other columns but the code of the items at `(P,)` positions; None where none is.

        Raises:
            ValueError: If a position is none of this version.
        """
        numbers = np.asarray(positions, dtype=np.int64).tolist()
        if not numbers:
            return []
        columns = [name for name in self._table.schema.names if name != CODE]
        with self._speaking():
            query = self._table.take_row_ids(sorted(set(numbers))).select(columns).with_row_id()
            found = {row.pop("_rowid"): row for row in query.to_list()}
        missing = set(numbers) - set(found)
        if missing:
            raise ValueError(f"`positions` must be those of items of this version, but got {min(missing)}.")
        return [dict.fromkeys(COLUMNS) | found[number] for number in numbers]

    def in_memory(self, kind: str = "auto") -> HammingIndex:
        """All items that meet the condition, in the order of their ids, as an index over FAISS."""
        with self._speaking():
            query = self._table.search().select([*(c for c in COLUMNS if c in self._table.schema.names), CODE])
            table = (query if self._condition is None else query.where(self._condition)).to_arrow().sort_by("id")
        given = {f"{name}s": table[name] for name in COLUMNS if name in table.column_names}
        return HammingIndex(codes_of(table), **given, kind=kind, model=self.model, revision=self.revision)

    def _search(self, packed_queries: Any, k: int, rerank_logits: Any, num_candidates: int | None) -> list[pa.Table]:
        queries = check_packed("packed_queries", packed_queries, self.num_bits)
        count, exact = check_count("k", k), self.kind == "flat"
        if rerank_logits is None:
            if num_candidates is not None:
                raise ValueError("`num_candidates` must be given with `rerank_logits` only, but is given without.")
            with self._speaking():
                return LanceScan(self._table, self._condition).nearest(queries, count, exact=exact)
        logits = check_logits(rerank_logits, queries)
        wanted = check_candidates(count, num_candidates)
        with self._speaking():
            found = LanceScan(self._table, self._condition, with_codes=True).nearest(queries, wanted, exact=exact)
        return [
            rows.take(rerank(row[None], codes_of(rows)[None], min(count, len(rows)))[0]) if len(rows) else rows
            for row, rows in zip(logits, found, strict=True)
        ]

    def _within(self, packed_queries: Any, radius: int) -> list[pa.Table]:
        queries = check_packed("packed_queries", packed_queries, self.num_bits)
        bits = check_radius(radius, self.num_bits)
        with self._speaking():
            return LanceScan(self._table, self._condition).within(queries, bits)

    def _checked_sql(self, condition: Condition) -> str:
        sql = to_sql(condition, self._table.schema)
        shown = condition if isinstance(condition, str) else sql
        with one_sentence("where", "a condition on the table", shown):
            self._table.search().where(sql).explain_plan()  # reads no row
        return sql

    def _speaking(self) -> AbstractContextManager[None]:
        return one_sentence("uri", TABLE_RULE, self.uri)


def _column(rows: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = rows[name].to_numpy()
    return values.astype(np.int64) if name == "_rowid" else values


def _stacked(found: list[pa.Table], name: str) -> NDArray[Any]:
    """`(Q, k)`: all queries find the same number."""
    return np.stack([_column(rows, name) for rows in found]) if found else np.empty((0, 0), np.int64)
