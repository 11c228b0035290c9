"""What can be encoded, with labels or without: images of many sources, and tables of texts or features."""

from pathlib import Path

import PIL.Image
from datasets import Dataset, load_dataset, load_from_disk

from modeling_crh.checks import check_path
from modeling_crh.data.benchmarks import BENCHMARKS
from modeling_crh.data.columns import label_feature, row_name
from modeling_crh.data.folder import check_file_name
from modeling_crh.data.images import BadImage, check_images
from modeling_crh.data.prepare import prepare_dataset, prepare_table, select_images
from modeling_crh.data.tables import read_table


def load_images(
    source: str | Path,
    *,
    image_column: str = "image",
    label_column: str = "label",
    split: str = "train",
    skip_bad_images: bool = False,
) -> tuple[Dataset, list[str], list[BadImage]]:
    """Load images to encode.

    Args:
        source: A folder, whose image files are taken at any depth, in the order of their paths; a parquet file; a
            folder that `Dataset.save_to_disk` made; the name of a benchmark, of which the whole database is taken; or
            the Hub id of a dataset.
        image_column: Of a parquet file or a dataset.
        label_column: Of a parquet file or a dataset; where it is missing, images have no label.
        split: Of a dataset on the Hub.
        skip_bad_images: Leave out images that cannot be decoded.

    Returns:
        A dataset with the columns `image` and `label` (an empty list a row where there are no labels), the path or row
        of every image, and the images that were left out.

    Raises:
        ValueError: If there is no such source, it holds no image, or an image cannot be decoded (unless
            `skip_bad_images`).
    """
    rows = _read_rows(str(check_path("source", source)), split)
    if len(rows) == 0:
        raise ValueError(f"`source` must hold at least one image, but {str(source)!r} holds none.")
    if label_column in rows.column_names:
        dataset = prepare_dataset(rows, image_column=image_column, label_column=label_column)
    else:
        dataset = _add_no_labels(select_images(rows, image_column), "label")
    dataset, bad_images = check_images(dataset, skip_bad_images=skip_bad_images)
    return dataset, [row_name(dataset, row).strip("'") for row in range(len(dataset))], bad_images


def load_rows(
    source: str | Path,
    *,
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
) -> tuple[Dataset, list[str]]:
    """Load texts or stored features to encode.

    Args:
        source: A table, see `load_table`.
        text_column: Name of the column of strings; or
        features_column: Name of the column of numbers.
        label_column: Where it is missing, rows have no label.

    Returns:
        A dataset with the columns `text` or `features`, and `label`, and the name of every row.

    Raises:
        ValueError: If there is no such table, or it has no such column.
    """
    table = read_table(source, name="source")
    if label_column not in table.column_names:
        table = _add_no_labels(table, label_column)
    dataset = prepare_table(table, text_column=text_column, features_column=features_column, label_column=label_column)
    return dataset, [row_name(dataset, row) for row in range(len(dataset))]


def _read_rows(source: str, split: str) -> Dataset:
    path = Path(source)
    if source in BENCHMARKS:
        database, _ = BENCHMARKS[source](None)
        return database
    if path.is_file():
        if path.suffix != ".parquet":
            raise ValueError(f"`source` must be a folder, a parquet file or a dataset, but {source!r} is another file.")
        return read_table(path, name="source")
    if (path / "state.json").is_file():
        return load_from_disk(source)
    if path.is_dir():
        return _read_folder(path)
    try:
        return load_dataset(source, split=split)
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"`source` must be a folder, a file or a dataset, but got {source!r}: {reason}") from error


def _read_folder(folder: Path) -> Dataset:
    suffixes = PIL.Image.registered_extensions()
    files = sorted(
        str(check_file_name(file))
        for file in folder.absolute().rglob("*")
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise ValueError(f"`source` must hold at least one image file, but the folder {str(folder)!r} holds none.")
    return Dataset.from_dict({"image": files})


def _add_no_labels(rows: Dataset, label_column: str) -> Dataset:
    """A list of no classes, in every row."""
    return rows.add_column(label_column, [[]] * len(rows), feature=label_feature([], multi_label=True))
