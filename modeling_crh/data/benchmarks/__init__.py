"""Load published benchmarks by name, as the four splits of a retrieval experiment.

A protocol is a named division of a benchmark's images into training images, queries and database.

`official` is the default of every benchmark: the official test set queries the official training set. The other two
draw from the images of both official sets, evenly by class: `sampled` trains on images of the database, `disjoint` on
images that are neither in the database nor queries.

| benchmark            | protocol | training | queries | database | sizes from |
| -------------------- | -------- | -------: | ------: | -------: | ---------- |
| fashion_mnist        | official |   60,000 |  10,000 |   60,000 | official   |
|                      | disjoint |   10,000 |   5,000 |   55,000 | ours       |
| fashion_mnist_sample | official |    6,000 |   1,000 |    6,000 | official   |
|                      | disjoint |    3,000 |   1,000 |    3,000 | ours       |
| cifar10              | official |   50,000 |  10,000 |   50,000 | official   |
|                      | sampled  |    5,000 |   1,000 |   59,000 | papers     |
|                      | disjoint |    5,000 |   1,000 |   54,000 | papers     |
| cifar100             | official |   50,000 |  10,000 |   50,000 | official   |
|                      | disjoint |   10,000 |   5,000 |   45,000 | papers     |
| stanford_cars        | official |    8,144 |   8,041 |    8,144 | official   |
|                      | disjoint |    8,000 |   1,600 |    6,585 | ours       |
| nabirds              | official |   23,929 |  24,633 |   23,929 | official   |
|                      | disjoint |   24,000 |   4,800 |   19,762 | ours       |
| emoji                | official |   11,230 |   3,222 |   11,230 | ours       |
| emoji_sample         | official |    1,296 |     400 |    1,296 | ours       |
| coco                 | official |  117,266 |   4,952 |  117,266 | official   |
|                      | sampled  |   10,000 |   5,000 |  117,218 | papers     |
|                      | disjoint |   10,000 |   5,000 |  107,218 | ours       |
| coco_2014            | official |   82,081 |  40,137 |   82,081 | official   |
|                      | sampled  |   10,000 |   5,000 |  117,218 | papers     |
|                      | disjoint |   10,000 |   5,000 |  107,218 | ours       |

Training images count `train` and `validation` together. Papers agree on these sizes, but not on the images drawn; ours
depend only on the seed.
"""

from pathlib import Path

from datasets import Dataset

from modeling_crh.data.benchmarks.large_images import load_coco, load_coco_2014, load_nabirds, load_stanford_cars
from modeling_crh.data.benchmarks.small_images import (
    load_cifar10,
    load_cifar100,
    load_emoji,
    load_emoji_sample,
    load_fashion_mnist,
    load_fashion_mnist_sample,
)
from modeling_crh.data.splits import OFFICIAL, Protocol

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


def _sizes(num_train: int, num_query: int, *names: str) -> dict[str, Protocol]:
    return {name: Protocol(num_query, num_train, train_in_database=name == "sampled") for name in names}


PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "fashion_mnist": _sizes(10_000, 5_000, "disjoint"),
    "fashion_mnist_sample": _sizes(3_000, 1_000, "disjoint"),
    "cifar10": _sizes(5_000, 1_000, "sampled", "disjoint"),
    "cifar100": _sizes(10_000, 5_000, "disjoint"),
    "stanford_cars": _sizes(8_000, 1_600, "disjoint"),
    "nabirds": _sizes(24_000, 4_800, "disjoint"),
    "emoji": {},
    "emoji_sample": {},
    "coco": _sizes(10_000, 5_000, "sampled", "disjoint"),
    "coco_2014": _sizes(10_000, 5_000, "sampled", "disjoint"),
}
"""Protocols besides `official`, by benchmark."""


def find_protocol(benchmark: str, name: str) -> Protocol:
    """Look up a protocol of a benchmark: `official`, or an entry of `PROTOCOLS`.

    Raises:
        ValueError: If the benchmark has no such protocol.

    Example:
        >>> find_protocol("cifar100", "disjoint")
        Protocol(num_query=5000, num_train=10000, train_in_database=False)
    """
    known = {"official": OFFICIAL, **PROTOCOLS.get(benchmark, {})}
    if name not in known:
        raise ValueError(f"`protocol` of {benchmark} must be one of {', '.join(known)}, but got {name!r}.")
    return known[name]


def read_benchmark(name: str, data_dir: str | Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set of a benchmark, before any division; see `load_benchmark`."""
    if name not in BENCHMARKS:
        raise ValueError(f"`name` must be one of {', '.join(sorted(BENCHMARKS))}, but got {name!r}.")
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"`data_dir` must be a folder, but got {str(data_dir)!r}.")
    return BENCHMARKS[name](folder)
