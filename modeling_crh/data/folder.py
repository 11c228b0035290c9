"""A folder of image files as the four splits of a retrieval experiment."""

import json
import os
from pathlib import Path
from typing import Any

import PIL.Image
from datasets import Dataset, DatasetDict

from modeling_crh.checks import check_path
from modeling_crh.data.columns import label_names
from modeling_crh.data.images import BadImage, check_images
from modeling_crh.data.prepare import prepare_dataset
from modeling_crh.data.splits import split_dataset

METADATA = "metadata.jsonl"
OFFICIAL_DIVISIONS = [{"train", "test"}, {"train", "query"}]


def load_folder(
    path: str | Path,
    *,
    validation_fraction: float = 0.1,
    query_fraction: float | None = None,
    seed: int = 0,
    skip_bad_images: bool = False,
) -> tuple[DatasetDict, list[BadImage]]:
    """Load labelled image files.

    The folder holds one sub-folder a class, named after it, with image files and nothing else. Or it holds image files
    and a `metadata.jsonl` with a line `{"file_name": "a/1.jpg", "label": "cat"}` for each, where `label` may also be a
    list of classes, even an empty one; only the files that it lists are read, which lie in the folder, each listed
    once. If the sub-folders are exactly `train` and `test` (or `query`), each of the two is such a folder, and they are
    the official division. Names that start with a dot are passed over. Classes and files are sorted by name, so ids are
    the same on every machine. Every image is decoded once, to find those that would stop a training run later; none is
    kept in memory.

    Args:
        path: The folder.
        validation_fraction: Share of `database` to hold out for model selection.
        query_fraction: Share of all images to cut as queries, if there is no official division; None is a fifth.
        seed: Decides which images are held out; see `held_out_rows`.
        skip_bad_images: Leave out images that cannot be decoded, rather than raise.

    Returns:
        The splits `train`, `validation`, `query` and `database`, and the images that were left out.

    Raises:
        ValueError: If the folder is missing, empty, or laid out otherwise; a line of `metadata.jsonl` is no good; an
            image cannot be decoded (unless `skip_bad_images`); or the images cannot be split, see `split_dataset`.
    """
    parts, bad = read_folder(path, skip_bad_images=skip_bad_images)
    splits = split_dataset(*parts, validation_fraction=validation_fraction, query_fraction=query_fraction, seed=seed)
    return splits, bad


def read_folder(path: str | Path, *, skip_bad_images: bool = False) -> tuple[list[Dataset], list[BadImage]]:
    """All images of such a folder, see `load_folder`, before any division.

    Args:
        path: The folder.
        skip_bad_images: Leave out images that cannot be decoded, rather than raise.

    Returns:
        One prepared dataset, or the training and the test set of an official division; and the images that were left
        out.

    Raises:
        ValueError: As `load_folder`.
    """
    root = check_path("path", path).absolute()  # images are opened later, perhaps from another working directory
    if not root.is_dir():
        raise ValueError(f"`path` must be a folder, but got {str(path)!r}.")
    sub_folders = {child.name for child in _visible(root) if child.is_dir()}
    folders = [root]
    if sub_folders in OFFICIAL_DIVISIONS and not (root / METADATA).is_file():
        folders = [root / name for name in sorted(sub_folders, key=["train", "test", "query"].index)]
    prepared: list[Dataset] = []
    bad: list[BadImage] = []
    for folder in folders:
        names = label_names(prepared[0]) if prepared else None
        rows = _read_metadata(folder) if (folder / METADATA).is_file() else _read_class_folders(folder)
        dataset, left_out = check_images(prepare_dataset(rows, label_names=names), skip_bad_images=skip_bad_images)
        prepared.append(dataset)
        bad += left_out
    return prepared, bad


