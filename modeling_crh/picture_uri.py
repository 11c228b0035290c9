"""A picture inside of a page."""

import base64
import io

import numpy as np
import PIL.Image
from numpy.typing import NDArray

LARGEST_SIDE = 200  # of an embedded picture; pages show none larger than half of that
SMALL_SIDE = 64
"""A picture of no more pixels a side is kept as it is, and enlarged with sharp pixels, not blurred."""


def picture_uri(pixels: NDArray[np.uint8]) -> str:
    """A `data:` URI: PNG of a small picture, and JPEG of a large one, made smaller.

    Args:
        pixels: `(H, W, 3)`.

    Example:
        >>> picture_uri(np.zeros((8, 8, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    image = PIL.Image.fromarray(pixels)
    kind = "png" if max(image.size) <= SMALL_SIDE else "jpeg"
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    content = io.BytesIO()
    image.save(content, kind.upper(), quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
