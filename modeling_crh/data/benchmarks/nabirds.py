"""NABirds (Van Horn et al., 2015): 48,562 photographs of North American birds in 555 classes, under a hierarchy."""

from collections import Counter
from pathlib import Path

from datasets import Dataset

from modeling_crh.data.benchmarks.official_files import find_file, require_images, unpacked_folder
from modeling_crh.data.columns import canonical_features


def load_nabirds(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set.

    Args:
        data_dir: Folder of the official `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, `classes.txt`
            and `images`, or the one around it. It must be given: the official archive is behind a form.

    Returns:
        23,929 and 24,633 rows of `image` and `label`. The classes are those that have an image, in the order of their
        official numbers; a name that two classes have is followed by the number.

    Raises:
        FileNotFoundError: If a file or an annotated image is missing.
        ValueError: If `data_dir` is None, or files contradict each other.
    """
    root = _root(data_dir)
    files, class_of, split_of = (
        _read_pairs(root, name) for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    for name, table in [("image_class_labels.txt", class_of), ("train_test_split.txt", split_of)]:
        absent = [image for image in files if image not in table]
        if absent:
            raise ValueError(f"{root / name} must have a line for each image of images.txt, but lacks {absent[0]}.")
    names = _class_names(root, class_of)
    require_images([root / "images" / file for file in files.values()])
    ids = {number: index for index, number in enumerate(names)}
    parts: dict[str, dict[str, list[str | int]]] = {part: {"image": [], "label": []} for part in ("1", "0")}
    for image, file in files.items():
        if split_of[image] not in parts:
            raise ValueError(f"{root / 'train_test_split.txt'} must hold 0 or 1, but {image} has {split_of[image]!r}.")
        part = parts[split_of[image]]
        part["image"].append(str(root / "images" / file))
        part["label"].append(ids[class_of[image]])
    features = canonical_features(list(names.values()))
    return Dataset.from_dict(parts["1"], features=features), Dataset.from_dict(parts["0"], features=features)


def nabirds_hierarchy(data_dir: str | Path) -> dict[str, list[str]]:
    """Read the ancestors of each class from `hierarchy.txt`.

    Args:
        data_dir: Folder of the official files, see `load_nabirds`.

    Returns:
        For each class of `load_nabirds`, in the order of the ids, the names of its ancestors: the nearest first, the
        root ("Birds") last.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If no way leads from a class to a root.
    """
    root = _root(Path(data_dir))
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


def _root(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise ValueError("`data_dir` must be given for nabirds, which is not on the Hub, but got None.")
    return unpacked_folder(data_dir.absolute(), "nabirds")  # images are opened later, perhaps from another folder


def _class_names(root: Path, class_of: dict[str, str]) -> dict[str, str]:
    """Official numbers to names of the classes that have an image, ascending."""
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
