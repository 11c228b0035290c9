"""The one rule of what a readable row is: images and sounds that decode, texts that say something, finite features."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Audio, Dataset, Image
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.file_bytes import UnreadableError
from modeling_crh.images import read_pixels
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.sounds import Sound, read_sound

Kind = Literal["image", "audio", "text", "features"]
"""What the rows of a source hold."""

PLURALS: dict[Kind, str] = {"image": "images", "audio": "sounds", "text": "texts", "features": "features"}
"""Words for the rows of a source, by kind."""

FILE_KINDS: dict[Kind, Any] = {"image": Image, "audio": Audio}
"""Types of the columns of files, by kind; where no column is named, the first kind is preferred."""

_AT_A_TIME, _THREADS = 1024, 4
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Args:
        path: The file of its image, or its place such as "row 17 of reviews.csv".
        reason: What is wrong with it.
    """

    path: str
    reason: str

    def as_error(self, *, can_skip: bool = True) -> ValueError:
        """The error that ends a run which does not skip bad rows; `can_skip` tells how it could."""
        how = "; `--skip-bad` (`skip_bad=True`) leaves such rows out" if can_skip else ""
        return ValueError(f"Every row must be readable, but {self.path} is not: {self.reason}{how}.")


def read_value(
    kind: Kind, value: Any, place: object, least_side: int | None = None
) -> Tensor | Sound | str | NDArray[np.float32] | BadRow:
    """Read the value of one row.

    Args:
        kind: What the row holds.
        value: An image or a sound as `{"bytes": ..., "path": ...}` or anything that `read_image` or `read_sound` takes,
            a text, or numbers; None where it is missing.
        place: What a message calls the row.
        least_side: Number of pixels that a side of an image needs, see `images.needed_side`; None decodes all.

    Returns:
        Pixels `(3, H, W)` uint8, a `Sound`, a text, or features `(F,)` or `(V, F)`; or the bad row that it is.

    Raises:
        ValueError: If the value is of another type, which no row of the column can have.
        OSError: If the machine cannot read an image or a sound, such as for a denied permission.
        ModuleNotFoundError: If the package that decodes sound is not installed.
    """
    if value is None:
        return BadRow(str(place), "it is missing")
    if kind in FILE_KINDS:
        try:
            return read_pixels(value, place, least_side) if kind == "image" else read_sound(value, place)
        except UnreadableError as error:
            return BadRow(error.name, error.reason)
    if kind == "text":
        if not isinstance(value, str):
            raise ValueError(f"`text` must be a string, but {place} has {value!r:.80}.")
        return value if value.strip() else BadRow(str(place), "its text is empty")
    return _read_features(value, place)


def find_bad_rows(
    kind: Kind, rows: Dataset, places: Sequence[object], *, stop_at_first: bool = False
) -> dict[int, BadRow]:
    """Read every row once, to find those that would stop a run later.

    Args:
        kind: What the rows hold.
        rows: N rows with one column, which is called by the kind; images and sounds are not decoded.
        places: N names of the rows.
        stop_at_first: Stop where a bad row is found.

    Returns:
        Row number to the bad row.
    """
    bad: dict[int, BadRow] = {}
    plain, arrow = rows.with_format(None), rows.with_format("arrow")
    with ThreadPoolExecutor(_THREADS) as threads, progress_bar(total=len(places), desc="Checking rows") as bar:
        for start in range(0, len(places), _AT_A_TIME):
            some = slice(start, start + _AT_A_TIME)
            bar.update(len(places[some]))
            if kind == "features" and are_finite(numbers_of(arrow[some][kind])):
                continue
            found = threads.map(partial(_fault, kind), plain[some][kind], places[some])
            bad |= {row: fault for row, fault in enumerate(found, start) if fault is not None}
            if bad and stop_at_first:
                break
    return bad


def numbers_of(column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    """Features `(N, F)` or `(N, V, F)` of a column, read at once; None unless all rows have numbers of one shape."""
    values, shape = column.combine_chunks(), [len(column)]
    while any(is_list(values.type) for is_list in _LISTS):
        lengths = pc.unique(pc.list_value_length(values))  # null where a row is missing
        if len(lengths) != 1 or not lengths[0].as_py():
            return None
        shape.append(lengths[0].as_py())
        values = values.flatten()
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if len(shape) not in (2, 3) or values.null_count or not is_number:
        return None
    numbers: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(shape)
    return numbers


def are_finite(numbers: NDArray[np.float32] | None) -> bool:
    """Whether there are numbers, and none of them is NaN or infinite."""
    return numbers is not None and bool(np.isfinite(numbers).all())


def _fault(kind: Kind, value: Any, place: object) -> BadRow | None:
    found = read_value(kind, value, place, least_side=1)  # every byte is decoded, into few pixels
    return found if isinstance(found, BadRow) else None


def _read_features(value: Any, place: object) -> NDArray[np.float32] | BadRow:
    views = list(value) if isinstance(value, np.ndarray) and value.dtype == object else value
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told below
            numbers = np.asarray(views, dtype=np.float32)
    except (TypeError, ValueError) as error:  # NumPy's two errors for what is no array of numbers
        raise ValueError(f"`features` must hold numbers of one shape, but {place} does not: {error}.") from error
    if numbers.ndim not in (1, 2) or 0 in numbers.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but {place} has {numbers.shape}.")
    return numbers if np.isfinite(numbers).all() else BadRow(str(place), "its features are not finite")
