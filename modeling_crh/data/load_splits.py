"""The four splits of whatever a recipe or a command line names."""

from pathlib import Path

from datasets import DatasetDict

from modeling_crh.data.benchmarks import BENCHMARKS, load_benchmark
from modeling_crh.data.folder import load_folder
from modeling_crh.data.images import BadImage
from modeling_crh.data.tables import load_table


def load_splits(
    dataset: str,
    data_dir: str | None = None,
    *,
    protocol: str = "official",
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
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
        seed: Decides what is drawn and held out.
        skip_bad_images: Leave out images of a folder that cannot be decoded.

    Returns:
        The splits `train`, `validation`, `query` and `database`, and the images that were left out.

    Raises:
        ValueError: If `dataset` is none of these, or its data break a rule.
    """
    is_table = text_column is not None or features_column is not None
    if is_table or dataset not in BENCHMARKS:
        for name, value, default in (("data_dir", data_dir, None), ("protocol", protocol, "official")):
            if value != default:
                raise ValueError(f"`{name}` must be given with a benchmark only, but got {value!r} with {dataset!r}.")
    if is_table:
        splits = load_table(
            dataset, text_column=text_column, features_column=features_column, label_column=label_column, seed=seed
        )
        return splits, []
    if dataset in BENCHMARKS:
        return load_benchmark(dataset, data_dir, protocol=protocol, seed=seed), []
    if not dataset or not Path(dataset).is_dir():
        raise ValueError(
            f"`dataset` must be a folder or one of the benchmarks {', '.join(sorted(BENCHMARKS))}, or a table with a "
            f"`text_column` or `features_column`, but got {dataset!r}."
        )
    return load_folder(dataset, seed=seed, skip_bad_images=skip_bad_images)
