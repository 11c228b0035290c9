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


def check_seed(seed: Any) -> None:
    """Check that `seed` is a whole number, 0 or larger.

    Raises:
        ValueError: If it is not.
    """
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"`seed` must be a whole number, 0 or larger, but got {seed!r}.")


def check_path(name: str, path: Any) -> Path:
    """Return `path` as a `Path`, unless it is empty, which would mean the working directory.

    Raises:
        ValueError: If it is neither a string nor a `Path`, or is empty.
    """
    if not isinstance(path, str | Path) or path == "":
        raise ValueError(f"`{name}` must be a path, and not empty, but got {path!r:.80}.")
    return Path(path)
