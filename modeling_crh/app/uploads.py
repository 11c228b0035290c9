"""Images that strangers send: bounded in bytes and in pixels before a single one is decoded."""

import base64
import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from modeling_crh.images import UnreadableImageError, decoding, to_rgb

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
"""A photograph of any phone; as RGB 150 MB."""

MAX_RATIO = 20
"""Longer side over shorter side: many processors bring the shorter one to a size, whatever the other becomes."""

_MAX_LENGTH = -(-MAX_BYTES // 3) * 4  # in base 64

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP")
"""What browsers show; Pillow reads far more, by code that few people look at."""

KINDS = "PNG, JPEG, WebP, GIF, AVIF or BMP"


def read_upload(content: Any, size: Any = None) -> NDArray[np.uint8]:
    """Decode an image that came from a browser.

    Args:
        content: The file in base 64, as the page sends it; but it may be anything.
        size: Number of bytes that the page names; it sends no content of more than `MAX_BYTES`.

    Returns:
        `(H, W, 3)`.

    Raises:
        ValueError: If it has more than `MAX_BYTES` or `MAX_PIXELS`, is longer than `MAX_RATIO` allows, or is no
            complete image of one of the `FORMATS`: one sentence for the person who sent it.
    """
    if (isinstance(size, int) and size > MAX_BYTES) or (isinstance(content, str) and len(content) > _MAX_LENGTH):
        raise ValueError(f"An image may have {MAX_BYTES // 10**6} MB at most, but this file has more.")
    if not isinstance(content, str):
        raise ValueError("No image has arrived.")
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError as error:
        raise ValueError("No image has arrived.") from error
    image = _open(data)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"An image may have {MAX_PIXELS // 10**6} million pixels at most, "
            f"but this one has {image.width:,} x {image.height:,}."
        )
    if max(image.size) > MAX_RATIO * min(image.size):
        raise ValueError(
            f"An image may be {MAX_RATIO} times as long as it is wide at most, "
            f"but this one has {image.width:,} x {image.height:,} pixels."
        )
    try:
        return to_rgb(image)
    except UnreadableImageError as error:
        raise ValueError("This image cannot be read: its file is damaged or not complete.") from error


def _open(data: bytes) -> PIL.Image.Image:
    """Read the head of the file."""
    try:
        with decoding():
            return PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    except UnreadableImageError as error:
        if isinstance(error.__cause__, PIL.Image.DecompressionBombError):
            raise ValueError(f"An image may have {MAX_PIXELS // 10**6} million pixels at most.") from error
        raise ValueError(f"This file is no image that can be read: it must be {KINDS}.") from error
