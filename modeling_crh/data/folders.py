"""Read folders of images: find the image files, their classes and their metadata."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from modeling_crh.images import SUFFIXES

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of files that list images and their labels, as documented by `datasets`."""

PART_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "query",
    "query": "query",
}
"""Part of an experiment by the name of a split."""

_RUBBISH = {"thumbs.db", "desktop.ini"}  # files of operating systems, reported by their full names


@dataclass
class ImageFolder:
    """The image files below a folder.

    Attributes:
        root: Absolute path of the folder.
        files: Paths of the images relative to `root`, sorted.
        metadata: Paths of the metadata files relative to `root`, sorted.
        passed_over: Number of files and folders passed over, by kind.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def describe_passed_over(self) -> str | None:
        """Count the files and folders passed over in one sentence; None if there are none."""
        if not self.passed_over:
            return None
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(self.passed_over.items()))
        return f"Passed over in {self.root}: {kinds}."


def image_files(root: str | Path) -> ImageFolder:
    """Find all image files below a folder, at any depth.

    Links to files and folders are followed, except links to a folder that contains them. Files of other kinds, hidden
    files, and folders without an image are passed over and counted.

    Args:
        root: Folder to search.

    Raises:
        OSError: If a folder cannot be read.
        ValueError: If the path of an image is not in UTF-8.
    """
    found = ImageFolder(Path(root).absolute())
    _walk(found, "", ())
    found.files.sort()
    found.metadata.sort()
    for file in found.files:
        check_file_name(file)
    return found


def _walk(found: ImageFolder, below: str, ancestors: tuple[tuple[int, int], ...]) -> bool:
    """Collect the images of a folder and its sub-folders; return whether there are any."""
    place = found.root / below
    status = os.stat(place)
    own = (status.st_dev, status.st_ino)
    if own in ancestors:
        found.passed_over["links that lead back to a folder above them"] += 1
        return True
    is_used = False
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = below + entry.name
            if entry.name.startswith("."):
                found.passed_over["hidden files and folders"] += 1
            elif os.path.isdir(entry.path):  # False, without an error, for a link to itself
                is_used |= _walk(found, f"{name}/", (*ancestors, own))
            elif not os.path.isfile(entry.path):
                found.passed_over["pipes, sockets or devices" if os.path.exists(entry.path) else "broken links"] += 1
            elif entry.name in METADATA:
                found.metadata.append(name)
                is_used = True
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                found.files.append(name)
                is_used = True
            else:
                suffix = os.path.splitext(entry.name)[1].lower()
                is_known = entry.name.lower() in _RUBBISH or not suffix
                found.passed_over[entry.name if is_known else f"{suffix} files"] += 1
    if not is_used and below:
        found.passed_over["folders without an image"] += 1
    return is_used


def divide_folder(found: ImageFolder) -> dict[str, str]:
    """Map the parts of an experiment to sub-folders, if the sub-folders are named after splits.

    Returns:
        Sub-folders by part, such as `{"train": "train/", "query": "test/"}`; `{"all": ""}` for an undivided folder.

    Raises:
        ValueError: If two sub-folders belong to one part.
    """
    tops = {name.partition("/")[0] for name in [*found.files, *found.metadata] if "/" in name}
    named: dict[str, list[str]] = {part: [] for part in PART_NAMES.values()}
    for top in sorted(tops):
        named.get(PART_NAMES.get(top.lower(), ""), []).append(top)
    if sum(map(len, named.values())) < len(tops) or not named["train"]:
        return {"all": ""}
    for folders in named.values():
        if len(folders) > 1:
            raise ValueError(f"`dataset` must have one folder a split, but {found.root} has {' and '.join(folders)}.")
    return {part: f"{folders[0]}/" for part, folders in named.items() if folders}


def class_of(file: str) -> str | None:
    """Return the class of an image: the first folder of its path within its part; None without a folder.

    Example:
        >>> class_of("cat/2023/07/1.jpg"), class_of("1.jpg")
        ('cat', None)
    """
    top, slash, _ = file.partition("/")
    return top if slash else None


def read_metadata(found: ImageFolder) -> list[dict[str, Any]]:
    """Read all metadata files of a folder; the entry `image` of a row is a path relative to the folder.

    Raises:
        ValueError: If a file cannot be read or lists nothing, or a row names no image, an image outside of the file's
            folder, or an image that another row names.
    """
    place_of: dict[str, str] = {}
    rows = []
    root = os.path.join(os.path.normpath(found.root), "")
    for file in found.metadata:
        path = found.root / file
        folder = os.path.join(os.path.normpath(path.parent), "")
        listed = list({".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}[path.suffix](path))
        if not listed:
            raise ValueError(f"{path} must list at least one image, but lists none.")
        for place, row in listed:
            name = row.pop("file_name", None)
            if not isinstance(name, str):
                raise ValueError(f'Every row must have a "file_name", but {place} is {str(row)[:80]}.')
            image = os.path.normpath(os.path.join(folder, name))
            if not image.startswith(folder):
                raise ValueError(f"Every row must name a file in {path.parent}, but {place} names {name!r}.")
            if image in place_of:
                raise ValueError(
                    f"Every row must name a file of its own, but {place} names {name!r} as {place_of[image]} does."
                )
            place_of[image] = place
            rows.append(row | {"image": check_file_name(image).removeprefix(root)})
    return rows


def check_file_name(file: str) -> str:
    """Check that a path is in UTF-8, as strings of a dataset must be, and return it.

    Raises:
        ValueError: If `file` is not in UTF-8, which file systems allow.
    """
    if re.search("[\ud800-\udfff]", file):
        raise ValueError(f"The path of every image must be in UTF-8, but {file!r} is not.")
    return file


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # editors on Windows may write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be text in UTF-8, but is not: {error}.") from error


def _read_csv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(_read_text(file), newline=""))
    for row in rows:
        place = f"line {rows.line_num} of {file}"
        if None in row or None in row.values():
            raise ValueError(f"Every row must have {len(rows.fieldnames or [])} cells, but {place} has more or fewer.")
        yield place, {name: value or None for name, value in row.items()}


def _read_json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_read_text(file).split("\n"), start=1):  # `splitlines` would also split at U+2028
        place = f"line {number} of {file}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"Every line must be one JSON object, but {place} is not: {error}.") from error
        if not isinstance(row, dict):
            raise ValueError(f"Every line must be one JSON object, but {place} is {line.strip()[:80]}.")
        yield place, row


def _read_parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(pq.read_table(file).to_pylist()):
        yield f"row {number} of {file}", row
