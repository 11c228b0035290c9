"""List duplicates as records and as CSV, and choose the item of each group to keep."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modeling_crh.checks import check_path
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.html import check_image_root, file_within
from modeling_crh.search.code_index import Positions, label_text, path_below
from modeling_crh.search.duplicates import Duplicates
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.index_file import COLUMNS


def kept_items(
    index: HammingIndex, groups: Sequence[Positions], keep: str, image_root: str | Path | None = None
) -> list[int]:
    """Choose the item of each group to keep.

    Args:
        index: Index of the items.
        groups: Groups from `near_duplicates`.
        keep: `first`, the first in the index; or `largest`, the first of those with the most bytes in their files.
        image_root: Folder of the files; needed for `largest`. No file outside of it is looked at.

    Returns:
        A position for each group.

    Raises:
        ValueError: If `largest` lacks the folder, or an item has no file in it.
        FileNotFoundError: If `image_root` is not a folder.
    """
    if keep == "first":
        return [int(group[0]) for group in groups]
    if image_root is None:
        raise ValueError("`image_root` must be given to keep the largest file of each group, but is missing.")
    root = check_image_root(image_root)
    sizes = ([_file_size(root, record["path"]) for record in index.records(group)] for group in groups)
    return [int(group[np.argmax(size)]) for group, size in zip(groups, sizes, strict=True)]


def _file_size(root: Path, path: str | None) -> int:
    file = "without a path" if path is None else file_within(root, path)
    if isinstance(file, str):
        raise ValueError(
            f"`keep` must be first unless every item has a file in `image_root`, but {path!r:.80} is {file}."
        )
    return file.stat().st_size


def describe_groups(
    index: HammingIndex,
    groups: Sequence[Positions],
    kept: Sequence[int] | None = None,
    image_root: str | Path | None = None,
) -> list[list[dict[str, Any]]]:
    """Return the records of each group, with paths relative to `image_root`, and with `kept` an entry `keep`."""
    named = [_records(index, group, image_root) for group in groups]
    for records, group, one in zip(named, groups, kept or (), strict=kept is not None):
        for record, position in zip(records, group.tolist(), strict=True):
            record["keep"] = position == one
    return named


def describe_duplicates(
    index: HammingIndex, other: HammingIndex, found: Duplicates, image_root: str | Path | None = None
) -> list[dict[str, Any]]:
    """Return the record of each duplicate, with entries `distance` and `of`, the record of the other item."""
    mine, others = _records(index, found.positions, image_root), _records(other, found.originals, image_root)
    rows = zip(mine, found.distances.tolist(), others, strict=True)
    return [record | {"distance": distance, "of": original} for record, distance, original in rows]


def _records(index: HammingIndex, positions: Positions, image_root: str | Path | None) -> list[dict[str, Any]]:
    return [record | {"path": path_below(record["path"], image_root)} for record in index.records(positions)]


def write_groups(path: str | Path, groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Write groups as CSV, atomically: one row per item, with the number of its group from 1.

    Args:
        path: Path of the file; an older file is replaced.
        groups: Groups from `describe_groups`.

    Raises:
        OSError: If the file cannot be written.
    """
    keeps = any("keep" in record for group in groups for record in group)
    rows = [
        (number, *_cells(record), *(("yes" if record["keep"] else "no",) if keeps else ()))
        for number, group in enumerate(groups, 1)
        for record in group
    ]
    _write_csv(path, ("group", *COLUMNS, *(("keep",) if keeps else ())), rows)


def write_duplicates(path: str | Path, found: Sequence[dict[str, Any]]) -> None:
    """Write what `describe_duplicates` gives as CSV, atomically, as `write_groups` does."""
    rows = [(*_cells(record), record["distance"], *_cells(record["of"])) for record in found]
    _write_csv(path, (*COLUMNS, "distance", *(f"of_{name}" for name in COLUMNS)), rows)


def _cells(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["id"], label_text(record["label"], "; "), record["path"]


def _write_csv(path: str | Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with whole_file(check_path("out", path)) as partial:
        with partial.open("w", newline="", encoding="utf-8", errors="replace") as file:
            csv.writer(file).writerows([header, *rows])
