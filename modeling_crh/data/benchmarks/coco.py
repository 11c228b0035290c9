"""MS COCO (Lin et al., 2014): photographs of everyday scenes, labelled with the objects that they show, of 80 kinds."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

from modeling_crh.data.benchmarks.official_files import find_file, require_images
from modeling_crh.data.columns import canonical_features
from modeling_crh.data.prepared import prepare_dataset
from modeling_crh.runtime.terminal import progress_bar

HUB_ID = "detection-datasets/coco"

_KEYS: dict[str, dict[str, type]] = {  # keys to read and their types, by kind of entry
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int},
}
_NEEDED = set(_KEYS).union(*_KEYS.values())


def load_coco(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load MS COCO 2017: 117,266 training and 4,952 validation images, in the order of the official image ids.

    A label lists the kinds of objects in an image; images without any of the 80 kinds are left out.

    Args:
        data_dir: Folder of the official `annotations/instances_train2017.json`, `annotations/instances_val2017.json`,
            `train2017` and `val2017`. None loads them from the Hub.
    """
    if data_dir is None:
        splits = datasets.load_dataset(HUB_ID)
        return _prepare(splits["train"]), _prepare(splits["val"])
    return _read_part(data_dir, "train2017"), _read_part(data_dir, "val2017")


def load_coco_2014(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load MS COCO 2014: 82,081 training and 40,137 validation images, another division of the images of 2017.

    Args:
        data_dir: Folder of the official files of 2014, named as in `load_coco`. It must be given.
    """
    if data_dir is None:
        raise ValueError("`data_dir` must be given for coco_2014, which is read from its official files, but got None.")
    return _read_part(data_dir, "train2014"), _read_part(data_dir, "val2014")


def _prepare(split: Dataset) -> Dataset:
    rows = split.select_columns(["image_id", "image", "objects"]).flatten()
    prepared = prepare_dataset(rows, label_column="objects.category")
    labels = prepared.select_columns("label")[:]["label"]
    order = np.argsort(rows.select_columns("image_id")[:]["image_id"], kind="stable")
    labelled: Dataset = prepared.select([row for row in order.tolist() if labels[row]])
    return labelled


def _read_part(data_dir: Path, part: str) -> Dataset:
    path = find_file(data_dir, f"annotations/instances_{part}.json")
    content = _read_json(path)
    names = {entry["id"]: entry["name"] for entry in sorted(content["categories"], key=lambda entry: entry["id"])}
    ids = {number: index for index, number in enumerate(names)}  # official numbers have gaps
    labels: dict[int, set[int]] = {entry["id"]: set() for entry in content["images"]}
    for entry in content["annotations"]:
        if entry["image_id"] not in labels or entry["category_id"] not in ids:
            raise ValueError(f"{path} must annotate its own images with its own categories, but has {entry}.")
        labels[entry["image_id"]].add(ids[entry["category_id"]])
    shown = sorted((entry for entry in content["images"] if labels[entry["id"]]), key=lambda entry: entry["id"])
    images = [data_dir.absolute() / part / entry["file_name"] for entry in shown]
    require_images(images)
    rows = {"image": [str(image) for image in images], "label": [sorted(labels[entry["id"]]) for entry in shown]}
    return Dataset.from_dict(rows, features=canonical_features(list(names.values()), multi_label=True))


def _read_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    with progress_bar(total=1, desc=f"Reading {path.name}") as bar:
        try:
            content = json.loads(path.read_bytes(), object_hook=_without_shapes)
        except ValueError as error:
            raise ValueError(f"{path} must be a whole JSON file, but reading it failed: {error}.") from error
        bar.update()
    for kind, keys in _KEYS.items():
        if not isinstance(content, dict) or not isinstance(content.get(kind), list):
            raise ValueError(f"{path} must hold a list of {kind}, but does not.")
        for entry in content[kind]:
            if not isinstance(entry, dict) or any(not isinstance(entry.get(key), keys[key]) for key in keys):
                raise ValueError(f"{path} must hold {kind} with {' and '.join(keys)}, but holds {str(entry)[:80]}.")
    return content  # type: ignore[no-any-return]


def _without_shapes(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop unused keys during parsing: the outlines of objects would fill gigabytes."""
    return {key: value for key, value in entry.items() if key in _NEEDED}
