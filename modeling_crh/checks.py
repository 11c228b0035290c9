"""What an argument has to be: the checks that more than one file makes at its edge."""

from numbers import Integral, Real
from pathlib import Path
from typing import Any

from torch import Tensor


def is_number(value: Any) -> bool:
    """Whether `value` is one real number, of Python or of NumPy, and no boolean."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether `value` is one whole number, of Python or of NumPy, and no boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_tensor(name: str, value: Any) -> Tensor:
    """Give `value` back if it is a tensor.

    Args:
        name: What the caller calls `value`, for the message.
        value: Anything.

    Raises:
        ValueError: If it is an array, a list or something else.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"`{name}` must be a torch.Tensor, but got {type(value).__name__}.")
    return value


def check_seed(seed: Any) -> None:
    """Check that `seed` is a whole number from 0 up.

    Raises:
        ValueError: If it is not.
    """
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"`seed` must be a whole number, 0 or larger, but got {seed!r}.")


def check_path(name: str, path: Any) -> Path:
    """Give `path` back as a `Path` if it names something: an empty one would stand for the working directory.

    Args:
        name: What the caller calls `path`, for the message.
        path: Anything.

    Raises:
        ValueError: If it is neither a string nor a `Path`, or empty.
    """
    if not isinstance(path, str | Path) or path == "":
        raise ValueError(f"`{name}` must be a path, and not empty, but got {path!r:.80}.")
    return Path(path)
