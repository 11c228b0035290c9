"""Load published benchmarks by name, as the four splits of a retrieval experiment."""

from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from modeling_crh.data.benchmarks.coco import load_coco, load_coco_2014
from modeling_crh.data.benchmarks.fine_grained import load_nabirds, load_stanford_cars
from modeling_crh.data.benchmarks.small_images import (
    load_cifar10,
    load_cifar100,
    load_emoji,
    load_emoji_sample,
    load_fashion_mnist,
    load_fashion_mnist_sample,
)
from modeling_crh.data.protocols import find_protocol
from modeling_crh.data.splits import split_dataset, split_rows

BENCHMARKS = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "coco": load_coco,
    "coco_2014": load_coco_2014,
    "emoji": load_emoji,
    "emoji_sample": load_emoji_sample,
    "fashion_mnist": load_fashion_mnist,
    "fashion_mnist_sample": load_fashion_mnist_sample,
    "nabirds": load_nabirds,
    "stanford_cars": load_stanford_cars,
}
"""Loader of the official training and test set by benchmark; errors are listed in `load_benchmark`."""


def load_benchmark(
    name: str,
    data_dir: str | Path | None = None,
    *,
    protocol: str = "official",
    validation_fraction: float | None = None,
    seed: int = 0,
) -> DatasetDict:
    """Load a benchmark, by default in its official division: test set as `query`, training set as `database`.

    Args:
        name: A key of `BENCHMARKS`.
        data_dir: Folder of the official files. None loads them from the Hub, or the bundled sample; `nabirds`,
            `coco_2014` and `emoji` need a folder.
        protocol: Division into training images, queries and database; `modeling_crh.data.protocols` has the table.
        validation_fraction: Share of the training images to hold out for choosing the best epoch. None is a tenth.
        seed: Seed of the rows that are drawn and held out.

    Returns:
        The splits `train`, `validation`, `query` and `database` with the columns `image` and `label`; emoji also have
        `vendor`, `group`, `subgroup` and `name`.

    Raises:
        FileNotFoundError: If `data_dir` or a file in it is missing.
        ValueError: If the benchmark or its `protocol` does not exist, or a file is damaged.

    Example:
        >>> splits = load_benchmark("fashion_mnist_sample")
        >>> splits.num_rows
        {'train': 5400, 'validation': 600, 'query': 1000, 'database': 6000}
        >>> load_benchmark("fashion_mnist_sample", protocol="disjoint").num_rows
        {'train': 2700, 'validation': 300, 'query': 1000, 'database': 3000}
    """
    division = find_protocol(_check_name(name), protocol)
    pair = read_benchmark(name, data_dir)
    return split_dataset(*pair, protocol=division, validation_fraction=validation_fraction, seed=seed)


def benchmark_rows(
    name: str,
    data_dir: str | Path | None = None,
    *,
    protocol: str = "official",
    validation_fraction: float | None = None,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Compute the row numbers of each split that `load_benchmark` makes with the same arguments.

    Returns:
        Ascending row numbers by split. Rows 0 to N - 1 are the official training set in its order, and the official
        test set follows from row N on.

    Example:
        >>> benchmark_rows("fashion_mnist_sample", protocol="disjoint")["query"][:4]
        array([10, 38, 39, 40])
    """
    division = find_protocol(_check_name(name), protocol)
    pair = read_benchmark(name, data_dir)
    return split_rows(*pair, protocol=division, validation_fraction=validation_fraction, seed=seed)


def read_benchmark(name: str, data_dir: str | Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set of a benchmark, before any division; see `load_benchmark`."""
    load = BENCHMARKS[_check_name(name)]
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"`data_dir` must be a folder, but got {str(data_dir)!r}.")
    return load(folder)


def _check_name(name: str) -> str:
    if name not in BENCHMARKS:
        raise ValueError(f"`name` must be one of {', '.join(sorted(BENCHMARKS))}, but got {name!r}.")
    return name
