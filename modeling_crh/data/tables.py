"""Find tables by file, list, glob pattern or folder, and open them: parquet, CSV, JSON, WebDataset tars, NumPy."""

import difflib
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from datasets import Audio, Dataset, Features, IterableDataset, Value, load_dataset
from datasets.table import InMemoryTable

from modeling_crh.checks import first_line
from modeling_crh.data.folders import PART_NAMES
from modeling_crh.data.rows import AT_A_TIME, READ_ERRORS, Rows
from modeling_crh.data.table_readers import (
    READ_BYTES,
    CsvReader,
    DatasetReader,
    NumpyReader,
    ParquetReader,
    StreamReader,
)

_FILE = {"bytes": Value("binary"), "path": Value("string")}  # a sound as stored; `Audio` needs torchcodec to write one

SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".npy", ".tar")
"""Suffixes of tables."""


@dataclass(frozen=True)
class Part:
    """The rows of one split, as they are stored.

    Attributes:
        rows: Reader that can start at any row.
        whole: Function that loads all rows as a `Dataset`.
        is_csv: Whether every cell is text.
    """

    rows: Rows
    whole: Callable[[], Dataset]
    is_csv: bool = False


def part_of(data: Dataset | IterableDataset, name: str, *, is_csv: bool = False) -> Part:
    """Make a part of all rows of a dataset or a stream; `name` is that of the rows in messages."""
    if isinstance(data, Dataset):
        rows = data.with_format(None)  # without the user's transform
        return Part(Rows([DatasetReader(rows, name)]), lambda: rows, is_csv)
    return Part(Rows([StreamReader(data, name)]), partial(read_stream, data))


def find_tables(name: str) -> list[Path] | None:
    """Find the tables of a file, several files separated by commas, a glob pattern, or a folder.

    They are sorted unless they were listed; None if there is none.
    """
    path = Path(name)
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file()]
        files = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    elif path.is_file():
        files = [path]
    elif "," in name and all(Path(part).is_file() for part in name.split(",")):
        files = [Path(part) for part in name.split(",")]
    else:
        files = [file for file in map(Path, sorted(glob.glob(name, recursive=True))) if file.is_file()]
    tables = [file for file in files if file.suffix in SUFFIXES and not file.name.endswith(".labels.npy")]
    if path.is_dir():  # in which notes in tabs may lie beside the tables
        tables = [file for file in tables if file.suffix != ".tsv"] or tables
    return tables or None


def divide_tables(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Group tables by part of an experiment, by names such as `train-00000-of-00002.parquet`.

    Returns:
        Tables by part, such as `{"train": [...], "query": [...]}`; `{"all": [...]}` unless all are named after splits.
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
    """Open tables of one kind as consecutive rows; `name` is that of all tables in messages.

    Raises:
        ValueError: If the tables are of several kinds, or cannot be read.
        OSError: If the operating system cannot read a file, such as for a denied permission.
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
        raise_read_error(name, error)


def digest(files: Sequence[Path]) -> str:
    """Compute a digest of the absolute paths, sizes and times of files; it changes when a file is replaced.

    The labels of an array belong to it.
    """
    found = hashlib.sha256()
    labels = [file.with_suffix(".labels.npy") for file in files if file.suffix == ".npy"]
    for file in [*files, *(file for file in labels if file.is_file())]:
        found.update(file_version(str(file.absolute())))
    return found.hexdigest()


def file_version(path: str | None) -> bytes:
    """Describe a local file or archive by path, size and time, and a remote or missing one by its path."""
    place = (path or "").rpartition("::")[2].removeprefix("file://")  # of zip://a.png::b.zip, the archive
    try:
        status = None if path is None or "://" in place else os.stat(place)
    except (OSError, ValueError):  # ValueError: the path has a zero byte
        status = None
    facts = "" if status is None else f"{status.st_size}\0{status.st_mtime_ns}"
    return f"{path}\0{facts}\0".encode("utf-8", "surrogatepass")


class _StreamRows:
    """Generator of the rows of a stream, whose stamp is the name of these rows in the cache of `datasets`.

    The name is otherwise a hash of the pickled stream. That differs from process to process, and fails for streams of
    tars with huggingface_hub 1.31 to 1.33. `Dataset.from_generator` takes a name of its own only from datasets 4.4 on.
    """

    def __init__(self, stream: IterableDataset, stamp: str) -> None:
        self.stream, self.stamp = stream, stamp

    def __call__(self) -> Iterator[dict[str, Any]]:
        for table in self.stream.with_format("arrow").iter(batch_size=AT_A_TIME):
            yield from table.to_pylist()

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (self.stamp,)


def read_stream(stream: IterableDataset, stamp: str | None = None) -> Dataset:
    """Write all rows of a stream to the cache of `datasets`, with images and sounds left encoded.

    Rows already in the cache under the same `stamp`, a text that changes with the rows, are not written again.
    """
    features: Any = stream.features
    if features is not None:
        stream = stream.select_columns(list(features))  # WebDataset's rows differ in the order of their columns
        features = Features(**{name: _FILE if isinstance(kind, Audio) else kind for name, kind in features.items()})
    return Dataset.from_generator(_StreamRows(stream, stamp or uuid4().hex), features=features)


def raise_read_error(name: str, error: Exception) -> NoReturn:
    """Raise the error for a table that cannot be read: the system's own, or a `ValueError` that names the table.

    A `ValueError` that names an argument already is kept.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    if isinstance(error, ValueError) and str(error).startswith("`"):
        raise error
    reason = first_line(error.__cause__ or error)
    near = "" if Path(name).exists() else near_name(name)
    raise ValueError(
        f"`dataset` must be a folder, a table or a dataset that can be read, but {name!r} is not: {reason}.{near}"
    ) from error


def near_name(name: str) -> str:
    """Suggest the file or folder beside that is named most like `name`, as the end of a message."""
    folder = Path(name).parent
    names = [path.name for path in folder.iterdir()] if os.access(folder, os.R_OK) and folder.is_dir() else []
    found = difflib.get_close_matches(Path(name).name, names, n=1)
    return f" There is {str(folder / found[0])!r}." if found else ""


def no_rows(name: str) -> ValueError:
    """Make the error for a source without rows."""
    return ValueError(f"`dataset` must hold at least one row, but {name!r} holds none.")


def _open(kind: str, files: list[Path], name: str) -> Part:
    texts: list[Any] = [glob.escape(str(file)) for file in files]  # `datasets` takes them for patterns
    if kind == ".parquet":
        readers = [ParquetReader(file) for file in files]
        return Part(Rows(readers), lambda: Dataset.from_parquet(texts, columns=readers[0].columns))
    if kind in (".csv", ".tsv", ".npy"):
        rows = Rows([NumpyReader(file) if kind == ".npy" else CsvReader(file) for file in files])
        return Part(rows, lambda: Dataset(InMemoryTable(rows.in_memory())), is_csv=kind != ".npy")
    builder = "json" if kind == ".json" else "webdataset"
    settings: dict[str, Any] = {"chunksize": READ_BYTES} if kind == ".json" else {}
    stream = load_dataset(builder, data_files=texts, split="train", streaming=True, **settings)
    source = str(files[0]) if len(files) == 1 else name
    rows = Rows([StreamReader(stream, source, base=files[0].parent)])
    if kind == ".tar":
        return Part(rows, lambda: read_stream(stream, digest(files)))
    return Part(rows, lambda: load_dataset(builder, data_files=texts, split="train"))
