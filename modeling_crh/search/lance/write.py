"""Write a table of codes part by part, in one step: readers see the whole of it, or what was there before."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pyarrow as pa
from lancedb.index import IvfFlat

from modeling_crh.search.lance.place import LancePlace
from modeling_crh.search.lance.rows import CODE, LanceSettings, check_distinct, check_same_columns

KINDS = ("flat", "ivf")
FLAT_LIMIT = 200_000
"""Most codes that `auto` scans: some ten milliseconds a query of 64 bits, `benchmarks/bench_lance.py`."""


def check_table_kind(kind: str) -> None:
    """Check that there is such a kind of table.

    `flat` compares all codes and is exact; `ivf` looks through the nearest lists of codes; `auto` is `flat` up to
    `FLAT_LIMIT` codes and `ivf` above.

    Raises:
        ValueError: If it is none of these.
    """
    if kind not in ("auto", *KINDS):
        raise ValueError(f"`kind` must be auto, {' or '.join(KINDS)} for a table, but got {kind!r:.80}.")


def check_target(place: LancePlace, *, replace: bool) -> bool:
    """Check that a table can be written there; returns whether one is there, to be replaced.

    Raises:
        ValueError: If one is there that is not to be replaced, or is another table; or there is no such place.
    """
    is_there = place.exists()
    if is_there and not replace:
        raise ValueError(f"`uri` must be new, but {place.uri!r} is there already.")
    if is_there:
        LanceSettings.of_schema(place.open().schema, place.uri)
    return is_there


def write_table(
    place: LancePlace, parts: Iterable[pa.Table], settings: LanceSettings, *, kind: str = "auto", replace: bool = False
) -> None:
    """Write rows as a table, or as the new version of one that is there.

    Args:
        place: Where to.
        parts: From `make_rows`, at least one, and only one at a time is in memory; of all parts, the ids are.
        settings: What the table says of its codes.
        kind: See `check_table_kind`.
        replace: Whether a table of codes that is there gets these as its new version.

    Raises:
        ValueError: If there is no such kind, a table is there that is not to be replaced, a part has other columns than
            the first, or two rows have one id; nothing is then written.
    """
    check_table_kind(kind)
    is_there = check_target(place, replace=replace)
    failures: list[BaseException] = []
    try:
        table = place.write(_reader(parts, settings, failures), replace=is_there)
    except ValueError:
        if failures:  # LanceDB passes on no more than its text
            raise failures[0] from None
        raise
    make_lists(table, kind)


def make_lists(table: Any, kind: str) -> None:
    """Divide the codes of a table into lists of about 8,000 that lie near each other, if `kind` says so."""
    if kind == "ivf" or (kind == "auto" and table.count_rows() > FLAT_LIMIT):
        table.create_index(CODE, config=IvfFlat(distance_type="hamming"), replace=True)


def _reader(parts: Iterable[pa.Table], settings: LanceSettings, failures: list[BaseException]) -> pa.RecordBatchReader:
    remaining = iter(parts)
    first = next(remaining)
    schema = first.schema.with_metadata(settings.to_metadata())

    def batches() -> Iterator[pa.RecordBatch]:
        ids: list[pa.Array] = []
        try:
            for part in chain([first], remaining):
                ids += part["id"].chunks
                yield from check_same_columns(part, schema).to_batches()
            check_distinct(pa.chunked_array(ids))
        except BaseException as error:
            failures.append(error)
            raise

    return pa.RecordBatchReader.from_batches(schema, batches())
