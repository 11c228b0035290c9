"""Prepare labelled rows: bring inputs and labels into canonical columns, and read every row once before training."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Value, concatenate_datasets
from numpy.typing import NDArray

from modeling_crh.data.columns import (
    LEVELS,
    Columns,
    check_dataset,
    choose_columns,
    is_path_column,
    label_feature,
    stored_file,
    without_decoding,
)
from modeling_crh.data.label_forms import Label
from modeling_crh.data.rows import FILE_KINDS, PLURALS, BadRow, Kind, Rows, read_value
from modeling_crh.data.tables import Part, no_rows, part_of
from modeling_crh.data_source import DataSource
from modeling_crh.file_bytes import UnreadableError, is_url, stored_source
from modeling_crh.runtime.terminal import progress_bar

_FETCHED_AT_A_TIME = 8  # URLs
_CHECKED_AT_A_TIME, _THREADS = 1024, 4  # rows
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

NO_CLASS = -1
"""Class id of a row without a label, in a column of one class per row."""


def prepare_dataset(dataset: Dataset, *, label_names: Sequence[str] | None = None, **columns: Any) -> Dataset:
    """Bring one labelled split into the columns `image`, `audio`, `text` or `features`, and `label`.

    Args:
        dataset: Rows of images, sounds, texts or features, with labels in any form.
        label_names: Names of the classes in the order of their ids; None takes the names of the column, or all that
            occur. Pass the names of the training set to prepare its test set.
        **columns: `image_column`, `audio_column`, `text_column`, `features_column`, `label_column` and the other fields
            of `DataSource`.

    Returns:
        The rows in their order, with labels as `ClassLabel` or as lists of `ClassLabel`.

    Raises:
        ValueError: If there is no row, a column is missing or of another type, or a label or an allowed URL cannot be
            read.

    Example:
        >>> rows = Dataset.from_dict({"file": ["a.png", "b.png"], "kind": ["dog", "cat"]})
        >>> prepare_dataset(rows, image_column="file", label_column="kind").features["label"]
        ClassLabel(names=['cat', 'dog'])
    """
    check_dataset(dataset)
    part, source = part_of(dataset, "the dataset"), DataSource(dataset=dataset, **columns)
    chosen = choose_columns(source, part, label_names)
    prepared = _prepare(part, chosen, "the dataset", label_names)
    if chosen.kind not in FILE_KINDS or source.allow_urls is None:
        return prepared
    return _fetch_urls(prepared, chosen.kind, source.allow_urls, skip_bad=False)[0]


def prepare_part(
    part: Part,
    columns: Columns,
    name: str,
    label_names: Sequence[str] | None,
    *,
    skip_bad: bool,
    allow_urls: str | None = None,
) -> tuple[Dataset, list[BadRow]]:
    """Bring the rows of a part into the columns of `prepare_dataset`, and read every row once.

    URLs that may be read are replaced by the bytes behind them, in a file of `datasets`, so that they are asked once.

    Args:
        part: Rows as they are stored.
        columns: Columns to read.
        name: Name of the source, for messages.
        label_names: Names of the classes, see `prepare_dataset`.
        skip_bad: Whether to leave out unreadable rows.
        allow_urls: Hosts that URLs in rows may lead to, see `read_bytes`.

    Returns:
        The readable rows, and the unreadable ones.

    Raises:
        ValueError: If a label cannot be read, or a row has a URL that it may not have; or, without `skip_bad`, if a row
            cannot be read.
    """
    prepared, unread = _prepare(part, columns, name, label_names), dict[int, BadRow]()
    is_file = columns.kind in FILE_KINDS
    if is_file and allow_urls is not None:
        prepared, unread = _fetch_urls(prepared, columns.kind, allow_urls, skip_bad=skip_bad)
    values = without_decoding(prepared, columns.kind) if is_file else prepared.select_columns(columns.kind)
    places = list(islice(part.rows.places(), len(prepared)))
    bad = find_bad_rows(columns.kind, values, places, stop_at_first=not skip_bad) | unread
    if bad and not skip_bad:
        raise next(iter(bad.values())).as_error()
    if len(bad) == len(prepared):
        raise ValueError(f"`dataset` must hold at least one row that can be read, but none of {len(prepared)} can.")
    if not bad:
        return prepared, []
    return prepared.select([row for row in range(len(prepared)) if row not in bad]), list(bad.values())


def find_bad_rows(
    kind: Kind, rows: Dataset, places: Sequence[object], *, stop_at_first: bool = False
) -> dict[int, BadRow]:
    """Read every row once, to find those that would stop a run later, by their numbers.

    The rows have one column, which is called by the kind; images and sounds are not decoded. `places` are their names.
    """
    bad: dict[int, BadRow] = {}
    plain, arrow = rows.with_format(None), rows.with_format("arrow")
    with ThreadPoolExecutor(_THREADS) as threads, progress_bar(total=len(places), desc="Checking rows") as bar:
        for start in range(0, len(places), _CHECKED_AT_A_TIME):
            some = slice(start, start + _CHECKED_AT_A_TIME)
            bar.update(len(places[some]))
            if kind == "features" and are_finite(numbers_of(arrow[some][kind])):
                continue
            found = threads.map(partial(_fault, kind), plain[some][kind], places[some])
            bad |= {row: fault for row, fault in enumerate(found, start) if fault is not None}
            if bad and stop_at_first:
                break
    return bad


def numbers_of(column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    """Features `(N, F)` or `(N, V, F)` of a column, read at once; None unless all rows have numbers of one shape."""
    values, shape = column.combine_chunks(), [len(column)]
    while any(is_list(values.type) for is_list in _LISTS):
        lengths = pc.unique(pc.list_value_length(values))  # null where a row is missing
        if len(lengths) != 1 or not lengths[0].as_py():
            return None
        shape.append(lengths[0].as_py())
        values = values.flatten()
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if len(shape) not in (2, 3) or values.null_count or not is_number:
        return None
    numbers: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(shape)
    return numbers


def are_finite(numbers: NDArray[np.float32] | None) -> bool:
    """Whether there are numbers, and none of them is NaN or infinite."""
    return numbers is not None and bool(np.isfinite(numbers).all())


def _fault(kind: Kind, value: Any, place: object) -> BadRow | None:
    found = read_value(kind, value, place, least_side=1)  # every byte is decoded, into few pixels
    return found if isinstance(found, BadRow) else None


def _prepare(part: Part, columns: Columns, name: str, known: Sequence[str] | None) -> Dataset:
    rows = part.whole()
    if not len(rows):
        raise no_rows(name)
    if columns.label is None or columns.label.column not in rows.column_names:
        raise ValueError(_no_labels(columns, name, list(rows.column_names)))
    labels = rows.select_columns(columns.label.column)[:][columns.label.column]
    named = [columns.label.read(label, place) for label, place in zip(labels, part.rows.places(), strict=False)]
    names = list(known) if known is not None else columns.label.order(_all_names(named))
    ids = _class_ids(named, names, part.rows, is_list=columns.label.is_list, is_given=known is not None)
    inputs = _canonical_inputs(rows, columns, part.rows)
    prepared: Dataset = inputs.add_column("label", ids, feature=label_feature(names, multi_label=columns.label.is_list))
    others = [] if columns.id is None else [rows.select_columns(columns.id).rename_columns({columns.id: "id"})]
    if set(LEVELS) <= set(rows.column_names) - set(columns.names):
        others.append(rows.select_columns(list(LEVELS)))
    return concatenate_datasets([prepared, *others], axis=1) if others else prepared


def _as_files(inputs: Dataset, kind: Kind) -> Dataset:
    """Give a column of files its type; sound stays undecoded, since `datasets` decodes it by another package."""
    if inputs.features[kind] == Value("large_binary"):  # which `datasets` before 4.6 does not take as files
        inputs = inputs.cast_column(kind, Value("binary"))
    files: Dataset = inputs.cast_column(kind, FILE_KINDS[kind](decode=kind != "audio"))
    return files


def _canonical_inputs(whole: Dataset, columns: Columns, rows: Rows) -> Dataset:
    """Select only the column of inputs, renamed to its kind; images and sounds get absolute paths."""
    kind, column = columns.kind, columns.value
    if kind in FILE_KINDS and _names_files(whole, columns, rows):
        chunks = rows.only([column]).chunks()
        files = [stored_file(value, chunk.base) for chunk in chunks for value in chunk.table[column].to_pylist()]
        return _as_files(Dataset.from_dict({kind: files}), kind)
    inputs: Dataset = whole.select_columns(column)
    if column != kind:
        inputs = inputs.rename_column(column, kind)
    return _as_files(inputs, kind) if kind in FILE_KINDS else inputs


def _fetch_urls(prepared: Dataset, kind: Kind, allow_urls: str, *, skip_bad: bool) -> tuple[Dataset, dict[int, BadRow]]:
    """Replace URLs by the bytes behind them; a row whose URL cannot be read gets none."""
    stored = prepared.cast_column(kind, FILE_KINDS[kind](decode=False))
    column = stored.with_format("arrow")[:][kind]
    in_row, path = pc.is_valid(pc.struct_field(column, "bytes")), pc.struct_field(column, "path")
    if not pc.any(pc.and_not(pc.match_substring(path, "://"), in_row)).as_py():
        return prepared, {}
    bad: dict[int, BadRow] = {}

    def fetch(cell: dict[str, Any], row: int) -> dict[str, Any]:
        if cell["bytes"] is not None or not is_url(cell["path"] or ""):
            return cell
        try:
            return cell | {"bytes": stored_source(cell | {"allow_urls": allow_urls})}
        except UnreadableError as error:
            bad[row] = BadRow(cell["path"], error.reason)
            if not skip_bad:
                raise bad[row].as_error() from error
            return cell | {"bytes": b""}

    def fetch_some(cells: list[dict[str, Any]], rows: list[int]) -> dict[str, list[dict[str, Any]]]:
        bar.update(len(cells))
        return {kind: list(threads.map(fetch, cells, rows))}

    with (
        ThreadPoolExecutor(_FETCHED_AT_A_TIME) as threads,
        progress_bar(total=len(stored), desc="Fetching URLs") as bar,
    ):
        fetched = stored.map(
            fetch_some,
            with_indices=True,
            input_columns=kind,
            batched=True,
            batch_size=_FETCHED_AT_A_TIME,
            writer_batch_size=_FETCHED_AT_A_TIME,
            features=stored.features,
            load_from_cache_file=False,
            new_fingerprint=uuid4().hex,
        )
    return _as_files(fetched, kind), bad


def _names_files(whole: Dataset, columns: Columns, rows: Rows) -> bool:
    """Whether cells name files by paths relative to the folder of their table."""
    column, feature = columns.value, whole.features[columns.value]
    if isinstance(feature, FILE_KINDS[columns.kind]) or all(reader.base is None for reader in rows.readers):
        return False
    if not isinstance(feature, dict):
        return is_path_column(feature)
    return "bytes" not in feature or pc.struct_field(whole.with_format("arrow")[:][column], "bytes").null_count > 0


def _class_ids(
    named: list[Label], names: list[str], rows: Rows, *, is_list: bool, is_given: bool
) -> NDArray[np.int64] | list[list[int]]:
    """Convert class names to ids: one per row, or a sorted list per row."""
    id_of = {name: number for number, name in enumerate(names)}
    try:
        if is_list:
            return [sorted(id_of[name] for name in label or []) for label in named]
        return np.array([NO_CLASS if label is None else id_of[str(label)] for label in named])
    except KeyError as error:
        row = next(row for row, label in enumerate(named) if _all_names([label]) - id_of.keys())
        rule = "one of the classes of the training set" if is_given else f"one of {len(names)} classes"
        raise ValueError(
            f"`label` must be {rule}, but {next(islice(rows.places(), row, None))} has {error}."
        ) from error


def _all_names(named: list[Label]) -> set[str]:
    return {name for label in named for name in (label if isinstance(label, list) else [label]) if name is not None}


def _no_labels(columns: Columns, name: str, found: list[str]) -> str:
    if name.endswith(".npy"):
        return f"Training needs labels: put them into {name.removesuffix('.npy')}.labels.npy, one per row."
    if columns.kind in FILE_KINDS and found == [columns.kind]:
        return (
            f"Training needs labels, but the {PLURALS[columns.kind]} of {name} have none: put them into one folder per "
            "class, or list them with their labels in a metadata.csv."
        )
    return f"Training needs labels: `label_column` must name a column of the data, which are {found}."
