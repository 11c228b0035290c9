"""Tables of texts or of stored features, in files, as the four splits of a retrieval experiment."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from modeling_crh.checks import check_path
from modeling_crh.data.columns import label_names
from modeling_crh.data.prepare import prepare_table
from modeling_crh.data.splits import split_dataset

_READERS = {
    ".csv": Dataset.from_csv,
    ".json": Dataset.from_json,
    ".jsonl": Dataset.from_json,
    ".parquet": Dataset.from_parquet,
}

_NO_ROWS = (
    "corresponds to no data",
    "BatchSize must be greater than 0",
)  # what `datasets` says of a table without rows


def load_table(
    path: str | Path,
    *,
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
    validation_fraction: float = 0.1,
    query_fraction: float | None = None,
    seed: int = 0,
) -> DatasetDict:
    """Load texts or stored features with their labels.

    A table is a CSV, JSON, JSON lines or parquet file with a row an item; or NumPy's `NAME.npy` of features `(N, F)` or
    `(N, V, F)` with their labels in `NAME.labels.npy`. A folder with two tables called `train` and `test` (or `query`)
    is an official division.

    Args:
        path: A table, or such a folder.
        text_column: Name of the column of strings; or
        features_column: Name of the column of numbers. In NumPy's files it is called `features`.
        label_column: Name of the column of labels: one a row, or a list of them. In NumPy's files it is called `label`.
        validation_fraction: Share of `database` to hold out for model selection.
        query_fraction: Share of all rows to cut as queries, if there is no official division; None is a fifth.
        seed: Decides which rows are held out.

    Returns:
        The splits `train`, `validation`, `query` and `database` with the columns `text` or `features`, and `label`.

    Raises:
        ValueError: If there is no such table, a column is missing, or a label is no good.
    """
    parts = read_tables(path, text_column=text_column, features_column=features_column, label_column=label_column)
    return split_dataset(*parts, validation_fraction=validation_fraction, query_fraction=query_fraction, seed=seed)


def read_tables(
    path: str | Path,
    *,
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
) -> list[Dataset]:
    """All rows of such a table, see `load_table`, before any division.

    Args:
        path: A table, or a folder with two.
        text_column: Name of the column of strings; or
        features_column: Name of the column of numbers.
        label_column: Name of the column of labels.

    Returns:
        One prepared dataset, or the training and the test set of an official division.

    Raises:
        ValueError: As `load_table`.
    """
    names: list[str] | None = None
    parts: list[Dataset] = []
    for file in _files(check_path("path", path)):
        part = prepare_table(
            read_table(file),
            text_column=text_column,
            features_column=features_column,
            label_column=label_column,
            label_names=names,
        )
        names = label_names(part)
        parts.append(_with_types_of(parts[0], part) if parts else part)
    return parts


def read_table(path: str | Path, *, name: str = "path") -> Dataset:
    """All rows and columns of one table, see `load_table`.

    Args:
        path: The file.
        name: What the caller calls `path`, for the message.

    Raises:
        ValueError: If it is no table, cannot be read, or has no row.
    """
    file = check_path(name, path)
    if not file.is_file():
        raise ValueError(f"`{name}` must be a file that exists, but got {str(path)!r}.")
    if file.suffix != ".npy" and file.suffix not in _READERS:
        raise ValueError(f"`{name}` must end in {', '.join(_READERS)} or .npy, but got {str(path)!r}.")
    try:
        rows = _read_numpy(file) if file.suffix == ".npy" else _READERS[file.suffix](str(file))
    except Exception as error:  # `datasets` raises errors of its own, of pyarrow and of pandas
        cause = error.__cause__ or error
        reason = str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__
        if any(words in reason for words in _NO_ROWS):
            raise ValueError(f"`{name}` must hold at least one row, but {str(path)!r} holds none.") from error
        raise ValueError(f"`{name}` must be a table that can be read, but {str(path)!r} is not: {reason}.") from error
    if len(rows) == 0:
        raise ValueError(f"`{name}` must hold at least one row, but {str(path)!r} holds none.")
    return rows


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    tables = {file.stem: file for file in sorted(path.iterdir()) if file.suffix in {*_READERS, ".npy"}}
    for division in (("train", "test"), ("train", "query")):
        if all(name in tables for name in division):
            return [tables[name] for name in division]
    raise ValueError(f"`path` must be a table, or hold tables called train and test, but got the folder {str(path)!r}.")


def _with_types_of(first: Dataset, part: Dataset) -> Dataset:
    """The same rows, with text or numbers as wide as those of `first`: the kinds of files differ in that."""
    column = part.column_names[0]
    try:
        return part.cast_column(column, first.features[column])
    except (NotImplementedError, TypeError, ValueError):
        return part  # `split_dataset` names the difference


def _read_numpy(file: Path) -> Dataset:
    labels_file = file.with_suffix(".labels.npy")
    features, labels = _read_array(file), _read_array(labels_file)
    if features.dtype.kind not in "biuf":
        raise ValueError(f"it must hold numbers, but holds {features.dtype}")
    if features.ndim not in (2, 3) or labels.shape != features.shape[:1]:
        raise ValueError(
            f"it must be (N, F) or (N, V, F) and {labels_file.name} (N,), but they are {features.shape} and "
            f"{labels.shape}"
        )
    return Dataset.from_dict({"features": list(features.astype(np.float32)), "label": labels.tolist()})


def _read_array(file: Path) -> NDArray[Any]:
    """One array, and no archive of several, which `np.load` would read too."""
    with file.open("rb") as opened:
        array: NDArray[Any] = np.lib.format.read_array(opened, allow_pickle=False)
    return array
