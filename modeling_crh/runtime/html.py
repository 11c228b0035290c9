"""HTML pages: templates that escape all values, and pictures that are embedded as `data:` URIs."""

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from modeling_crh.checks import check_path, needs_extra
from modeling_crh.images import read_image

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(folder: Path, **functions: Any) -> "Environment":
    """Load the templates of a folder, which may use `functions`, and the frame and stylesheet that all pages share.

    Raises:
        ModuleNotFoundError: If Jinja is not installed.
    """
    with needs_extra("A page", "search"):
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= functions
    return environment


LARGEST_SIDE = 200  # of an embedded picture; pages show none larger than half of that
SMALL_SIDE = 64
"""Largest side of a picture that is embedded unchanged and enlarged with sharp pixels."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a `data:` URI, or the reason why it is missing."""

    uri: str = ""  # empty without a picture
    sharp: bool = False  # whether the pixels stay sharp when they are enlarged
    fault: str = ""  # short reason why there is no picture

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> "Thumbnail":
        """Make the thumbnail of `(H, W, 3)` pixels: PNG if they are few, else JPEG of at most `LARGEST_SIDE` a side.

        Example:
            >>> Thumbnail.of(np.zeros((8, 8, 3), np.uint8)).uri[:22]
            'data:image/png;base64,'
        """
        image = PIL.Image.fromarray(pixels)
        is_small = max(image.size) <= SMALL_SIDE
        kind = "png" if is_small else "jpeg"
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        content = io.BytesIO()
        image.save(content, kind.upper(), quality=85)
        return cls(f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}", sharp=is_small)


def make_thumbnail(file: Path) -> Thumbnail:
    """Read an image file and make its thumbnail."""
    try:
        return Thumbnail.of(read_image(file, least_side=2 * LARGEST_SIDE))
    except (ValueError, OSError):
        return Thumbnail(fault="cannot be read")


def check_image_root(root: str | Path) -> Path:
    """Check the folder of a database's images, and return it as a `Path`.

    Raises:
        ValueError: If `root` is not a path.
        FileNotFoundError: If `root` is not a folder.
    """
    folder = check_path("image_root", root)
    if not folder.is_dir():
        raise FileNotFoundError(f"`image_root` must be a folder, but got {str(root)!r}.")
    return folder


def file_within(root: Path, path: str) -> Path | str:
    """Find the file of an item of an untrusted index: links and `..` are resolved, and no file is opened.

    Returns:
        The file of a path that is absolute or relative to `root`; or, in a few words, why there is none within `root`.
    """
    try:
        file = Path(os.path.realpath(root / path))
        if not file.is_relative_to(os.path.realpath(root)):
            return "outside of the image root"
        return file if file.is_file() else "not there"  # nor is a pipe, which would never end
    except (OSError, ValueError):  # too long a name, or one with a zero byte
        return "not there"


def thumbnail_within(root: Path, path: str | None) -> Thumbnail:
    """Make the thumbnail of an item of an untrusted index, see `file_within`: no file outside of `root` is opened.

    An item without a path has an empty one.
    """
    if path is None:
        return Thumbnail()
    file = file_within(root, path)
    return Thumbnail(fault=file) if isinstance(file, str) else make_thumbnail(file)
