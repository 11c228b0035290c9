"""Bring any labelled image dataset into the canonical columns `image` and `label`."""

from collections.abc import Sequence
from typing import Any

from datasets import ClassLabel, Dataset, Image, LargeList, List, concatenate_datasets

from modeling_crh.data.columns import LEVELS, check_dataset, label_feature, row_name


def prepare_dataset(
    dataset: Dataset,
    *,
    image_column: str = "image",
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
) -> Dataset:
    """Keep two columns, called `image` and `label`, with labels as `ClassLabel` or as lists of `ClassLabel`.

    Args:
        dataset: One split. `image_column` holds images, paths, bytes or structs of both; `label_column` holds one class
            a row, or a list of classes a row (not a multi-hot vector): `ClassLabel`, whole numbers or strings. A list
            may be empty: such an image has no loss; `count_unlabelled` counts them.
        image_column: Name of the column of images.
        label_column: Name of the column of labels.
        label_names: Names of the classes in the order of their ids. By default those of a `ClassLabel` column; for
            strings and for whole numbers, all that occur, sorted. Pass those of the training set to prepare its test
            set: a whole number is then looked up by name where all names are whole numbers, and is an id otherwise.

    Returns:
        The rows of `dataset`, in their order.

    Raises:
        ValueError: If there is no row, a column is missing or of another type, a label is missing, fractional, out of
            range or not among `label_names`.

    Example:
        >>> rows = Dataset.from_dict({"file": ["a.png", "b.png"], "kind": ["dog", "cat"]})
        >>> prepare_dataset(rows, image_column="file", label_column="kind").features["label"]
        ClassLabel(names=['cat', 'dog'])
    """
    check_dataset(dataset)
    images = select_images(dataset, image_column)
    _check_columns("image_column", image_column, label_column)
    return _with_labels(images, dataset, label_column, label_names)


def prepare_table(
    dataset: Dataset,
    *,
    text_column: str | None = None,
    features_column: str | None = None,
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
) -> Dataset:
    """Keep two columns, called `text` or `features`, and `label`, with labels as `prepare_dataset` makes them.

    Two more stay where both of them are there: `subgroup` and `group`, the taxonomy of `class_levels`.

    Args:
        dataset: One split.
        text_column: Name of a column of strings; or
        features_column: Name of a column of `(F,)` or `(V, F)` numbers a row.
        label_column: Name of the column of labels.
        label_names: See `prepare_dataset`.

    Returns:
        The rows of `dataset`, in their order.

    Raises:
        ValueError: If not exactly one of the two columns is named, a column is missing, or a label is no good.

    Example:
        >>> rows = Dataset.from_dict({"review": ["fine", "bad"], "stars": ["5", "1"]})
        >>> prepare_table(rows, text_column="review", label_column="stars").column_names
        ['text', 'label']
    """
    check_dataset(dataset)
    if (text_column is None) == (features_column is None):
        raise ValueError("Either `text_column` or `features_column` must be named, and not both.")
    name, column = ("text", text_column) if text_column is not None else ("features", features_column or "")
    if column not in dataset.column_names:
        raise ValueError(f"`{name}_column` must be one of {dataset.column_names}, but got {column!r}.")
    _check_columns(f"{name}_column", column, label_column)
    inputs = dataset.select_columns(column)
    if column != name:
        inputs = inputs.rename_column(column, name)
    prepared = _with_labels(inputs, dataset, label_column, label_names)
    if set(LEVELS) <= set(dataset.column_names) - {column, label_column}:
        prepared = concatenate_datasets([prepared, dataset.select_columns(list(LEVELS))], axis=1)
    return prepared


def select_images(dataset: Dataset, image_column: str) -> Dataset:
    """The column of images alone, called `image`.

    Args:
        dataset: One split.
        image_column: Name of a column of images, paths, bytes, or structs of both, which pandas and pyarrow make of
            images in a parquet file.

    Raises:
        ValueError: If there is no such column, or it is of another type.
    """
    if image_column not in dataset.column_names:
        raise ValueError(f"`image_column` must be one of {dataset.column_names}, but got {image_column!r}.")
    images = dataset.select_columns(image_column)
    if image_column != "image":
        images = images.rename_column(image_column, "image")
    feature = images.features["image"]
    if not holds_images(feature):
        raise ValueError(f"`image_column` {image_column!r} must hold images, paths or bytes, but holds {feature}.")
    return images.cast_column("image", Image())


