"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 colour photographs each, 32 x 32, in 10 and in 100 classes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from modeling_crh.data.benchmarks.official_files import (
    encode_png,
    find_file,
    load_hub_pair,
    load_plain_pickle,
    read_checked,
    unpacked_folder,
)
from modeling_crh.data.columns import canonical_features
from modeling_crh.runtime.terminal import progress_bar

SIDE = 32


@dataclass(frozen=True)
class Archive:
    """What differs between the two.

    Args:
        hub_id: Of the same data on the Hub.
        folder: That the official archive for Python unpacks to.
        train: Names of the training files to their MD5 checksums.
        test: Of the test file.
        meta: Of the file of class names.
        names_key: Under which `meta` has the class names.
        labels_key: Under which the others have the labels.
        label_column: Of the labels on the Hub.
        class_names: In the order of their ids.
    """

    hub_id: str
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: Mapping[str, str]
    names_key: str
    labels_key: str
    label_column: str
    class_names: tuple[str, ...]


CIFAR10 = Archive(
    hub_id="uoft-cs/cifar10",
    folder="cifar-10-batches-py",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
    names_key="label_names",
    labels_key="labels",
    label_column="label",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

CIFAR100 = Archive(
    hub_id="uoft-cs/cifar100",
    folder="cifar-100-python",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
    names_key="fine_label_names",
    labels_key="fine_labels",
    label_column="fine_label",
    class_names=tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
        castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
        elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
        man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
        pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
        tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
        """.split()
    ),
)


def load_cifar10(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Official training and test set.

    Args:
        data_dir: Folder of the official `data_batch_1` to `data_batch_5`, `test_batch` and `batches.meta`, or the one
            around it. Without one, they come from the Hub.

    Returns:
        50,000 and 10,000 rows of `image` and `label`.

    Raises:
        ValueError: If a file is missing, or has another checksum than the official one.
    """
    return _load(CIFAR10, data_dir)


def load_cifar100(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Official training and test set, with the 100 fine classes.

    Args:
        data_dir: Folder of the official `train`, `test` and `meta`, or the one around it. Without one, they come from
            the Hub.

    Returns:
        50,000 and 10,000 rows of `image` and `label`.

    Raises:
        ValueError: If a file is missing, or has another checksum than the official one.
    """
    return _load(CIFAR100, data_dir)


def _load(archive: Archive, data_dir: Path | None) -> tuple[Dataset, Dataset]:
    if data_dir is None:
        return load_hub_pair(
            archive.hub_id,
            image_column="img",
            label_column=archive.label_column,
            label_names=archive.class_names,
        )
    folder = unpacked_folder(data_dir, archive.folder)
    for name in [*archive.meta, *archive.train, *archive.test]:
        find_file(folder, name)
    for path, content in _read_pickles(folder, archive.meta):
        names = content.get(archive.names_key)
        if names != list(archive.class_names):
            raise ValueError(f"{path} must list the {len(archive.class_names)} official classes, but lists {names!r}.")
    return _read_rows(archive, folder, archive.train), _read_rows(archive, folder, archive.test)


def _read_rows(archive: Archive, folder: Path, files: Mapping[str, str]) -> Dataset:
    rows: dict[str, list[Any]] = {"image": [], "label": []}
    for path, content in _read_pickles(folder, files):
        images, labels = _check_batch(path, content.get("data"), content.get(archive.labels_key), archive)
        bar = progress_bar(images.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), desc=f"Reading {path.name}")
        rows["image"] += [encode_png(np.ascontiguousarray(image)) for image in bar]  # (32, 32, 3)
        rows["label"] += labels
    return Dataset.from_dict(rows, features=canonical_features(list(archive.class_names)))


def _read_pickles(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, md5 in files.items():
        yield folder / name, load_plain_pickle(read_checked(folder / name, md5), str(folder / name))


def _check_batch(path: Path, images: Any, labels: Any, archive: Archive) -> tuple[NDArray[np.uint8], list[int]]:
    if not isinstance(images, np.ndarray) or images.shape[1:] != (3 * SIDE * SIDE,):
        got = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"{path} must hold `data` of shape (N, {3 * SIDE * SIDE}), but holds {got}.")
    if not isinstance(labels, list) or len(labels) != len(images):
        got = len(labels) if isinstance(labels, list) else type(labels).__name__
        raise ValueError(f"{path} must hold a label for each of its {len(images)} images, but holds {got}.")
    last = len(archive.class_names) - 1
    for label in labels:
        if not isinstance(label, int) or not 0 <= label <= last:
            raise ValueError(f"{path} must hold labels from 0 to {last}, but holds {label!r}.")
    return images, labels
