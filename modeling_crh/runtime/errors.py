"""Word the errors of other libraries: packages of an extra that are missing, and reasons in one line."""

from collections.abc import Iterator
from contextlib import contextmanager


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


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error without a full stop, or else the name of its class.

    Example:
        >>> first_line(OSError("The disk is full.\nAsk the one who filled it."))
        'The disk is full'
    """
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