def holds_images(feature: Any) -> bool:
    """Whether a column of this type can be read as images: it holds images, paths, bytes, or structs of both."""
    stored_as = {"string", "large_string", "binary", "large_binary"}
    is_struct = isinstance(feature, dict) and bool(feature.keys() & {"bytes", "path"})
    return isinstance(feature, Image) or is_struct or getattr(feature, "dtype", None) in stored_as


def _check_columns(name: str, column: str, label_column: str) -> None:
    if column == label_column:
        raise ValueError(f"`label_column` must be another column than `{name}`, but both are {column!r}.")


def _with_labels(inputs: Dataset, dataset: Dataset, label_column: str, label_names: Sequence[str] | None) -> Dataset:
    """One column of inputs, and beside it the labels of `dataset` in their canonical form."""
    if label_column not in dataset.column_names:
        raise ValueError(f"`label_column` must be one of {dataset.column_names}, but got {label_column!r}.")
    _check_names(label_names)
    feature = dataset.features[label_column]
    multi_label = isinstance(feature, List | LargeList)
    known = feature.feature if multi_label else feature
    labels = dataset.select_columns(label_column)[:][label_column]
    rows = labels if multi_label else [[label] for label in labels]
    _check_values(rows, inputs)
    if isinstance(known, ClassLabel):
        rows = [[_class_name(label, known.names, row, inputs) for label in labels] for row, labels in enumerate(rows)]
        label_names = known.names if label_names is None else label_names
    ids, names = _class_ids(rows, inputs, label_names)
    column = ids if multi_label else [row[0] for row in ids]
    return inputs.add_column("label", column, feature=label_feature(names, multi_label=multi_label))


def _check_names(label_names: Any) -> None:
    if label_names is None:
        return
    listed = isinstance(label_names, Sequence) and not isinstance(label_names, str)
    if not listed or not all(isinstance(name, str) for name in label_names):
        raise ValueError(f"`label_names` must be a list of strings, but got {label_names!r:.80}.")
    if len(set(label_names)) < len(label_names):
        raise ValueError("`label_names` must be different from one another, but one of them comes twice.")


def _check_values(rows: list[Any], inputs: Dataset) -> None:
    for row, labels in enumerate(rows):
        for label in [None] if labels is None else labels:
            if not isinstance(label, int | str):
                what = "none" if label is None else repr(label)
                raise ValueError(f"`label` must be a whole number or a string, but {row_name(inputs, row)} has {what}.")


def _class_name(label: int, names: list[str], row: int, inputs: Dataset) -> str:
    if not 0 <= label < len(names):
        raise ValueError(f"`label` must be from 0 to C-1={len(names) - 1}, but {row_name(inputs, row)} has {label}.")
    return names[label]


def _class_ids(
    rows: list[list[Any]], inputs: Dataset, label_names: Sequence[str] | None
) -> tuple[list[list[int]], list[str]]:
    """Sorted ids of every row without repetition, and the names of all ids."""
    values = {label for labels in rows for label in labels}
    if all(isinstance(value, str) for value in values):
        names = sorted(values) if label_names is None else list(label_names)
        id_of = {name: index for index, name in enumerate(names)}
    else:
        numbers = sorted({int(value) for value in values if value >= 0})
        names = [str(number) for number in numbers] if label_names is None else list(label_names)
        are_numbers = all(name.isdecimal() for name in names)
        id_of = {int(name) if are_numbers else index: index for index, name in enumerate(names)}
    for row, labels in enumerate(rows):
        for label in labels:
            if label not in id_of:
                rule = "0 or larger" if label_names is None else f"one of the {len(names)} classes of `label_names`"
                raise ValueError(f"`label` must be {rule}, but {row_name(inputs, row)} has {label!r}.")
    return [sorted({id_of[label] for label in labels}) for labels in rows], names
