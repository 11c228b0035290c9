"""Small pictures inside of a page; those of a database only from the folder that the caller names."""

from dataclasses import dataclass
from pathlib import Path

from modeling_crh.images import read_image
from modeling_crh.picture_uri import SMALL_SIDE, picture_uri


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
