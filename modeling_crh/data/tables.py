"""Find the tables that a name leads to, and open them: parquet, CSV, JSON lines, WebDataset tars, NumPy's arrays."""

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from datasets.table import InMemoryTable

from modeling_crh.data.folders import PART_NAMES
from modeling_crh.data.rows import READ_ERRORS, Rows
from modeling_crh.data.table_readers import READ_BYTES, CsvReader, NumpyReader, ParquetReader, StreamReader

SUFFIXES = (".parquet", ".csv", ".json", ".jsonl", ".npy", ".tar")
"""Endings of the names of tables."""


@dataclass(frozen=True)
class Part:
    """The rows of one split, as they are stored.

    Attributes:
        rows: Reads them from any row on.
        whole: Makes a `Dataset` of all of them.
        is_csv: Whether every cell is text.
    """

    rows: Rows
    whole: Callable[[], Dataset]
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
        OSError: If the machine cannot read them, such as for a denied permission.
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
        raise read_error(name, error) from error


def read_error(name: str, error: Exception) -> Exception:
    """What to raise where a table cannot be read, or not to its end: the machine's own error, or else a sentence."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    cause = error.__cause__ or error
    reason = str(cause).strip().partition("\n")[0].rstrip(".") or type(cause).__name__
    return ValueError(
        f"`dataset` must be a folder, a table or a dataset that can be read, but {name!r} is not: {reason}."
    )


def no_rows(name: str) -> ValueError:
    """The error for a source without rows."""
    return ValueError(f"`dataset` must hold at least one row, but {name!r} holds none.")


def _open(kind: str, files: list[Path], name: str) -> Part:
    texts: list[Any] = [str(file) for file in files]
    if kind == ".parquet":
        return Part(Rows([ParquetReader(file) for file in files]), lambda: Dataset.from_parquet(texts))
    if kind in (".csv", ".npy"):
        rows = Rows([CsvReader(file) if kind == ".csv" else NumpyReader(file) for file in files])
        return Part(rows, lambda: Dataset(InMemoryTable(rows.in_memory())), is_csv=kind == ".csv")
    builder = "json" if kind == ".json" else "webdataset"
    settings: dict[str, Any] = {"chunksize": READ_BYTES} if kind == ".json" else {}
    stream = load_dataset(builder, data_files=texts, split="train", streaming=True, **settings)
    source = texts[0] if len(texts) == 1 else name
    rows = Rows([StreamReader(stream, source, base=files[0].parent)])
    return Part(rows, lambda: load_dataset(builder, data_files=texts, split="train"))


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
