"""Stanford Cars (Krause, Stark, Deng and Fei-Fei, 2013): 16,185 photographs of cars in 196 classes of make and year."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from datasets import Dataset
from numpy.typing import NDArray

from modeling_crh.data.benchmarks.official_files import find_file, load_hub_pair, require_images
from modeling_crh.data.columns import canonical_features

HUB_ID = "tanganke/stanford_cars"


def load_stanford_cars(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set.

    Args:
        data_dir: Folder of the official files in either of their two layouts: the folders `cars_train` and `cars_test`,
            with `cars_train_annos.mat`, `cars_test_annos_withlabels.mat` and `cars_meta.mat` beside them or in
            `devkit`; or the folder `car_ims` and `cars_annos.mat`. None loads them from the Hub.

    Returns:
        8,144 and 8,041 rows of `image` and `label`.

    Raises:
        FileNotFoundError: If a file or an annotated image is missing.
        ValueError: If a file is damaged.
    """
    if data_dir is None:
        return load_hub_pair(HUB_ID)
    root = data_dir.absolute()  # images are opened later, perhaps from another working directory
    first = find_file(root, "devkit/cars_train_annos.mat", "cars_train_annos.mat", "cars_annos.mat")
    return _read_joint(root, first) if first.name == "cars_annos.mat" else _read_devkit(root, first)


def _read_devkit(root: Path, train_path: Path) -> tuple[Dataset, Dataset]:
    name = "cars_test_annos_withlabels.mat"
    test_path = find_file(root, name, f"devkit/{name}")
    names = _read_variable(find_file(root, "devkit/cars_meta.mat", "cars_meta.mat"), "class_names")
    pair = []
    for folder, path in (("cars_train", train_path), ("cars_test", test_path)):
        files, classes = _read_annotations(path, "fname", "class")
        pair.append(_make_dataset([root / folder / str(file) for file in files], classes, names, path))
    return pair[0], pair[1]


def _read_joint(root: Path, path: Path) -> tuple[Dataset, Dataset]:
    names = _read_variable(path, "class_names")
    files, classes, is_test = _read_annotations(path, "relative_im_path", "class", "test")
    train, test = (
        _make_dataset([root / str(file) for file in files[chosen]], classes[chosen], names, path)
        for chosen in (is_test == 0, is_test != 0)
    )
    return train, test


def _read_annotations(path: Path, *fields: str) -> list[NDArray[Any]]:
    """One array `(N,)` for each field of `annotations`."""
    annotations = _read_variable(path, "annotations")
    absent = [field for field in fields if field not in (annotations.dtype.names or ())]
    if absent:
        raise ValueError(f"{path} must hold `annotations` with a field {absent[0]!r}, but has {annotations.dtype}.")
    return [annotations[field] for field in fields]


def _read_variable(path: Path, name: str) -> NDArray[Any]:
    try:
        content = scipy.io.loadmat(path, squeeze_me=True)
    except MemoryError:
        raise
    except Exception as error:  # SciPy documents no base class of what it raises for a damaged file
        raise ValueError(f"{path} must be a complete MATLAB file, but reading it failed: {error}.") from error
    if name not in content:
        raise ValueError(f"{path} must hold the variable `{name}`, but does not.")
    return np.atleast_1d(content[name])


def _make_dataset(images: list[Path], classes: NDArray[Any], names: NDArray[Any], path: Path) -> Dataset:
    for number in classes:
        if not isinstance(number, int | np.integer) or not 1 <= number <= len(names):
            raise ValueError(f"{path} must hold classes from 1 to {len(names)}, but holds {number!r}.")
    require_images(images)
    rows = {"image": [str(image) for image in images], "label": [int(number) - 1 for number in classes]}
    return Dataset.from_dict(rows, features=canonical_features([str(name) for name in names]))
