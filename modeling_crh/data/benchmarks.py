"""Benchmarks by name, each as the four splits of a retrieval experiment."""

from pathlib import Path

from datasets import DatasetDict

from modeling_crh.data.fashion_mnist import load_fashion_mnist, load_fashion_mnist_sample
from modeling_crh.data.splits import split_dataset

BENCHMARKS = {
    "fashion_mnist": load_fashion_mnist,
    "fashion_mnist_sample": load_fashion_mnist_sample,
}
"""Name of a benchmark to the function that reads its official training and test set from `data_dir` or the Hub."""


def load_benchmark(
    name: str,
    data_dir: str | Path | None = None,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> DatasetDict:
    """Load a benchmark with its official division: test set as `query`, training set as `database`.

    Args:
        name: A key of `BENCHMARKS`.
        data_dir: Folder of the official files; without one they come from the Hub. `fashion_mnist_sample` is bundled.
        validation_fraction: Share of `database` to hold out for model selection, above 0 and below 1.
        seed: Decides which rows are held out.

    Returns:
        The splits `train`, `validation`, `query` and `database` with the columns `image` and `label`.

    Raises:
        ValueError: If `name` is none of these, or `data_dir` does not hold the official files.

    Example:
        >>> splits = load_benchmark("fashion_mnist_sample")
        >>> splits.num_rows
        {'train': 5400, 'validation': 600, 'query': 1000, 'database': 6000}
    """
    if name not in BENCHMARKS:
        raise ValueError(f"`name` must be one of {', '.join(sorted(BENCHMARKS))}, but got {name!r}.")
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"`data_dir` must be a folder, but got {str(data_dir)!r}.")
    train, query = BENCHMARKS[name](folder)
    return split_dataset(train, query, validation_fraction=validation_fraction, seed=seed)
