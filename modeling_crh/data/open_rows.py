"""Open the rows of a folder, a table or a dataset, to be read by their numbers or as a stream."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
from datasets import Dataset, Features, load_dataset_builder, load_from_disk

from modeling_crh.checks import check_path
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.data.benchmarks import BENCHMARKS
from modeling_crh.data.folder import OFFICIAL_DIVISIONS, check_file_name
from modeling_crh.data.row_readers import READ_BYTES, CsvRows, DatasetRows, ParquetRows, RowReader, StreamRows
from modeling_crh.data.tables import read_table

_TABLES = (".csv", ".json", ".jsonl", ".parquet")


class _NoRowsError(ValueError):
    pass


@dataclass(frozen=True)
class OpenRows:
    """Rows that were opened.

    Attributes:
        name: Whole path, or name of a benchmark or dataset.
        version: Differs after the rows have changed.
        reader: Reads them.
        features: Its columns, in the order of the table, to their types.
        base: Folder that paths in it start from; None where they are whole.
    """

    name: str
    version: str
    reader: RowReader
    features: Features
    base: Path | None = None


def open_rows(source: str | Path, split: str) -> OpenRows:
    """Open a folder, a table, a benchmark or a dataset.

    Args:
        source: See `open_source`.
        split: Of a dataset with several.

    Raises:
        ValueError: If there is no such source, or it is empty.
    """
    path, name = check_path("source", source), str(source)
    if name in BENCHMARKS:
        database, _ = BENCHMARKS[name](None)
        return OpenRows(name, str(len(database)), DatasetRows(database), database.features)
    if path.is_file():
        return _open_file(path, split)
    if (path / "dataset_dict.json").is_file():
        path = _split_folder(path, split)
    if (path / "state.json").is_file():
        dataset = load_from_disk(str(path))
        if len(dataset) == 0:
            raise _no_rows(name)
        version = _digest([(path / "state.json").read_text()])
        return OpenRows(str(path.absolute()), version, DatasetRows(dataset), dataset.features)
    if path.is_dir():
        return _open_folder(path, split)
    if not is_hub_id(name):
        raise ValueError(f"`source` must be a folder, a file or a dataset, but {name!r} is not there.")
    return _open_stream(name, name, split)


def unreadable(name: str, error: Exception) -> ValueError:
    """What is raised where a source cannot be read, or not to its end."""
    cause = error.__cause__ or error
    reason = str(cause).strip().partition("\n")[0].rstrip(".") or type(cause).__name__
    return ValueError(
        f"`source` must be a folder, a table or a dataset that can be read, but {name!r} is not: {reason}."
    )


def _open_file(file: Path, split: str) -> OpenRows:
    path = file.absolute()
    if file.suffix not in (*_TABLES, ".npy"):
        raise ValueError(
            f"`source` must be a folder, a dataset or a file that ends in {', '.join(_TABLES)} or .npy, but got "
            f"{str(file)!r}."
        )
    if file.stat().st_size == 0:
        raise _no_rows(str(file))
    if file.suffix == ".npy":
        table = read_table(file, name="source")
        return OpenRows(str(path), _changed_at(path), DatasetRows(table), table.features)
    if file.suffix in (".csv", ".parquet"):
        return _open_table(path)
    files = {split: str(path)}
    return _open_stream(str(path), "json", split, path.parent, data_files=files, chunksize=READ_BYTES)


def _open_table(file: Path) -> OpenRows:
    try:
        reader: CsvRows | ParquetRows = CsvRows(file) if file.suffix == ".csv" else ParquetRows(file)
        features = Features.from_arrow_schema(reader.schema)
        is_empty = next(reader.tables(0), None) is None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(str(file), error) from error
    if is_empty:
        raise _no_rows(str(file))
    return OpenRows(str(file), _changed_at(file), reader, features, file.parent)


def _changed_at(file: Path) -> str:
    return _digest([str(os.path.getmtime(file)), str(file.stat().st_size)])


def _split_folder(folder: Path, split: str) -> Path:
    splits = json.loads((folder / "dataset_dict.json").read_text())["splits"]
    if split not in splits:
        raise ValueError(f"`split` must be one of {splits}, but got {split!r}.")
    return folder / split


def _open_folder(folder: Path, split: str) -> OpenRows:
    """Image files where there are some; otherwise what `datasets` makes of the folder."""
    root = folder.absolute()
    suffixes = {suffix.lower() for suffix in PIL.Image.registered_extensions()}
    files = sorted(name for name in _walk(root, "") if os.path.splitext(name)[1].lower() in suffixes)
    if files:
        columns = {"image": [str(check_file_name(root / name)) for name in files]}
        labels = _class_folders(files)
        if labels is not None:
            columns["label"] = labels
        dataset = Dataset.from_dict(columns)
        return OpenRows(str(root), _digest(files), DatasetRows(dataset), dataset.features)
    if not any(Path(name).suffix in _TABLES for name in _walk(root, "")):
        raise ValueError(f"`source` must hold at least one image file, but the folder {str(folder)!r} holds none.")
    return _open_stream(str(root), str(root), split, root)


def _walk(root: Path, below: str) -> Iterator[str]:
    """Paths of all visible files below a folder, as seen from it."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, f"{below}{entry.name}/")
            elif entry.is_file():
                yield below + entry.name


def _class_folders(files: list[str]) -> list[str] | None:
    """The sub-folder of each file, or None if the files do not lie in two or more of them, all at one depth.

    Of an official division, such as `train` and `test`, the sub-folders of both are the classes.
    """
    parts = [name.split("/") for name in files]
    if {part[0] for part in parts} in OFFICIAL_DIVISIONS:
        parts = [part[1:] for part in parts]
    classes = [part[0] for part in parts]
    return classes if {len(part) for part in parts} == {2} and len(set(classes)) > 1 else None


def _open_stream(name: str, builder_name: str, split: str, base: Path | None = None, **settings: Any) -> OpenRows:
    try:
        builder = load_dataset_builder(builder_name, **settings)
        stream = builder.as_streaming_dataset(split=split)
        features = stream.features
        if features is None:  # of a format that does not name them at its beginning
            first = next(StreamRows(stream).tables(0), None)
            if first is None or len(first) == 0:
                raise _no_rows(name)
            features = Features.from_arrow_schema(first.schema)
    except _NoRowsError:
        raise
    except Exception as error:  # `datasets` raises errors of its own, of pyarrow, of pandas and of the network
        raise unreadable(name, error) from error
    files = builder.config.data_files[split]
    version = _digest([str(part) for part in (*files, *files.origin_metadata)])
    return OpenRows(name, version, StreamRows(stream), features, base)


def _no_rows(name: str) -> ValueError:
    return _NoRowsError(f"`source` must hold at least one row, but {name!r} holds none.")


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
