"""Read the official files of a benchmark, and check that they are complete."""

import hashlib
import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray

from modeling_crh.data.columns import label_names as names_of
from modeling_crh.data.prepare import prepare_dataset
from modeling_crh.runtime.terminal import progress_bar


def find_file(data_dir: Path, *names: str) -> Path:
    """The first of several places of a file, relative to `data_dir`, that exists.

    Raises:
        ValueError: If none does.
    """
    for name in names:
        if (data_dir / name).is_file():
            return data_dir / name
    raise ValueError(f"`data_dir` must hold {' or '.join(names)}, but {data_dir / names[0]} does not exist.")


def unpacked_folder(data_dir: Path, archive: str) -> Path:
    """The folder that an archive unpacks to, whether `data_dir` is that folder or the one around it."""
    inner = data_dir / archive
    return inner if inner.is_dir() else data_dir


def read_checked(path: Path, md5: str) -> bytes:
    """Content of a file whose checksum is known.

    Raises:
        ValueError: If the file has another checksum.
    """
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"{path} must have the official MD5 checksum {md5}, but has {found}.")
    return content


def require_images(paths: Iterable[Path]) -> None:
    """Check that every annotated image is there, as it is not after an archive was unpacked in part.

    Raises:
        ValueError: If a file is missing or empty.
    """
    bar = progress_bar(paths, desc="Looking for images")
    missing = [path for path in bar if not path.is_file() or path.stat().st_size == 0]
    if missing:
        others = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise ValueError(f"`data_dir` must hold every annotated image, but {missing[0]}{others} missing or empty.")


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


def encode_png(pixels: NDArray[np.uint8], *, optimize: bool = False) -> bytes:
    """Encode one image without loss.

    Args:
        pixels: `(H, W)` gray values, or `(H, W, 3)` RGB.
        optimize: Take several times as long and save a few per cent.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", optimize=optimize, compress_level=9 if optimize else 1)
    return file.getvalue()


def load_hub_pair(
    hub_id: str,
    *,
    image_column: str = "image",
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
) -> tuple[Dataset, Dataset]:
    """Load the splits `train` and `test`, prepared with the same classes.

    Args:
        hub_id: Of a dataset with one class a row.
        image_column: Name of its column of images.
        label_column: Name of its column of labels.
        label_names: Official names in the order of the ids, which replace those on the Hub: uoft-cs/cifar100 calls the
            crab "cra". By default those on the Hub.

    Returns:
        Both splits, with the columns `image` and `label`.

    Raises:
        ValueError: If a column is missing or a label is out of range.
    """
    splits = datasets.load_dataset(hub_id)
    train, test = splits["train"], splits["test"]
    if label_names is not None:
        official = ClassLabel(names=list(label_names))
        train, test = (split.cast_column(label_column, official) for split in (train, test))
    train = prepare_dataset(train, image_column=image_column, label_column=label_column)
    test = prepare_dataset(test, image_column=image_column, label_column=label_column, label_names=names_of(train))
    return train, test
