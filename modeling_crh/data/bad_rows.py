"""The one rule of what a readable row is: images that decode, texts that say something, finite features."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.images import UnreadableImageError, read_image
from modeling_crh.runtime.terminal import progress_bar

Kind = Literal["image", "text", "features"]
"""What the rows of a source hold."""

_AT_A_TIME = 256


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Args:
        path: The file of its image, or its place such as "row 17 of reviews.csv".
        reason: What is wrong with it.
    """

    path: str
    reason: str

    def as_error(self) -> ValueError:
        """The error that ends a run which does not skip bad rows."""
        return ValueError(
            f"Every row must be readable, but {self.path} is not: {self.reason}; `--skip-bad` (`skip_bad=True`) leaves "
            "such rows out."
        )


def read_value(kind: Kind, value: Any, place: object) -> Tensor | str | NDArray[np.float32] | BadRow:
    """Read the value of one row.

    Args:
        kind: What the row holds.
        value: An image as `{"bytes": ..., "path": ...}` or anything that `read_image` takes, a text, or numbers; None
            where it is missing.
        place: What a message calls the row.

    Returns:
        Pixels `(3, H, W)` uint8, a text, or features `(F,)` or `(V, F)`; or the bad row that it is.

    Raises:
        ValueError: If the value is of another type, which no row of the column can have.
        OSError: If the machine cannot read an image, such as for a denied permission.
    """
    if value is None:
        return BadRow(str(place), "it is missing")
    if kind == "image":
        return _read_pixels(value, place)
    if kind == "text":
        if not isinstance(value, str):
            raise ValueError(f"`text` must be a string, but {place} has {value!r:.80}.")
        return value if value.strip() else BadRow(str(place), "its text is empty")
    return _read_features(value, place)


def decode_image(value: dict[str, Any] | None, place: object) -> Tensor:
    """Decode one image of an undecoded `datasets.Image` column.

    Args:
        value: `{"bytes": ..., "path": ...}`, or None where the image is missing.
        place: What a message calls an image without a path.

    Returns:
        `(3, H, W)` uint8, see `modeling_crh.images.read_image`.

    Raises:
        ValueError: If it cannot be decoded.
    """
    pixels = read_value("image", value, place)
    if isinstance(pixels, BadRow):
        raise pixels.as_error()
    assert isinstance(pixels, Tensor)
    return pixels


def find_bad_rows(
    kind: Kind, values: Any, places: Sequence[object], *, stop_at_first: bool = False, num_threads: int = 4
) -> dict[int, BadRow]:
    """Read every row once, to find those that would stop a run later.

    Args:
        kind: What the rows hold.
        values: N values, see `read_value`; slices of 256 are taken.
        places: N names of the rows.
        stop_at_first: Stop where a bad row is found.
        num_threads: Rows to read at a time.

    Returns:
        Row number to the bad row.
    """
    bad: dict[int, BadRow] = {}
    with ThreadPoolExecutor(num_threads) as threads, progress_bar(total=len(places), desc="Checking rows") as bar:
        for start in range(0, len(places), _AT_A_TIME):
            some = slice(start, start + _AT_A_TIME)
            for row, found in enumerate(threads.map(partial(_fault, kind), values[some], places[some]), start):
                if found is not None:
                    bad[row] = found
            bar.update(len(places[some]))
            if bad and stop_at_first:
                break
    return bad


def _fault(kind: Kind, value: Any, place: object) -> BadRow | None:
    found = read_value(kind, value, place)
    return found if isinstance(found, BadRow) else None


def _read_pixels(value: Any, place: object) -> Tensor | BadRow:
    path = value["path"] if isinstance(value, dict) else None
    source = value if not isinstance(value, dict) else path if value["bytes"] is None else value["bytes"]
    if source is None:
        return BadRow(str(place), "it is missing")
    try:
        pixels = read_image(source)
    except UnreadableImageError as error:
        return BadRow(path or str(place), error.reason)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _read_features(value: Any, place: object) -> NDArray[np.float32] | BadRow:
    views = list(value) if isinstance(value, np.ndarray) and value.dtype == object else value
    try:
        numbers = np.asarray(views, dtype=np.float32)
    except (TypeError, ValueError) as error:  # NumPy's two errors for what is no array of numbers
        raise ValueError(f"`features` must hold numbers of one shape, but {place} does not: {error}.") from error
    if numbers.ndim not in (1, 2) or 0 in numbers.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but {place} has {numbers.shape}.")
    return numbers if np.isfinite(numbers).all() else BadRow(str(place), "its features are not finite")
