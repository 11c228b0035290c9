"""From a path, a URL or a PIL image to RGB pixels, upright and with transparency laid over white."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from huggingface_hub import get_session
from huggingface_hub.utils import httpx  # type: ignore[attr-defined] # exported by its `__getattr__`
from transformers.image_transforms import convert_to_rgb

DECODE_ERRORS = (
    OSError,  # also no image at all, and a file that ends too early
    SyntaxError,  # what Pillow raises for a broken PNG
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,  # AVIF
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
)
"""Everything that Pillow has been seen to raise on a damaged file."""

SMALL_IMAGE = 2**24
"""Pixels that any file may say it has."""

PIXELS_A_BYTE = 10_000
"""More than that are in no picture: of a white one, PNG holds 8,000 in a byte, and GIF 3,000."""


def read_image(source: str | Path | PIL.Image.Image) -> np.ndarray:
    """Read one image as training and encoding see it.

    Args:
        source: A path, an http(s) URL or an opened image.

    Returns:
        `(H, W, 3)` uint8.

    Raises:
        ValueError: If `source` is of another kind, there is nothing to read, or it is no image, is cut short, has no
            pixels, over twice those of `PIL.Image.MAX_IMAGE_PIXELS`, or more than its bytes can hold.

    Example:
        >>> read_image(PIL.Image.new("RGBA", (2, 1))).tolist()
        [[[255, 255, 255], [255, 255, 255]]]
    """
    if not isinstance(source, str | Path | PIL.Image.Image):
        raise ValueError(f"`image` must be a path, a URL or a PIL image, but got {type(source).__name__}.")
    try:
        return to_rgb(source if isinstance(source, PIL.Image.Image) else open_image(_open(str(source))))
    except DECODE_ERRORS as error:
        name = str(source)[:300]
        raise ValueError(f"`image` must be a complete image, but {name} is not: {decode_fault(error)}.") from error


def open_image(file: str | BytesIO) -> PIL.Image.Image:
    """Open an image, of which no pixel is made yet.

    Raises:
        ValueError: If it says that it has more pixels than its bytes can hold, see `DECODE_ERRORS` for what else.
    """
    image = PIL.Image.open(file)
    num_bytes = os.path.getsize(file) if isinstance(file, str) else file.getbuffer().nbytes
    if image.width * image.height > max(SMALL_IMAGE, PIXELS_A_BYTE * num_bytes):
        image.close()
        raise ValueError(f"{num_bytes} bytes cannot hold the {image.width} x {image.height} pixels that it claims")
    return image


def to_rgb(image: PIL.Image.Image) -> np.ndarray:
    """Pixels of an opened image, upright, with transparency laid over white: `(H, W, 3)` uint8.

    Raises:
        OSError: If the file behind it is cut short; see `DECODE_ERRORS` for what else.
    """
    if 0 in image.size:
        raise ValueError(f"it has no pixels: its size is {image.width} x {image.height}")
    image = PIL.ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # a palette may hold transparency that `convert_to_rgb` does not look for
    return np.asarray(convert_to_rgb(image, return_numpy=True))


def decode_fault(error: Exception) -> str:
    """What one of `DECODE_ERRORS` tells, without the path that the caller names already."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "no known image format"
    told = error.strerror if isinstance(error, OSError) else None
    return (told or str(error)).rstrip(".") or type(error).__name__


def _open(source: str) -> str | BytesIO:
    if not source.startswith(("http://", "https://")):
        return source
    try:
        response = get_session().get(source, follow_redirects=True, timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"the server could not be reached: {error}") from error
    if response.is_error:
        raise OSError(f"the server answered {response.status_code}")
    return BytesIO(response.content)
