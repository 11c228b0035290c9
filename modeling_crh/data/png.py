"""Encode pixels as PNG, the form in which arrays of pixels enter a dataset."""

import io

import numpy as np
import PIL.Image
from numpy.typing import NDArray


def encode_png(pixels: NDArray[np.uint8], *, optimize: bool = False) -> bytes:
    """Encode one image without loss.

    Args:
        pixels: `(H, W)` gray values, or `(H, W, 3)` RGB.
        optimize: Take several times as long and save a few per cent.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", optimize=optimize, compress_level=9 if optimize else 1)
    return file.getvalue()
