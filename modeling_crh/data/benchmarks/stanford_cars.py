"""Stanford Cars (Krause, Stark, Deng and Fei-Fei, 2013): 16,185 photographs of cars in 196 classes of make and year."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from datasets import Dataset
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from modeling_crh.data.benchmarks.official_files import find_file, load_hub_pair, require_images
from modeling_crh.data.columns import canonical_features

HUB_ID = "tanganke/stanford_cars"


def load_stanford_cars(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Official training and test set.

    Args:
        data_dir: Folder of the official files in either of their two layouts: the folders `cars_train` and `cars_test`,
            with `cars_train_annos.mat`, `cars_test_annos_withlabels.mat` and `cars_meta.mat` beside them or in
            `devkit`; or the folder `car_ims` and `cars_annos.mat`. Without one, they come from the Hub.

    Returns:
        8,144 and 8,041 rows of `image` and `label`.

    Raises:
        ValueError: If a file or an annotated image is missing, or a file is damaged.
    """
    if data_dir is None:
        return load_hub_pair(HUB_ID)
    root = data_dir.absolute()  # images are opened later, perhaps from another working directory
    first = find_file(root, "devkit/cars_train_annos.mat", "cars_train_annos.mat", "cars_annos.mat")
    return _read_joint(root, first) if first.name == "cars_annos.mat" else _read_devkit(root, first)


def _read_devkit(root: Path, train_path: Path) -> tuple[Dataset, Dataset]:
    name = "cars_test_annos_withlabels.mat"
    test_path = find_file(root, name, f"devkit/{name}")
    names = _read_names(find_file(root, "devkit/cars_meta.mat", "cars_meta.mat"))
    train_files, train_classes = _read_annotations(train_path, "fname", "class")
    test_files, test_classes = _read_annotations(test_path, "fname", "class")
    return (
        _make_dataset([root / "cars_train" / str(file) for file in train_files], train_classes, names, train_path),
        _make_dataset([root / "cars_test" / str(file) for file in test_files], test_classes, names, test_path),
    )


def _read_joint(root: Path, path: Path) -> tuple[Dataset, Dataset]:
    names = _read_names(path)
    files, classes, is_test = _read_annotations(path, "relative_im_path", "class", "test")
    rows = [np.flatnonzero(is_test == 0), np.flatnonzero(is_test != 0)]
    train, test = (
        _make_dataset([root / str(file) for file in files[part]], classes[part], names, path) for part in rows
    )
    return train, test


def _read_annotations(path: Path, *fields: str) -> list[NDArray[Any]]:
    """One array `(N,)` a field of `annotations`."""
    annotations = _read_variable(path, "annotations")
    absent = [field for field in fields if field not in (annotations.dtype.names or ())]
    if absent:
        raise ValueError(f"{path} must hold `annotations` with a field {absent[0]!r}, but has {annotations.dtype}.")
    return [annotations[field] for field in fields]


def _read_names(path: Path) -> list[str]:
    return [str(name) for name in _read_variable(path, "class_names")]


def _read_variable(path: Path, name: str) -> NDArray[Any]:
    try:
        value: NDArray[Any] = np.atleast_1d(scipy.io.loadmat(path, squeeze_me=True)[name])
    except KeyError as error:
        raise ValueError(f"{path} must hold the variable `{name}`, but does not.") from error
    except (LookupError, MatReadError, NotImplementedError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be a whole MATLAB file, but reading it failed: {error}.") from error
    return value


def _make_dataset(images: list[Path], classes: NDArray[Any], names: list[str], path: Path) -> Dataset:
    for number in classes:
        if not isinstance(number, int | np.integer) or not 1 <= number <= len(names):
            raise ValueError(f"{path} must hold classes from 1 to {len(names)}, but holds {number!r}.")
    require_images(images)
    rows = {"image": [str(image) for image in images], "label": [int(number) - 1 for number in classes]}
    return Dataset.from_dict(rows, features=canonical_features(names))
