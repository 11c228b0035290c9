"""Open benchmarks, folders, tables, saved datasets, Hub datasets and dataset objects, split by split."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets.load import load_dataset, load_dataset_builder, load_from_disk
from huggingface_hub import HfApi, hf_hub_download

from modeling_crh.checks import check_path
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.data.benchmarks import BENCHMARKS, read_benchmark
from modeling_crh.data.folders import PART_NAMES, class_of, divide_folder, media_files, read_metadata
from modeling_crh.data.rows import FILE_KINDS, PLURALS, READ_ERRORS, Kind, Rows
from modeling_crh.data.table_readers import StreamReader
from modeling_crh.data.tables import (
    SUFFIXES,
    Part,
    digest,
    divide_tables,
    find_tables,
    near_name,
    open_tables,
    part_of,
    raise_read_error,
)
from modeling_crh.data_source import DataSource
from modeling_crh.file_bytes import httpx
from modeling_crh.runtime.terminal import say


@dataclass(frozen=True)
class Stored:
    """Rows as they are stored, before columns are chosen.

    Attributes:
        name: Absolute path, or name of a benchmark or dataset.
        version: Digest that changes with the files; empty for objects in memory.
        splits: Rows by name of the split; a single split without a name is called `all`.
        place: Beginning of the URLs of its own files; empty unless it is streamed from the Hub.
    """

    name: str
    version: str
    splits: dict[str, Part]
    place: str = ""

    def parts(self, split: str | None = None) -> dict[str, Part]:
        """Return rows by part of an experiment: `train`, `validation`, `query`; or `all`.

        Other splits follow under their own names. A `split`, by its own name or that of its part, is the only one.

        Raises:
            ValueError: If there is no such split, or two splits belong to one part.
        """
        if split is None and len(self.splits) == 1:
            return {"all": next(iter(self.splits.values()))}
        named: dict[str, Part] = {}
        for name, rows in self.splits.items():
            part = PART_NAMES.get(name.lower(), name)
            if part in named and split is None:
                raise ValueError(
                    f"`split` must name the split to read, since two of {', '.join(self.splits)} are {part}."
                )
            named[part] = rows
        if split is None:
            return {name: named[name] for name in ("train", "validation", "query", *named) if name in named}
        if (chosen := self.splits.get(split, named.get(PART_NAMES.get(split, split)))) is None:
            raise ValueError(f"`split` must be one of {', '.join(self.splits)}, but got {split!r}.")
        return {"all": chosen}


def open_stored(source: DataSource) -> Stored:
    """Open a source before its columns are chosen."""
    data = source.dataset
    if isinstance(data, Dataset | DatasetDict | IterableDataset | IterableDatasetDict):
        return Stored("a dataset object", "", _parts_of(data, "the dataset"))
    path, name = check_path("dataset", data), str(data)
    if name in BENCHMARKS:
        train, test = read_benchmark(name, source.data_dir)
        version = f"{len(train)} {len(test)}"
        return Stored(name, version, {"train": part_of(train, name), "query": part_of(test, name)})
    if source.data_dir is not None:
        raise ValueError(f"`data_dir` must be given with a benchmark only, but got {source.data_dir!r} with {name!r}.")
    if path.is_dir() and (opened := _open_folder(path, source)) is not None:
        return opened
    if (files := find_tables(name)) is not None:
        parts = {part: open_tables(some, name) for part, some in divide_tables(files).items()}
        shown = str(path.absolute()) if path.exists() else name
        return Stored(shown, digest(files), parts)
    if path.is_dir():
        raise ValueError(f"`dataset` must hold images, sounds or tables, but the folder {name!r} holds none.")
    if path.exists() or not is_hub_id(name) or path.suffix in SUFFIXES:
        rule = f"a folder, a table, the Hub id of a dataset, or one of the benchmarks {', '.join(sorted(BENCHMARKS))}"
        if path.exists():
            raise ValueError(f"`dataset` must be {rule}, but got the file {name!r}.")
        raise FileNotFoundError(f"`dataset` must be {rule}, but there is no {name!r}.{near_name(name)}")
    return _open_hub(name, source.config, source.revision)


def _parts_of(data: Any, name: str) -> dict[str, Part]:
    splits = data if isinstance(data, dict) else {"all": data}
    return {str(split): part_of(rows, name) for split, rows in splits.items()}


def _open_folder(path: Path, source: DataSource) -> Stored | None:
    """Open a `save_to_disk` folder or a folder of images or sounds; return None for any other."""
    root = path.absolute()
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        parts = _parts_of(load_from_disk(str(root)), str(path))
        return Stored(str(root), digest(sorted(root.rglob("*.arrow"))), parts)
    named = [kind for kind in FILE_KINDS if getattr(source, f"{kind}_column") is not None]
    return _open_files(root, named[0] if len(named) == 1 else None)


def _open_files(root: Path, kind: Kind | None) -> Stored | None:
    """Open a folder of images or sounds; labels come from metadata files, or else from sub-folders."""
    found = media_files(root, kind)
    if not found.files and not found.metadata:
        return None
    column: str = found.kind
    listed = read_metadata(found) if found.metadata else [{column: file} for file in found.files]
    is_csv = bool(found.metadata) and all(file.endswith(".csv") for file in found.metadata)
    parts = {}
    for part, below in divide_folder(found).items():
        rows = [row for row in listed if row[column].startswith(below)]
        classes = [class_of(row[column].removeprefix(below)) for row in rows]
        if not found.metadata and any(classes):
            rows = [row | {"label": label} for row, label in zip(rows, classes, strict=True)]
        rows = [row | {column: os.path.join(root, row[column])} for row in rows]
        parts[part] = part_of(_as_dataset(rows, root), str(root), is_csv=is_csv)
    kinds, outside = PLURALS[found.kind], len(listed) - sum(part.rows.num_rows or 0 for part in parts.values())
    unlisted = len({*found.files} - {row[column] for row in listed})
    found.passed_over += Counter(
        {f"{kinds} outside of the splits": outside, f"{kinds} that no metadata lists": unlisted}
    )
    if found.passed_over:
        counts = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(found.passed_over.items()))
        say(f"Passed over in {root}: {counts}.")
    return Stored(str(root), digest([root / file for file in found.metadata]), parts)


def _as_dataset(rows: list[dict[str, Any]], root: Path) -> Dataset:
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(
            f"The metadata of {root} must hold values of one type a column, but do not: {error}."
        ) from error


def _open_hub(name: str, config: str | None, revision: str | None) -> Stored:
    """Open a dataset on the Hub as a stream; it is downloaded only when all rows are needed."""
    try:
        _refuse_other_servers(name, revision)
        builder = load_dataset_builder(name, config, revision=revision)
        streams: Any = builder.as_streaming_dataset()
        parts = {}
        for split, stream in streams.items():
            load: Any = partial(load_dataset, name, config, split=split, revision=revision)
            parts[split] = Part(Rows([StreamReader(stream, name, builder.info.features)]), load)
        data_files: Any = builder.config.data_files or {}
    except (*READ_ERRORS, yaml.YAMLError) as error:
        raise_read_error(name, error)
    version = {str(split): [*map(str, (*files, *files.origin_metadata))] for split, files in data_files.items()}
    return Stored(name, hashlib.sha256(json.dumps(version).encode()).hexdigest(), parts, f"hf://datasets/{name}@")


def _refuse_other_servers(name: str, revision: str | None) -> None:
    """Refuse a dataset on the Hub whose card names files on another server, which `datasets` would ask first.

    Raises:
        ValueError: If it does, or its card is no YAML.
    """
    try:
        listed = {entry.rfilename for entry in HfApi().dataset_info(name, revision=revision).siblings or ()}
    except (OSError, httpx.HTTPError):  # there is no such dataset, or it cannot be had: `datasets` says so
        return
    for file, metadata in (("README.md", r"\A\s*---\s*\n(.*?)\n---\s*$"), (".huggingface.yaml", "(.*)")):
        if file not in listed:
            continue
        path = hf_hub_download(name, file, repo_type="dataset", revision=revision)
        found = re.match(metadata, Path(path).read_text(encoding="utf-8", errors="replace"), re.DOTALL | re.MULTILINE)
        values = {} if found is None else yaml.safe_load(found[1])
        configs = values.get("configs") if isinstance(values, dict) else None
        elsewhere = next((text for text in _texts(configs) if re.match("(?!hf://).*://|.*::", text, re.DOTALL)), None)
        if elsewhere is not None:
            raise ValueError(f"its {file} names {elsewhere!r:.80}, a file on another server")


def _texts(value: Any, depth: int = 5) -> Iterator[str]:
    """Yield all texts in lists and mappings."""
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner, depth - 1)
