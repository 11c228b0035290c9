"""Read labels of every form as a class name, several names, or None."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, LargeList, List

from modeling_crh.data.tables import Part
from modeling_crh.data_source import DataSource
from modeling_crh.runtime.terminal import say

Label = str | list[str] | None
"""Class name of a row, several class names, or None for a row without a label."""

_TYPES = ("int", "uint", "float", "string", "large_string", "bool", "null")


@dataclass(frozen=True)
class LabelForm:
    """Form of one column of labels.

    None, -1 and an empty cell of a CSV file mean no label. Whole numbers, also as floats, are named by their digits.

    Attributes:
        column: Name of the column.
        is_list: Whether each row holds several labels.
        class_names: Names of the classes in the order of their ids, from a `ClassLabel` column or from the caller.
        separator: Text between several labels of a cell; None for one label per cell.
        flags: Number of classes of a multi-hot column; 0 for any other column.
        is_text: Whether every cell is text, as in a CSV file, so that an empty one and -1 mean no label.
    """

    column: str
    is_list: bool
    class_names: tuple[str, ...] | None = None
    separator: str | None = None
    flags: int = 0
    is_text: bool = False

    def read(self, value: Any, place: object) -> Label:
        """Read a cell as a class name, or as sorted and distinct class names; messages call its row `place`.

        Raises:
            ValueError: If the cell is not a label.
        """
        if self.separator is not None:
            text = "" if value is None or (self.is_text and value.strip() == "-1") else str(value)
            value = [part.strip() for part in text.split(self.separator) if part.strip()]
        if self.flags:
            return self._flagged(value, place)
        if not self.is_list:
            return self._name(value, place)
        if value is None:
            return []
        names = {self._name(label, place): None for label in sorted(value, key=lambda label: (label is None, label))}
        if None in names:
            raise ValueError(f"`label` must be a list of class names or numbers, but {place} has {value!r:.80}.")
        return [name for name in names if name is not None]

    def order(self, names: set[str]) -> list[str]:
        """Return class names in the order of their ids: as declared, or else as `sort_names` orders them."""
        return sort_names(names) if self.class_names is None else list(self.class_names)

    def _flagged(self, value: Any, place: object) -> list[str]:
        if value is None:
            return []
        if len(value) != self.flags or any(flag not in (0, 1) for flag in value):
            raise ValueError(f"`multi_hot` labels must be {self.flags} times 0 or 1, but {place} has {value!r:.80}.")
        return [name for name, flag in zip(self.class_names or (), value, strict=True) if flag]

    def _name(self, value: Any, place: object) -> str | None:
        if value is None or (self.is_text and value in ("", "-1")):
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
    """Sort names by value if all are whole numbers, or else alphabetically.

    Example:
        >>> sort_names({"10", "9"}), sort_names({"10", "9", "007"})
        (['9', '10'], ['007', '10', '9'])
    """
    are_numbers = all(name.isdecimal() and name.isascii() and str(int(name)) == name for name in names)
    return sorted(names, key=int if are_numbers else None)


def find_label_form(part: Part, column: str, source: DataSource, label_names: Sequence[str] | None = None) -> LabelForm:
    """Find the form of a column of labels by its type, its first cells, and the options of the source.

    Raises:
        ValueError: If the column holds no labels, or holds lists of 0 and 1 that were not declared multi-hot.
    """
    feature, first_rows = part.rows.features[column], part.rows.first_cells(column)
    separator, multi_hot = source.label_separator, source.multi_hot
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
        known = label_names if label_names is not None and len(label_names) == flags else map(str, range(flags))
        return LabelForm(column, True, tuple(known), flags=flags)
    if separator is not None and not (part.is_csv or str(getattr(inner, "dtype", "")).endswith("string")):
        raise ValueError(f"`label_separator` must be left out for {column!r}, which holds no text, but {feature}.")
    if separator is None and not is_list:
        _mention_commas(column, first_rows)
    return LabelForm(column, is_list or separator is not None, names, separator, is_text=part.is_csv)


def _count_flags(rows: Sequence[Any]) -> int:
    """Return the length of the lists if all hold only 0 and 1 and have one length, at least 2; 0 otherwise."""
    given = [row for row in rows if row is not None]
    lengths = {len(row) for row in given}
    if len(lengths) != 1 or max(lengths) < 2:
        return 0
    return max(lengths) if all(flag in (0, 1) and not isinstance(flag, str) for row in given for flag in row) else 0


def _mention_commas(column: str, rows: Sequence[Any]) -> None:
    if (name := next((row for row in rows if isinstance(row, str) and "," in row), None)) is not None:
        say(f"The label {name!r} in {column!r} is one class; `--label-separator ,` reads it as several.")
