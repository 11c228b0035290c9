"""Whatever a recipe or a command line names: as it was published, or as the four splits of an experiment."""

from pathlib import Path

from datasets import Dataset, DatasetDict

from modeling_crh.data.benchmarks import BENCHMARKS, read_benchmark
from modeling_crh.data.folder import read_folder
from modeling_crh.data.images import BadImage
from modeling_crh.data.protocols import OFFICIAL, find_protocol
from modeling_crh.data.splits import split_dataset
from modeling_crh.data.tables import read_tables


def load_splits(
    dataset: str,
    data_dir: str | None = None,
    *,
    protocol: str = "official",
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
    validation_fraction: float = 0.1,
    query_fraction: float | None = None,
    seed: int = 0,
    skip_bad_images: bool = False,
) -> tuple[DatasetDict, list[BadImage]]:
    """Load a benchmark, a folder of images, or a table of texts or features.

    Args:
        dataset: Name of a benchmark, path of a folder, or, with one of the columns, path of a table.
        data_dir: Folder of a benchmark's official files.
        protocol: Division of a benchmark.
        text_column: Of a table.
        features_column: Of a table.
        label_column: Of a table.
        validation_fraction: Share of the training items to hold out for model selection.
        query_fraction: Share of all items to cut as queries, where the data bring none; None is a fifth.
        seed: Decides what is drawn and held out.
        skip_bad_images: Leave out images of a folder that cannot be decoded.

    Returns:
        The splits `train`, `validation`, `query` and `database`, and the images that were left out.

    Raises:
        ValueError: If `dataset` is none of these, or its data break a rule.
    """
    division = OFFICIAL
    if dataset in BENCHMARKS and text_column is None and features_column is None:
        division = find_protocol(dataset, protocol)
    elif protocol != "official":
        raise ValueError(f"`protocol` must be given with a benchmark only, but got {protocol!r} with {dataset!r}.")
    parts, bad_images = read_parts(
        dataset,
        data_dir,
        text_column=text_column,
        features_column=features_column,
        label_column=label_column,
        skip_bad_images=skip_bad_images,
    )
    splits = split_dataset(
        *parts, protocol=division, validation_fraction=validation_fraction, query_fraction=query_fraction, seed=seed
    )
    return splits, bad_images


def read_parts(
    dataset: str,
    data_dir: str | None = None,
    *,
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
    skip_bad_images: bool = False,
) -> tuple[list[Dataset], list[BadImage]]:
    """Read a benchmark, a folder of images, or a table of texts or features, before any division.

    Takes what `load_splits` takes.

    Returns:
        One prepared dataset, or the training and the test set of an official division; and the images that were left
        out.

    Raises:
        ValueError: As `load_splits`.
    """
    is_table = text_column is not None or features_column is not None
    if data_dir is not None and (is_table or dataset not in BENCHMARKS):
        raise ValueError(f"`data_dir` must be given with a benchmark only, but got {data_dir!r} with {dataset!r}.")
    if is_table:
        parts = read_tables(
            dataset, text_column=text_column, features_column=features_column, label_column=label_column
        )
        return parts, []
    if dataset in BENCHMARKS:
        return list(read_benchmark(dataset, data_dir)), []
    if not dataset or not Path(dataset).is_dir():
        raise ValueError(
            f"`dataset` must be a folder or one of the benchmarks {', '.join(sorted(BENCHMARKS))}, or a table with a "
            f"`text_column` or `features_column`, but got {dataset!r}."
        )
    return read_folder(dataset, skip_bad_images=skip_bad_images)
