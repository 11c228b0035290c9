"""Checks of arguments that several files make."""

from numbers import Integral, Real
from pathlib import Path
from typing import Any


def is_number(value: Any) -> bool:
    """Whether `value` is a real number of Python or NumPy, and not a boolean."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number of Python or NumPy, and not a boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is a whole number, `least` or larger.

    Raises:
        ValueError: If it is not; the message calls it `name`.
    """
    if not is_whole(value) or value < least:
        raise ValueError(f"`{name}` must be a whole number, {least} or larger, but got {value!r:.80}.")
    return int(value)


def check_path(name: str, path: Any) -> Path:
    """Return `path` as a `Path`, unless it is empty, which would mean the working directory.

    Raises:
        ValueError: If it is neither a string nor a `Path`, or is empty.
    """
    if not isinstance(path, str | Path) or path == "":
        raise ValueError(f"`{name}` must be a path, and not empty, but got {path!r:.80}.")
    return Path(path)
