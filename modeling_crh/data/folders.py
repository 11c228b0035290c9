"""Read folders of images or sounds: find the files, their classes and their metadata."""

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

from modeling_crh.data.rows import PLURALS, Kind
from modeling_crh.images import SUFFIXES as IMAGE_SUFFIXES
from modeling_crh.sounds import SUFFIXES as SOUND_SUFFIXES

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of files that list images or sounds and their labels, as documented by `datasets`."""

PART_NAMES = {"train": "train"} | dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
PART_NAMES |= dict.fromkeys(("test", "query"), "query")
"""Part of an experiment by the name of a split."""

_SUFFIXES: dict[Kind, frozenset[str]] = {"image": IMAGE_SUFFIXES, "audio": SOUND_SUFFIXES}
_ONE: dict[Kind, str] = {"image": "an image", "audio": "a sound"}
_EMPTY = "folders without a file"  # until the kind of the folder is known
_RUBBISH = {"thumbs.db", "desktop.ini"}  # files of operating systems, reported by their full names


@dataclass
class MediaFolder:
    """The image files or the sound files below a folder.

    Attributes:
        root: Absolute path of the folder.
        kind: Kind of the files: image or audio.
        files: Paths of the files relative to `root`, sorted.
        metadata: Paths of the metadata files relative to `root`, sorted.
        passed_over: Number of files and folders passed over, by kind.
    """

    root: Path
    kind: Kind = "image"
    files: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def media_files(root: str | Path, kind: Kind | None = None) -> MediaFolder:
    """Find all image files or all sound files below a folder, at any depth.

    Links to files and folders are followed, except links to a folder that contains them. Files of other kinds, hidden
    files, and folders without a file of the kind are passed over and counted. Without a `kind`, image or audio, it is
    that of the folder, which must then hold only one.

    Raises:
        OSError: If a folder cannot be read.
        ValueError: If the path of a file is not in UTF-8, or the folder holds images and sounds and `kind` is None.
    """
    found = MediaFolder(Path(root).absolute(), kind or "image")
    _walk(found, IMAGE_SUFFIXES | SOUND_SUFFIXES if kind is None else _SUFFIXES[kind], "", ())
    if kind is None:
        found.kind = _only_kind(found)
    if empty := found.passed_over.pop(_EMPTY, 0):
        found.passed_over[f"folders without {_ONE[found.kind]}"] = empty
    found.files.sort()
    found.metadata.sort()
    for file in found.files:
        check_file_name(file)
    return found


def _only_kind(found: MediaFolder) -> Kind:
    """The kind of the files of a folder: image or audio; a folder without any is one of images."""
    counts = {kind: sum(_suffix(file) in suffixes for file in found.files) for kind, suffixes in _SUFFIXES.items()}
    if all(counts.values()):
        held = " and ".join(f"{count:,} {PLURALS[kind]}" for kind, count in counts.items())
        raise ValueError(
            f"`image_column` or `audio_column` must be named for a folder of both, such as {str(found.root)!r}, which "
            f"holds {held}: `--image-column image` reads only the images, `--audio-column audio` only the sounds."
        )
    return "audio" if counts["audio"] else "image"


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _walk(found: MediaFolder, suffixes: frozenset[str], below: str, ancestors: tuple[tuple[int, int], ...]) -> bool:
    """Collect the files of a folder and its sub-folders; return whether there are any."""
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
                is_used |= _walk(found, suffixes, f"{name}/", (*ancestors, own))
            elif not os.path.isfile(entry.path):
                found.passed_over["pipes, sockets or devices" if os.path.exists(entry.path) else "broken links"] += 1
            elif entry.name in METADATA or _suffix(name) in suffixes:
                (found.metadata if entry.name in METADATA else found.files).append(name)
                is_used = True
            else:
                is_known = entry.name.lower() in _RUBBISH or not _suffix(name)
                found.passed_over[entry.name if is_known else f"{_suffix(name)} files"] += 1
    if not is_used and below:
        found.passed_over[_EMPTY] += 1
    return is_used


def divide_folder(found: MediaFolder) -> dict[str, str]:
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
    """Return the class of a file: the first folder of its path within its part; None without a folder.

    Example:
        >>> class_of("cat/2023/07/1.jpg"), class_of("1.jpg")
        ('cat', None)
    """
    top, slash, _ = file.partition("/")
    return top if slash else None


def read_metadata(found: MediaFolder) -> list[dict[str, Any]]:
    """Read all metadata files of a folder; the entry `image` or `audio` of a row is a relative path.

    Raises:
        ValueError: If a file cannot be read or lists nothing, or a row names no file, a file outside of its folder, or
            one that another row names.
    """
    place_of: dict[str, str] = {}
    rows = []
    root = os.path.join(os.path.normpath(found.root), "")
    for file in found.metadata:
        path = found.root / file
        folder = os.path.join(os.path.normpath(path.parent), "")
        listed = list({".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}[path.suffix](path))
        if not listed:
            raise ValueError(f"{path} must list at least one {_ONE[found.kind].split()[1]}, but lists none.")
        for place, row in listed:
            name = row.pop("file_name", None)
            if not isinstance(name, str):
                raise ValueError(f'Every row must have a "file_name", but {place} is {str(row)[:80]}.')
            file_name = os.path.normpath(os.path.join(folder, name))
            if not file_name.startswith(folder):
                raise ValueError(f"Every row must name a file in {path.parent}, but {place} names {name!r}.")
            if file_name in place_of:
                raise ValueError(
                    f"Every row must name a file of its own, but {place} names {name!r} as {place_of[file_name]} does."
                )
            place_of[file_name] = place
            rows.append(row | {found.kind: check_file_name(file_name).removeprefix(root)})
    return rows


def check_file_name(file: str) -> str:
    """Check that a path is in UTF-8, as strings of a dataset must be, and return it.

    Raises:
        ValueError: If `file` is not in UTF-8, which file systems allow.
    """
    if re.search("[\ud800-\udfff]", file):
        raise ValueError(f"The path of every file must be in UTF-8, but {file!r} is not.")
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
