"""Choose the columns of a source that are read, and declare and read those of a prepared dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, Image, List
from torch import Tensor

from modeling_crh.data.label_forms import LabelForm, find_label_form
from modeling_crh.data.rows import FILE_KINDS, PLURALS, Kind
from modeling_crh.data.table_readers import NumpyReader
from modeling_crh.data.tables import Part
from modeling_crh.data_source import DataSource
from modeling_crh.losses import NO_LABEL, has_label
from modeling_crh.runtime.terminal import say


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
    if missing := [column for column in ("label", *LEVELS) if column not in dataset.column_names]:
        raise ValueError(f"`dataset` must have the columns label, group and subgroup, but has no {', '.join(missing)}.")
    columns = dataset.select_columns(["label", *LEVELS])[:]
    names, found = label_names(dataset), {}
    if absent := set(range(len(names))) - set(columns["label"]):
        raise ValueError(f"`dataset` must have a row of every class, but has none of {names[min(absent)]!r}.")
    for level in LEVELS:
        pairs = list(zip(columns["label"], columns[level], strict=True))
        above = dict(pairs)
        if several := [label for label, node in pairs if above[label] != node]:
            raise ValueError(f"`dataset` must have one {level} a class, but {names[several[0]]!r} has several.")
        feature, nodes = dataset.features[level], [above[label] for label in range(len(names))]
        found[level] = [feature.names[node] for node in nodes] if isinstance(feature, ClassLabel) else nodes
    return found


_NAMED_AFTER_WEBDATASET = "cls"  # column of classes: WebDataset keeps the class of a sample in a file NAME.cls


@dataclass(frozen=True)
class Columns:
    """The columns of a source that are read.

    Attributes:
        kind: Kind of the rows: image, audio, text or features.
        value: Column of the images, sounds, texts or features.
        label: Form of the labels; None without labels.
        id: Column of the ids; None for numbered rows.
    """

    kind: Kind
    value: str
    label: LabelForm | None
    id: str | None

    @property
    def names(self) -> list[str]:
        """Names of all columns that are read."""
        label = None if self.label is None else self.label.column
        return [name for name in (self.value, label, self.id) if name is not None]


def choose_columns(
    source: DataSource, part: Part, label_names: Sequence[str] | None = None, *, needs_label: bool = True
) -> Columns:
    """Choose the columns to read: the named ones, or else `image` and `label`, or the only ones of fitting types.

    Those of an array are always called `features` and `label`, whatever `features_column` and `label_column` say. The
    column of labels that the source names must exist only if it `needs_label`.

    Raises:
        ValueError: If a column is missing or of another type, or one column is named twice.
    """
    are_arrays = all(isinstance(reader, NumpyReader) for reader in part.rows.readers)  # with columns of fixed names
    if are_arrays and source.features_column is not None:
        source = replace(source, features_column="features", label_column=None)
    kind, value = _choose_value(source, part.rows.features)
    label = _choose_label(source, part.rows.features, needs_label)
    if source.id_column is not None:
        _check_column("id_column", source.id_column, part.rows.features)
    if label == value:
        raise ValueError(f"`label_column` must be another column than `{kind}_column`, but both are {value!r}.")
    form = None if label is None else find_label_form(part, label, source, label_names)
    return Columns(kind, value, form, source.id_column)


def holds_files(feature: Any, kind: Kind) -> bool:
    """Whether a column can be read as images or as sounds: of their type, paths, bytes, or structs of these two."""
    is_struct = isinstance(feature, dict) and bool(feature.keys() & {"bytes", "path"})
    is_bytes = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return isinstance(feature, FILE_KINDS[kind]) or is_struct or is_bytes or is_path_column(feature)


def is_path_column(feature: Any) -> bool:
    """Whether a column of this type holds paths or URLs."""
    return getattr(feature, "dtype", None) in ("string", "large_string")


def stored_file(value: Any, base: Path | None) -> dict[str, Any]:
    """Convert a cell to the form of an undecoded image or sound in `datasets`, with an absolute path."""
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
    if content is None and path and base is not None and "://" not in path:
        path = str(base / path)
    return {"bytes": content, "path": path}


def _choose_value(source: DataSource, features: Features) -> tuple[Kind, str]:
    named = [(kind, name) for kind in PLURALS if (name := getattr(source, f"{kind}_column")) is not None]
    if len(named) > 1:
        first, second = named[:2]
        raise ValueError(f"Only one of `{first[0]}_column` and `{second[0]}_column` may be named, but both are.")
    if named:
        kind, column = named[0]
        _check_column(f"{kind}_column", column, features)
    elif found := next((kind for kind in FILE_KINDS if kind in features), None):
        kind, column = found, found
    elif set(features) <= {"features", "label", "id"} and "features" in features:
        kind, column = "features", "features"
    else:
        typed = [
            (kind, name) for kind, type_ in FILE_KINDS.items() for name in features if isinstance(features[name], type_)
        ]
        if len(typed) != 1:
            raise ValueError(
                "One of `image_column`, `audio_column`, `text_column` and `features_column` must name a column of the "
                f"data, which are {list(features)}."
            )
        kind, column = typed[0]
        say(f"{PLURALS[kind].capitalize()} are read from the column {column!r}.")
    if kind in FILE_KINDS and not holds_files(features[column], kind):
        raise ValueError(
            f"`{kind}_column` {column!r} must hold {PLURALS[kind]}, paths or bytes, but holds {features[column]}."
        )
    return kind, column


def _choose_label(source: DataSource, features: Features, needs_label: bool) -> str | None:
    if source.label_column is not None and (needs_label or source.label_column in features):
        _check_column("label_column", source.label_column, features)
        return source.label_column
    if "label" in features:
        return "label"
    if _NAMED_AFTER_WEBDATASET in features:
        return _NAMED_AFTER_WEBDATASET
    classes: list[str] = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(classes) != 1:
        return None
    say(f"Labels are read from the column {classes[0]!r}.")
    return classes[0]


def _check_column(argument: str, column: str, features: Features) -> None:
    if column not in features:
        raise ValueError(f"`{argument}` must be one of {list(features)}, but got {column!r}.")
