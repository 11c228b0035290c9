"""Benchmarks of photographs: Stanford Cars (Krause et al., 2013), NABirds (Van Horn et al., 2015) and MS COCO."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import scipy.io
from datasets import Dataset
from numpy.typing import NDArray

from modeling_crh.data.benchmarks.official_files import find_file, load_hub_pair, require_images, unpacked_folder
from modeling_crh.data.columns import canonical_features
from modeling_crh.data.prepared import prepare_dataset

CARS_HUB_ID = "tanganke/stanford_cars"


def load_stanford_cars(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load Stanford Cars: 8,144 and 8,041 photographs of cars in 196 classes of make, model and year.

    Args:
        data_dir: Folder of the official files in either of their two layouts: the folders `cars_train` and `cars_test`,
            with `cars_train_annos.mat`, `cars_test_annos_withlabels.mat` and `cars_meta.mat` beside them or in
            `devkit`; or the folder `car_ims` and `cars_annos.mat`. None loads them from the Hub.
    """
    if data_dir is None:
        return load_hub_pair(CARS_HUB_ID)
    root = data_dir.absolute()  # images are opened later, perhaps from another working directory
    path = find_file(root, "devkit/cars_train_annos.mat", "cars_train_annos.mat", "cars_annos.mat")
    if path.name == "cars_annos.mat":
        names = _read_variable(path, "class_names")
        files, classes, is_test = _read_annotations(path, "relative_im_path", "class", "test")
        chosen = [is_test == 0, is_test != 0]
        pair = [_label_cars(root, files[part], classes[part], names, path) for part in chosen]
    else:
        name = "cars_test_annos_withlabels.mat"
        paths = {"cars_train": path, "cars_test": find_file(root, name, f"devkit/{name}")}
        names = _read_variable(find_file(root, "devkit/cars_meta.mat", "cars_meta.mat"), "class_names")
        pair = []
        for part, path in paths.items():
            files, classes = _read_annotations(path, "fname", "class")
            pair.append(_label_cars(root / part, files, classes, names, path))
    return pair[0], pair[1]


def _read_annotations(path: Path, *fields: str) -> list[NDArray[Any]]:
    """Read fields of `annotations`, each as an array `(N,)`."""
    annotations = _read_variable(path, "annotations")
    if absent := [field for field in fields if field not in (annotations.dtype.names or ())]:
        raise ValueError(f"{path} must hold `annotations` with a field {absent[0]!r}, but has {annotations.dtype}.")
    return [annotations[field] for field in fields]


def _read_variable(path: Path, name: str) -> NDArray[Any]:
    try:
        content = scipy.io.loadmat(path, squeeze_me=True)
    except MemoryError:
        raise
    except Exception as error:  # SciPy documents no base class of its errors for damaged files
        raise ValueError(f"{path} must be a complete MATLAB file, but reading it failed: {error}.") from error
    if name not in content:
        raise ValueError(f"{path} must hold the variable `{name}`, but does not.")
    return np.atleast_1d(content[name])


def _label_cars(folder: Path, files: NDArray[Any], classes: NDArray[Any], names: NDArray[Any], path: Path) -> Dataset:
    for number in classes:
        if not isinstance(number, int | np.integer) or not 1 <= number <= len(names):
            raise ValueError(f"{path} must hold classes from 1 to {len(names)}, but holds {number!r}.")
    images = [folder / str(file) for file in files]
    require_images(images)
    rows = {"image": list(map(str, images)), "label": [int(number) - 1 for number in classes]}
    return Dataset.from_dict(rows, features=canonical_features(list(map(str, names))))


def load_nabirds(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load NABirds: 23,929 and 24,633 photographs of North American birds in 555 classes.

    Classes without an image are left out, and the others keep the order of their official numbers; the number is added
    to a name that two classes share.

    Args:
        data_dir: Folder of the official `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, `classes.txt`
            and `images`, or its parent. It must be given, since the official archive is behind a form.
    """
    root = _birds_root(data_dir)
    files, class_of, split_of = (
        _read_pairs(root, name) for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    for name, table in [("image_class_labels.txt", class_of), ("train_test_split.txt", split_of)]:
        if absent := [image for image in files if image not in table]:
            raise ValueError(f"{root / name} must have a line for each image of images.txt, but lacks {absent[0]}.")
    names = _class_names(root, class_of)
    require_images([root / "images" / file for file in files.values()])
    if wrong := [image for image in files if split_of[image] not in ("0", "1")]:
        raise ValueError(
            f"{root / 'train_test_split.txt'} must hold 0 or 1, but {wrong[0]} has {split_of[wrong[0]]!r}."
        )
    ids = {number: index for index, number in enumerate(names)}
    features, pair = canonical_features(list(names.values())), []
    for part in ("1", "0"):
        chosen = [image for image in files if split_of[image] == part]
        rows = {
            "image": [str(root / "images" / files[image]) for image in chosen],
            "label": [ids[class_of[image]] for image in chosen],
        }
        pair.append(Dataset.from_dict(rows, features=features))
    return pair[0], pair[1]


def nabirds_hierarchy(data_dir: str | Path) -> dict[str, list[str]]:
    """Read the ancestors of each class from `hierarchy.txt`.

    Args:
        data_dir: Folder of the official files of NABirds.

    Returns:
        Names of the ancestors of each class of `load_nabirds`, by class name in the order of the ids: the parent first,
        the root ("Birds") last.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a class has no path to a root.
    """
    root = _birds_root(Path(data_dir))
    names = _read_pairs(root, "classes.txt")
    parent_of = _read_pairs(root, "hierarchy.txt")
    hierarchy = {}
    for number, name in _class_names(root, _read_pairs(root, "image_class_labels.txt")).items():
        above: list[str] = []
        while number in parent_of and parent_of[number] != number:
            number = parent_of[number]
            if number not in names or len(above) == len(parent_of):
                what = "goes in a circle" if number in names else f"leads to the unknown class {number}"
                raise ValueError(f"{root / 'hierarchy.txt'} must lead from {name!r} to a root, but {what}.")
            above.append(names[number])
        hierarchy[name] = above
    return hierarchy


def _birds_root(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise ValueError("`data_dir` must be given for nabirds, which is not on the Hub, but got None.")
    return unpacked_folder(data_dir.absolute(), "nabirds")  # images are opened later, perhaps from another folder


def _class_names(root: Path, class_of: dict[str, str]) -> dict[str, str]:
    """Return the names of the classes with an image by official number, ascending."""
    names = _read_pairs(root, "classes.txt")
    used = set(class_of.values())
    for number in used:
        if number not in names or not number.isdecimal():
            raise ValueError(f"{root / 'classes.txt'} must name every class by its number, but lacks {number!r}.")
    count = Counter(names[number] for number in used)
    return {
        number: names[number] if count[names[number]] == 1 else f"{names[number]} ({number})"
        for number in sorted(used, key=int)
    }


def _read_pairs(root: Path, name: str) -> dict[str, str]:
    """Read a file with an id and its value on each line."""
    path = find_file(root, name)
    pairs: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        key, _, value = line.strip().partition(" ")
        if not value.strip() or key in pairs:
            raise ValueError(f"Line {number} of {path} must be a new id and its value, but is {line.strip()!r}.")
        pairs[key] = value.strip()
    return pairs


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
    try:
        content = json.loads(path.read_bytes(), object_hook=_without_shapes)
    except ValueError as error:
        raise ValueError(f"{path} must be a whole JSON file, but reading it failed: {error}.") from error
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
