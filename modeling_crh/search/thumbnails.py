"""Small pictures inside of a page; those of a database only from the folder that the caller names."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from modeling_crh.images import read_image

LARGEST_SIDE = 200
SMALL_SIDE = 64
"""A picture of no more pixels a side is kept as it is, and enlarged with sharp pixels."""


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
    image = PIL.Image.fromarray(pixels)
    sharp = max(image.size) <= SMALL_SIDE
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    content = io.BytesIO()
    kind = "png" if sharp else "jpeg"
    image.save(content, kind.upper(), quality=85)
    return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}", sharp)


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
