"""Check arguments, and word the errors of other libraries: packages that are missing, and reasons in one line."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
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


def check_number(name: str, value: Any, *, positive: bool = False) -> float:
    """Return `value` if it is a finite number, 0 or larger, or with `positive` above 0.

    Raises:
        ValueError: If it is not; the message calls it `name`.
    """
    if not is_number(value) or not 0 <= value < float("inf") or (positive and value == 0):
        raise ValueError(f"`{name}` must be a number{' above 0' if positive else ', 0 or larger'}, but got {value!r}.")
    return float(value)


def check_keys(name: str, value: dict[str, Any], known: set[str]) -> None:
    """Refuse an unknown key of a mapping, and name the most similar known key."""
    for key in value:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"the fields are {', '.join(sorted(known))}."
            raise ValueError(f"`{key}` is no field of {name}; {hint}")


def check_path(name: str, path: Any) -> Path:
    """Return `path` as a `Path`, unless it is empty, which would mean the working directory.

    Raises:
        ValueError: If it is neither a string nor a `Path`, or is empty.
    """
    if not isinstance(path, str | Path) or path == "":
        raise ValueError(f"`{name}` must be a path, and not empty, but got {path!r:.80}.")
    return Path(path)


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Say what installs the packages that are imported within, if one of them is missing.

    Args:
        what: What needs the packages, as the first words of the error.
        extra: Extra of this library that installs them.

    Raises:
        ModuleNotFoundError: If a package is missing, which is the `name` of the error.

    Example:
        >>> with needs_extra("A chart", "charts"):
        ...     import a_package_that_is_not_installed
        Traceback (most recent call last):
        ...
        ModuleNotFoundError: A chart needs a_package_that_is_not_installed; run `pip install 'modeling-crh[charts]'`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs {error.name}; run `pip install 'modeling-crh[{extra}]'`.", name=error.name
        ) from error


@contextmanager
def one_reason(rule: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into a `ValueError` of one sentence: the rule, and the first line of the error."""
    try:
        yield
    except kinds as error:
        raise ValueError(f"{rule}: {first_line(error)}.") from error


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error without a full stop, or else the name of its class.

    Example:
        >>> first_line(OSError("The disk is full.\nAsk the one who filled it."))
        'The disk is full'
    """
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
