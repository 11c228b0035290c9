"""HTML pages: templates that escape everything, and pictures inside of a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from modeling_crh.images import read_image

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(*folders: Path) -> "Environment":
    """The templates of some folders, of which the first that has a name gives it.

    Raises:
        ModuleNotFoundError: If Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A page needs {error.name}; run `pip install 'modeling-crh[search]'`.", name=error.name
        ) from error
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


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


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a `data:` URI, or why there is none.

    Args:
        uri: Empty where there is none.
        sharp: Whether its pixels are to stay sharp.
        fault: In a few words.
    """

    uri: str = ""
    sharp: bool = False
    fault: str = ""


def make_thumbnail(file: Path) -> Thumbnail:
    """Read an image file and make it small."""
    try:
        pixels = read_image(file)
    except ValueError:
        return Thumbnail(fault="cannot be read")
    return Thumbnail(picture_uri(pixels), sharp=max(pixels.shape) <= SMALL_SIDE)


def thumbnail_within(root: Path, path: str) -> Thumbnail:
    """The picture of an item of an index, which anybody may have made: nothing outside of `root` is opened.

    Args:
        root: Folder of the images.
        path: What the index says, absolute or from `root` on. Links and `..` are followed before anything is opened.
    """
    try:
        file = (root / path).resolve()
        if not file.is_relative_to(root.resolve()):
            return Thumbnail(fault="outside of the image root")
        if not file.is_file():  # neither is a pipe, which would never end
            return Thumbnail(fault="not there")
    except (OSError, ValueError, RuntimeError):  # too long, with a zero byte, or a circle of links
        return Thumbnail(fault="not there")
    return make_thumbnail(file)
