"""Nearest codes of a table, in an order that does not depend on how its rows lie: by distance, then by id."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modeling_crh.search.lance.rows import CODE

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
