"""Choose which columns of a source are read as inputs, labels and ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Features

from modeling_crh.data.bad_rows import FILE_KINDS, PLURALS, Kind
from modeling_crh.data.label_forms import LabelForm, find_label_form
from modeling_crh.data.tables import Part
from modeling_crh.data_source import DataSource
from modeling_crh.runtime.terminal import say

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

    Args:
        source: Data source, which may name columns.
        part: Rows of the source.
        label_names: Names of the classes, if known.
        needs_label: Whether the column of labels that the source names must exist.

    Raises:
        ValueError: If a column is missing or of another type, or one column is named twice.
    """
    kind, value = _choose_value(source, part.rows.features)
    label = _choose_label(source, part.rows.features, needs_label)
    if source.id_column is not None:
        _check_column("id_column", source.id_column, part.rows.features)
    if label == value:
        raise ValueError(f"`label_column` must be another column than `{kind}_column`, but both are {value!r}.")
    if label is None:
        return Columns(kind, value, None, source.id_column)
    form = find_label_form(
        part.rows.features,
        label,
        part.rows.first_cells(label),
        separator=source.label_separator,
        multi_hot=source.multi_hot,
        label_names=label_names,
        is_csv=part.is_csv,
    )
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
    kinds: tuple[Kind, ...] = ("image", "audio", "text", "features")
    named = [(kind, name) for kind in kinds if (name := getattr(source, f"{kind}_column")) is not None]
    if len(named) > 1:
        first, second = named[:2]
        raise ValueError(f"Only one of `{first[0]}_column` and `{second[0]}_column` may be named, but both are.")
    if named:
        kind, column = named[0]
        _check_column(f"{kind}_column", column, features)
    elif found := next((kind for kind in FILE_KINDS if kind in features), None):
        kind, column = found, found
    elif set(features) <= {"features", "label"} and "features" in features:
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