def _read_class_folders(folder: Path) -> Dataset:
    rows: dict[str, list[str]] = {"image": [], "label": []}
    for child in _visible(folder):
        if child.is_file() and child.suffix.lower() in PIL.Image.registered_extensions():
            raise ValueError(
                f"{folder} must hold images in one sub-folder a class, but {child.name} lies outside of them."
            )
        if not child.is_dir():
            continue
        files = _visible(child)
        if not files:
            raise ValueError(f"{child} must hold an image of the class {child.name!r}, but is empty.")
        for file in files:
            if not file.is_file():  # opening a named pipe would wait for ever
                raise ValueError(f"{child} must hold only images, but holds the {_kind(file)} {file.name!r}.")
            rows["image"].append(str(check_file_name(file)))
            rows["label"].append(child.name)
    if not rows["image"]:
        raise ValueError(f"{folder} must hold one sub-folder a class, or a {METADATA}, but holds neither.")
    return Dataset.from_dict(rows)


def _read_metadata(folder: Path) -> Dataset:
    file = folder / METADATA
    rows: dict[str, list[Any]] = {"image": [], "label": []}
    line_of: dict[str, int] = {}
    for number, line in enumerate(_read_text(file).split("\n"), start=1):  # `splitlines` would part at U+2028 too
        if line.strip():
            place = f"Line {number} of {file}"
            name, label = _read_line(line, place)
            image = _find_image(folder, name, place)
            first = line_of.setdefault(os.path.normpath(image), number)
            if first != number:
                raise ValueError(f"{place} must name a file of its own, but {name!r} is that of line {first}.")
            rows["image"].append(str(image))
            rows["label"].append(label)
    if not rows["image"]:
        raise ValueError(f"{file} must list at least one image, but lists none.")
    _check_kinds(rows["label"], file)
    return Dataset.from_dict(rows)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # an editor on Windows may begin it with a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be text in UTF-8, but is not: {error}.") from error


def _read_line(line: str, place: str) -> tuple[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} must be one JSON object, but is not: {error}.") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "label" not in entry:
        raise ValueError(f'{place} must have a "file_name" and a "label", but is {line.strip()[:80]}.')
    label = entry["label"]
    for value in label if isinstance(label, list) else [label]:
        if not isinstance(value, int | str):
            raise ValueError(f"{place} must give labels as whole numbers or strings, but gives {value!r:.80}.")
        if isinstance(value, int) and value.bit_length() > 63:
            raise ValueError(f"{place} must give labels of at most 64 bits, but gives {value!r:.80}.")
        if isinstance(value, str) and not _is_unicode(value):
            raise ValueError(f"{place} must give labels that are whole Unicode, but gives {value!r:.80}.")
    return entry["file_name"], label


def _find_image(folder: Path, name: str, place: str) -> Path:
    image = folder / name
    if not Path(os.path.normpath(image)).is_relative_to(os.path.normpath(folder)):
        raise ValueError(f"{place} must name a file in {folder}, but {name!r} lies outside of it.")
    if not os.path.isfile(image):  # `Path.is_file` raises where a name is too long
        what = f"is a {_kind(image)}" if os.path.exists(image) else "does not exist"
        raise ValueError(f"{place} must name a file, but {image} {what}.")
    return check_file_name(image)


def check_file_name(file: Path) -> Path:
    """Give `file` back if its path can be a string of a dataset.

    Raises:
        ValueError: If it is not in UTF-8, which file systems allow.
    """
    if not _is_unicode(str(file)):
        raise ValueError(f"The path of every image must be in UTF-8, but {str(file)!r} is not.")
    return file


def _is_unicode(text: str) -> bool:
    """Whether `text` has no half of a surrogate pair, as which Python keeps bytes that it cannot decode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _kind(file: Path) -> str:
    return "folder" if file.is_dir() else "broken link" if not file.exists() else "pipe, socket or device"


def _check_kinds(labels: list[Any], file: Path) -> None:
    lists = [label for label in labels if isinstance(label, list)]
    if 0 < len(lists) < len(labels):
        raise ValueError(f"{file} must give every image one label, or every image a list, but mixes the two.")
    types = {type(value).__name__ for label in labels for value in (label if lists else [label])}
    if len(types) > 1:
        raise ValueError(f"{file} must give labels of one type, but gives {' and '.join(sorted(types))}.")


def _visible(folder: Path) -> list[Path]:
    return sorted((child for child in folder.iterdir() if not child.name.startswith(".")), key=lambda child: child.name)
