"""Read a pickle of plain data without running anything that it names."""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _StoredType:
    """What stands in for `numpy.dtype`: only the code of its type, such as "u1"."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _StoredArray:
    """What stands in for `numpy.ndarray`: NumPy's own class would trust a forged type with memory that is not its."""

    value: NDArray[np.uint8]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _StoredType, bool, str | bytes]) -> None:
        _, shape, dtype, is_fortran, content = state
        if dtype.code != "u1":
            raise pickle.UnpicklingError(f"it holds an array of type {dtype.code!r}, not of unsigned bytes")
        raw = content.encode("latin-1") if isinstance(content, str) else content
        self.value = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _new_array(*_: object) -> _StoredArray:
    return _StoredArray()


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _StoredArray,
    ("numpy", "dtype"): _StoredType,
}

_PICKLE_ERRORS = (  # what the unpickler raises on damage
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _STAND_INS[module, name]


def load_plain_pickle(content: bytes, source: str) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, strings, bytes, lists, dictionaries and arrays of unsigned bytes.

    Any other name in it is refused, and those of NumPy lead to stand-ins, so nothing outside of this file is called.

    Args:
        content: The pickle. Strings of Python 2 are taken as Latin-1.
        source: What an error calls it.

    Returns:
        The dictionary, with its arrays as `uint8`.

    Raises:
        ValueError: If it holds anything else, or is damaged.

    Example:
        >>> load_plain_pickle(pickle.dumps({"labels": [3, 1]}), "batch")
        {'labels': [3, 1]}
        >>> load_plain_pickle(pickle.dumps({"labels": print}), "batch")
        Traceback (most recent call last):
        ...
        ValueError: batch must be a pickle of plain data, but is not: it names builtins.print.
    """
    try:
        value = _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
        if not isinstance(value, dict):
            raise pickle.UnpicklingError(f"it holds {type(value).__name__}, not a dictionary")
        return {key: item.value if isinstance(item, _StoredArray) else item for key, item in value.items()}
    except _PICKLE_ERRORS as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"{source} must be a pickle of plain data, but is not: {reason}.") from error
