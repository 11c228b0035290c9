"""Every form that labels come in, read by one rule: a class name, several of them, or no label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Features, LargeList, List

from modeling_crh.runtime.terminal import say

Label = str | list[str] | None
"""The class of a row by name, its classes by name, or None for a row without a label."""

_TYPES = ("int", "uint", "float", "string", "large_string", "bool", "null")


@dataclass(frozen=True)
class LabelForm:
    """How one column of labels is read.

    None, -1 and an empty cell of a CSV file are no label. Whole numbers, also as floats, are named by their digits.

    Attributes:
        column: Name of the column.
        is_list: Whether each row holds several labels.
        class_names: Names of a `ClassLabel` column in the order of the ids, or those that are known of the classes.
        separator: What separates several labels in one cell; None for one label a cell.
        flags: Number of classes of a multi-hot column; 0 for any other.
        blank_is_none: Whether an empty cell is no label, as in a CSV file.
    """

    column: str
    is_list: bool
    class_names: tuple[str, ...] | None = None
    separator: str | None = None
    flags: int = 0
    blank_is_none: bool = False

    def read(self, value: Any, place: object) -> Label:
        """The class of a row, or its classes, sorted and without repetition, by name.

        Args:
            value: The cell.
            place: What a message calls the row.

        Raises:
            ValueError: If it is no label.
        """
        if self.separator is not None:
            value = [] if value is None else [part.strip() for part in str(value).split(self.separator) if part.strip()]
        if self.flags:
            return self._flagged(value, place)
        if not self.is_list:
            return self._name(value, place)
        if value is None:
            return []
        names = {self._name(label, place): None for label in sorted(value, key=_order)}
        if None in names:
            raise ValueError(f"`label` must be a list of class names or numbers, but {place} has {value!r:.80}.")
        return [name for name in names if name is not None]

    def order(self, names: set[str]) -> list[str]:
        """Class names in the order of their ids: as declared, or else numbers by value and other names by letters."""
        if self.class_names is not None:
            return list(self.class_names)
        if self.flags:
            return [str(number) for number in range(self.flags)]
        return sort_names(names)

    def _flagged(self, value: Any, place: object) -> list[str]:
        if value is None:
            return []
        if len(value) != self.flags or any(flag not in (0, 1) for flag in value):
            raise ValueError(f"`multi_hot` labels must be {self.flags} times 0 or 1, but {place} has {value!r:.80}.")
        names = self.class_names or tuple(str(number) for number in range(self.flags))
        return [name for name, flag in zip(names, value, strict=True) if flag]

    def _name(self, value: Any, place: object) -> str | None:
        if value is None or (self.blank_is_none and value == ""):
            return None
        if isinstance(value, str):
            return value
        if isinstance(value, float) and value != value:  # NaN, which pandas writes for a missing label
            return None
        if not isinstance(value, int | float) or not float(value).is_integer():
            raise ValueError(f"`label` must be a whole number or a string, but {place} has {value!r:.80}.")
        number = int(value)
        if number == -1:
            return None
        if self.class_names is None:
            return str(number)
        if not 0 <= number < len(self.class_names):
            raise ValueError(f"`label` must be from 0 to C-1={len(self.class_names) - 1}, but {place} has {number}.")
        return self.class_names[number]


def sort_names(names: set[str]) -> list[str]:
    """Whole numbers by value, or else all names by letters.

    Example:
        >>> sort_names({"10", "9"}), sort_names({"10", "9", "007"})
        (['9', '10'], ['007', '10', '9'])
    """
    return sorted(names, key=int) if all(_is_plain_number(name) for name in names) else sorted(names)


def find_label_form(
    features: Features,
    column: str,
    first_rows: Sequence[Any],
    *,
    separator: str | None = None,
    multi_hot: bool = False,
    label_names: Sequence[str] | None = None,
    is_csv: bool = False,
) -> LabelForm:
    """Tell how a column of labels is to be read.

    Args:
        features: Types of all columns.
        column: Name of the column of labels.
        first_rows: The first cells of the column, by which a multi-hot column is known.
        separator: See `LabelForm`.
        multi_hot: Whether lists of 0 and 1 are one flag a class.
        label_names: Names of the classes, where they are known.
        is_csv: Whether the column is of a CSV file, in which every cell is text.

    Raises:
        ValueError: If the column holds no labels, or lists of 0 and 1 that nobody has called multi-hot.
    """
    feature = features[column]
    is_list = isinstance(feature, List | LargeList)
    inner = feature.feature if is_list else feature
    if not isinstance(inner, ClassLabel) and not str(getattr(inner, "dtype", "")).startswith(_TYPES):
        raise ValueError(
            f"`label_column` {column!r} must hold whole numbers, strings or lists of them, but holds {feature}."
        )
    names = tuple(inner.names) if isinstance(inner, ClassLabel) else None
    if multi_hot and not is_list:
        raise ValueError(f"`multi_hot` must be left out for {column!r}, which holds no lists, but {feature}.")
    flags = _count_flags(first_rows) if is_list and names is None else 0
    if multi_hot and not flags:
        raise ValueError(f"`multi_hot` labels must be lists of 0 and 1 of one length, but {column!r} holds others.")
    if flags and not multi_hot and (label_names is None or len(label_names) != flags):
        raise ValueError(
            f"`label_column` {column!r} holds lists of {flags} zeros and ones, which could be flags or numbers of "
            "classes: say `--multi-hot` (`multi_hot=True`) if they are one flag a class, or give classes by name."
        )
    if flags:
        known = None if label_names is None or len(label_names) != flags else tuple(label_names)
        return LabelForm(column, True, known, flags=flags)
    if separator is not None and not (is_csv or str(getattr(inner, "dtype", "")).endswith("string")):
        raise ValueError(f"`label_separator` must be left out for {column!r}, which holds no text, but {feature}.")
    if separator is None and not is_list:
        _mention_commas(column, first_rows)
    return LabelForm(column, is_list or separator is not None, names, separator, blank_is_none=is_csv)


def _count_flags(rows: Sequence[Any]) -> int:
    """Length of all lists if every one of them holds only 0 and 1 and all have one length, at least 2; 0 otherwise."""
    given = [row for row in rows if row is not None]
    lengths = {len(row) for row in given}
    if len(lengths) != 1 or max(lengths) < 2:
        return 0
    return max(lengths) if all(flag in (0, 1) and not isinstance(flag, str) for row in given for flag in row) else 0


def _mention_commas(column: str, rows: Sequence[Any]) -> None:
    name = next((row for row in rows if isinstance(row, str) and "," in row), None)
    if name is not None:
        say(f"The label {name!r} in {column!r} is one class; `--label-separator ,` reads it as several.")


def _is_plain_number(name: str) -> bool:
    return name.isdecimal() and name.isascii() and str(int(name)) == name


def _order(value: Any) -> tuple[bool, Any]:
    return (value is None, "" if value is None else value)
