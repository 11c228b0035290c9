"""Protocols: named divisions of a benchmark's images into training images, queries and database.

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

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """Sizes of a division; the default is the official division.

    Args:
        num_query: Number of queries to draw from all images. None keeps the official test set.
        num_train: Number of training images to draw from the other images. None takes all other images.
        train_in_database: Whether the database holds the training images.

    Raises:
        ValueError: If a size is below 1, or the database would be empty.
    """

    num_query: int | None = None
    num_train: int | None = None
    train_in_database: bool = True

    def __post_init__(self) -> None:
        for name in ("num_query", "num_train"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be 1 or larger, but got {value}.")
        if self.num_train is None and not self.train_in_database:
            raise ValueError("`num_train` must be given where the database does not hold the training images.")


OFFICIAL = Protocol()


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
