"""Declare and read the columns of a prepared dataset: inputs, labels and levels of a taxonomy."""

from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, Image, List
from torch import Tensor

from modeling_crh.data.bad_rows import FILE_KINDS, PLURALS, Kind
from modeling_crh.losses import NO_LABEL, has_label


def label_feature(label_names: list[str], *, multi_label: bool = False) -> ClassLabel | List:
    """Make the type of a prepared `label` column: one class, or a list of classes.

    Example:
        >>> label_feature(["cat", "dog"])
        ClassLabel(names=['cat', 'dog'])
    """
    label = ClassLabel(names=label_names)
    return List(label) if multi_label else label


def canonical_features(label_names: list[str], *, multi_label: bool = False) -> Features:
    """Make the features of a prepared dataset of images: `image`, and `label` as one class or a list of classes."""
    return Features(image=Image(), label=label_feature(label_names, multi_label=multi_label))


def check_dataset(dataset: Any) -> None:
    """Check that `dataset` is one split with at least one row.

    Raises:
        ValueError: If `dataset` is empty, or of another type, such as a `DatasetDict`.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(f"`dataset` must be one datasets.Dataset, such as a split, but got {type(dataset).__name__}.")
    if len(dataset) == 0:
        raise ValueError("`dataset` must hold at least one row, but is empty.")


def is_multi_label(dataset: Dataset) -> bool:
    """Whether `label` holds a list of classes in each row, rather than one class."""
    return isinstance(_label_feature(dataset), List)


def label_names(dataset: Dataset) -> list[str]:
    """Return the names of the C classes, in the order of their ids."""
    feature = _label_feature(dataset)
    names: list[str] = (feature.feature if isinstance(feature, List) else feature).names
    return names


def label_tensor(dataset: Dataset) -> Tensor:
    """Read the labels of all rows, without decoding an image.

    Returns:
        `(N,)` int64 for one class per row, or `(N, C)` float32 of 0 and 1 for a list of classes per row. A row without
        a label has -100, or zeros.

    Raises:
        ValueError: If `dataset` has no `label` column of classes.
    """
    multi_label = is_multi_label(dataset)
    rows = dataset.select_columns("label")[:]["label"]
    if not multi_label:
        labels = torch.tensor(rows, dtype=torch.int64)
        return torch.where(labels < 0, NO_LABEL, labels)
    multi_hot = torch.zeros(len(rows), len(label_names(dataset)))
    row_of = [row for row, labels in enumerate(rows) for _ in labels]
    multi_hot[row_of, [label for labels in rows for label in labels]] = 1
    return multi_hot  # (N, C)


def count_unlabelled(dataset: Dataset) -> int:
    """Count the rows without a label, which have no loss and are relevant to no query."""
    return int((~has_label(label_tensor(dataset))).sum())


def without_decoding(dataset: Dataset, kind: Kind) -> Dataset:
    """Select only the column `image` or `audio`, with undecoded cells `{"bytes": ..., "path": ...}`.

    Raises:
        ValueError: If `dataset` has no such column of images or sounds.
    """
    feature = dataset.features.get(kind)
    if not isinstance(feature, FILE_KINDS[kind]):
        raise ValueError(f"`dataset` must have a column `{kind}` of {PLURALS[kind]}, but has {feature}.")
    cells: Dataset = dataset.select_columns(kind).cast_column(kind, FILE_KINDS[kind](decode=False))
    return cells


def _label_feature(dataset: Dataset) -> Any:
    feature = dataset.features.get("label")
    inner = feature.feature if isinstance(feature, List) else feature
    if not isinstance(inner, ClassLabel):
        raise ValueError(
            "`dataset` must have a column `label` of ClassLabel or of lists of ClassLabel, as `prepare_dataset` makes, "
            f"but got {feature}."
        )
    return feature


LEVELS = ("subgroup", "group")
"""Columns of a taxonomy, from the level next to the class upwards."""


def has_levels(dataset: Dataset) -> bool:
    """Whether a prepared dataset has the columns of `LEVELS`, one class per row, and one node per level and class."""
    if not set(LEVELS) <= set(dataset.column_names) or is_multi_label(dataset):
        return False
    columns = dataset.select_columns(["label", *LEVELS])[:]
    rows = set(zip(*(columns[name] for name in ("label", *LEVELS)), strict=True))
    return len(rows) == len(set(columns["label"]))


def class_levels(dataset: Dataset) -> dict[str, list[str]]:
    """Return the names of the subgroup and the group of each class.

    Args:
        dataset: A prepared split with a row of every class, such as `database`, and with the columns of `LEVELS`, which
            hold names or `ClassLabel`.

    Returns:
        `{"subgroup": [...], "group": [...]}`, each with C names in the order of the class ids.

    Raises:
        ValueError: If a column is missing, a class has no row, or a class has rows of several groups.

    Example:
        >>> from modeling_crh.data import load_benchmark
        >>> class_levels(load_benchmark("emoji_sample")["database"])["group"][:2]
        ['Smileys & Emotion', 'Smileys & Emotion']
    """
    missing = [column for column in ("label", *LEVELS) if column not in dataset.column_names]
    if missing:
        raise ValueError(f"`dataset` must have the columns label, group and subgroup, but has no {', '.join(missing)}.")
    columns = dataset.select_columns(["label", *LEVELS])[:]
    names = label_names(dataset)
    found = {}
    for level in LEVELS:
        above = dict(zip(columns["label"], columns[level], strict=True))
        for label in range(len(names)):
            if label not in above:
                raise ValueError(f"`dataset` must have a row of every class, but has none of {names[label]!r}.")
        for label, node in zip(columns["label"], columns[level], strict=True):
            if above[label] != node:
                raise ValueError(f"`dataset` must have one {level} a class, but {names[label]!r} has several.")
        feature = dataset.features[level]
        nodes = [above[label] for label in range(len(names))]
        found[level] = [feature.names[node] for node in nodes] if isinstance(feature, ClassLabel) else nodes
    return found
