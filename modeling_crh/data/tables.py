"""Find the tables that a path names, and open them: parquet, CSV, JSON lines, WebDataset tars and NumPy's arrays."""

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, load_dataset
from datasets.table import InMemoryTable

from modeling_crh.data.folders import PART_NAMES
from modeling_crh.data.rows import (
    READ_BYTES,
    READ_ERRORS,
    CsvRows,
    NumpyRows,
    ParquetRows,
    RowReader,
    StreamRows,
    read_table,
)

SUFFIXES = (".parquet", ".csv", ".json", ".jsonl", ".npy", ".tar")
"""Endings of the names of tables."""


@dataclass(frozen=True)
class Part:
    """The rows of one split, as they are stored.

    Attributes:
        reader: Reads them from any row on.
        whole: Makes a `Dataset` of all of them.
        base: Folder that paths in cells start from; None where they are absolute.
        is_csv: Whether every cell is text.
    """

    reader: RowReader
    whole: Callable[[], Dataset]
    base: Path | None = None
    is_csv: bool = False


def find_tables(name: str) -> list[Path] | None:
    """The tables that a name leads to.

    Args:
        name: A file, several that commas separate, a glob pattern, or a folder.

    Returns:
        The files, sorted; None if there is none.
    """
    path = Path(name)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
    elif path.is_file():
        files = [path]
    elif "," in name and all(Path(part).is_file() for part in name.split(",")):
        files = [Path(part) for part in name.split(",")]
    else:
        files = [Path(found) for found in sorted(glob.glob(name, recursive=True)) if Path(found).is_file()]
    tables = [file for file in files if file.suffix in SUFFIXES and not file.name.endswith(".labels.npy")]
    return tables or None


def divide_tables(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Part of an experiment to the tables that hold it, by names such as `train-00000-of-00002.parquet`.

    Returns:
        Such as `{"train": [...], "query": [...]}`; `{"all": [...]}` where not all files are named after splits.
    """
    parts: dict[str, list[Path]] = {}
    for file in files:
        match = re.match(r"[a-z]+", file.stem.lower())
        name = match[0] if match and match[0] in PART_NAMES else file.parent.name.lower()
        if name not in PART_NAMES:
            return {"all": list(files)}
        parts.setdefault(PART_NAMES[name], []).append(file)
    return parts if "train" in parts else {"all": list(files)}


def open_tables(files: Sequence[Path], name: str) -> Part:
    """Open tables of one kind, one after the other.

    Args:
        files: The files.
        name: What messages call all of them.

    Raises:
        ValueError: If they are of several kinds, or cannot be read.
    """
    kinds = sorted({".json" if file.suffix == ".jsonl" else file.suffix for file in files})
    if len(kinds) > 1:
        raise ValueError(f"`dataset` must be tables of one kind, but {name!r} holds {' and '.join(kinds)}.")
    paths = [file.absolute() for file in files]
    if all(path.stat().st_size == 0 for path in paths):
        raise no_rows(name)
    try:
        return _open(kinds[0], paths, name)
    except READ_ERRORS as error:
        if isinstance(error, PermissionError):
            raise
        raise unreadable(name, error) from error


def unreadable(name: str, error: Exception) -> ValueError:
    """The error for a table that cannot be read, or not to its end."""
    cause = error.__cause__ or error
    reason = str(cause).strip().partition("\n")[0].rstrip(".") or type(cause).__name__
    return ValueError(
        f"`dataset` must be a folder, a table or a dataset that can be read, but {name!r} is not: {reason}."
    )


def no_rows(name: str) -> ValueError:
    """The error for a source without rows."""
    return ValueError(f"`dataset` must hold at least one row, but {name!r} holds none.")


def _open(kind: str, files: list[Path], name: str) -> Part:
    texts = [str(file) for file in files]
    base = files[0].parent
    if kind == ".parquet":
        return Part(ParquetRows(files), lambda: Dataset.from_parquet(texts), base)
    if kind == ".csv":
        rows = CsvRows(files)
        return Part(rows, lambda: _in_memory(rows), base, is_csv=True)
    if kind == ".npy":
        arrays = NumpyRows(files)
        return Part(arrays, lambda: _in_memory(arrays))
    builder = "json" if kind == ".json" else "webdataset"
    settings = {"chunksize": READ_BYTES} if kind == ".json" else {}
    stream = load_dataset(builder, data_files=texts, split="train", streaming=True, **settings)
    return Part(
        StreamRows(stream, texts[0] if len(texts) == 1 else name),
        lambda: load_dataset(builder, data_files=texts, split="train"),
        base,
    )


def _in_memory(reader: RowReader) -> Dataset:
    return Dataset(InMemoryTable(read_table(reader)))


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
