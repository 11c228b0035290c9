"""Decode images: any source to upright RGB pixels, and pixels to what a model's image processor makes of them."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from numpy.typing import NDArray
from transformers import BaseImageProcessor

from .file_bytes import UnreadableError, read_bytes, stored_source

ImageSource = str | Path | bytes | PIL.Image.Image | NDArray[Any]
"""A path, a URL, base64 text, the bytes of a file, an opened image, or an array of pixels."""

SUFFIXES = frozenset(
    ".apng .avif .avifs .bmp .dds .dib .gif .heic .heif .hif .icns .ico .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .mpo .pbm "
    ".pcx .pgm .png .pnm .ppm .qoi .rgb .sgi .tga .tif .tiff .webp".split()
)
"""Endings of the names of image files, in lower case."""

# Pillow also opens documents and videos (EPS, PSD, MPEG ...), some of them through other programs.
_FORMATS = "AVIF BMP DDS DIB GIF HEIF ICNS ICO JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP".split()

_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, LookupError, EOFError, OverflowError, struct.error, zlib.error)
_DECODE_ERRORS = (*_PILLOW_ERRORS, PIL.Image.DecompressionBombError)
"""Errors of Pillow for the bytes of a damaged image."""

_SMALL_IMAGE = 2**24  # pixels that any file may claim
_PIXELS_A_BYTE = 10_000  # PNG holds 8,000 white pixels in a byte, and GIF 3,000
_HEIF_BRANDS = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1")


class UnreadableImageError(UnreadableError):
    """An image that does not decode. A failure of the machine, such as a denied permission, is no such error."""

    rule = "`image` must be a complete image"


def read_image(source: ImageSource, least_side: int | None = None) -> NDArray[np.uint8]:
    """Read one image as training and encoding see it: upright, with transparency laid over white.

    A JPEG file of many pixels is decoded at a half, a quarter or an eighth of its size, several times as fast, if both
    of its sides keep `least_side` pixels.

    Pixels of more than 8 bits are scaled to 8: those of unsigned 16 bits from 65,535; other whole numbers from 255 or
    65,535 and floating point from 1, 255 or 65,535, whichever holds the largest pixel.

    Args:
        source: A path, a URL (http, or any that fsspec reads, such as `s3://`), base64 text, the bytes of a file, an
            opened image, or an array `(H, W)`, `(H, W, C)` or `(C, H, W)` of numbers, with C of 1, 3 or 4.
        least_side: Number of pixels that a side needs, see `needed_side`; None decodes all.

    Returns:
        `(H, W, 3)` uint8.

    Raises:
        UnreadableImageError: If there is nothing to read, or it is no image, is cut short, has no pixels, over twice
            those of `PIL.Image.MAX_IMAGE_PIXELS`, or more than its bytes can hold.
        ValueError: If `source` is of another kind.
        OSError: If the machine cannot read the file, such as for a denied permission.
        ModuleNotFoundError: If a URL needs a package that is not installed.

    Example:
        >>> read_image(PIL.Image.new("RGBA", (2, 1))).tolist()
        [[[255, 255, 255], [255, 255, 255]]]
    """
    if not isinstance(source, str | Path | bytes | PIL.Image.Image | np.ndarray):
        raise ValueError(
            "`image` must be a path, a URL, bytes, base64 text, a PIL image or an array, but got "
            f"{type(source).__name__}."
        )
    name = f"{str(source)[:300]}" if isinstance(source, str | Path) else ""
    try:
        if isinstance(source, np.ndarray):
            return to_rgb(_from_array(source))
        if isinstance(source, PIL.Image.Image):
            content = None if least_side is None else _unread_file(source)
            return to_rgb(source if content is None else _open(content, least_side))
        return to_rgb(_open(read_bytes(source), least_side))
    except UnreadableError as error:
        raise UnreadableImageError(error.reason, name) from error


def read_pixels(value: Any, name: object = "", least_side: int | None = None) -> torch.Tensor:
    """Read one image as a tensor, `(3, H, W)` uint8; see `read_image`.

    Args:
        value: `{"bytes": ..., "path": ...}`, as `datasets` stores an image, see `stored_source`; or anything that
            `read_image` takes.
        name: Name in messages of an image without a path.
        least_side: Number of pixels that a side needs, see `needed_side`; None decodes all.

    Raises:
        UnreadableImageError: See `read_image`; also where `value` is None or names neither bytes nor a path.
        ValueError: See `read_image`; also where a row has a URL that it may not have, see `stored_source`.
    """
    stored = value if isinstance(value, dict) else {}
    try:
        source = stored_source(stored) if isinstance(value, dict | None) else value
        return torch.from_numpy(read_image(source, least_side)).permute(2, 0, 1)
    except UnreadableError as error:
        raise UnreadableImageError(error.reason, stored.get("path") or error.name or str(name)) from error


@contextmanager
def decoding() -> Iterator[None]:
    """Turn what Pillow raises on the bytes of a damaged image into an `UnreadableImageError`."""
    try:
        yield
    except (*_DECODE_ERRORS, RuntimeError) as error:
        # Pillow has no other class than RuntimeError itself for AVIF that does not decode
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise
        raise UnreadableImageError(_reason(error)) from error


def to_rgb(image: PIL.Image.Image) -> NDArray[np.uint8]:
    """Pixels of an opened image, upright, with transparency laid over white: `(H, W, 3)` uint8.

    Raises:
        UnreadableImageError: If its file is damaged, or it has no pixels.
    """
    if 0 in image.size:
        raise UnreadableImageError(f"it has no pixels: its size is {image.width} x {image.height}")
    with decoding():
        image.load()
        image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = PIL.Image.fromarray(_scaled(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.array(image.convert("RGB"))


def needed_side(processor: BaseImageProcessor) -> int | None:
    """Number of pixels of the longer side that an image processor needs: twice as many as it resizes the image to.

    None if the processor does not resize all images to one shorter side or size.

    Example:
        >>> from transformers import ViTImageProcessor
        >>> needed_side(ViTImageProcessor(size={"height": 224, "width": 224}))
        448
    """
    size = dict(getattr(processor, "size", None) or {}) if getattr(processor, "do_resize", False) else {}
    sides = [size.get(name) for name in ("shortest_edge", "height", "width")]
    longest = max((side for side in sides if side is not None), default=0)
    return 2 * longest if longest and not size.get("longest_edge") else None


def pixel_values(processor: BaseImageProcessor, images: Sequence[torch.Tensor], **settings: Any) -> torch.Tensor:
    """What an image processor makes of N decoded images, each `(3, H, W)` uint8: `(N, 3, H, W)`.

    Raises:
        ValueError: If the processor makes pixels of several sizes, or its settings contradict each other.
    """
    try:
        pixels = processor(list(images), return_tensors="pt", **settings)["pixel_values"]
    except ValueError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"`image_processor` must make pixels of one size, but cannot: {reason}.") from error
    if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4:
        raise ValueError("`image_processor` must make pixels of one size, but makes several.")
    return pixels


def _unread_file(image: PIL.Image.Image) -> bytes | None:
    """Bytes of the JPEG file of an image that was opened and not read yet, which stays as it is; else None."""
    file = getattr(image, "fp", None)
    if file is None or image.format not in ("JPEG", "MPO"):
        return None
    place = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(place)
    return content


def _open(content: bytes, least_side: int | None) -> PIL.Image.Image:
    """Open an image, of which no pixel is made yet."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        _register_heif()
    with decoding():
        image = PIL.Image.open(BytesIO(content), formats=_formats())
    if image.width * image.height > max(_SMALL_IMAGE, _PIXELS_A_BYTE * len(content)):
        raise UnreadableImageError(
            f"{len(content)} bytes cannot hold the {image.width} x {image.height} pixels that it claims"
        )
    if least_side is not None:
        image.draft(None, (least_side, least_side))  # of JPEG alone; other formats decode all
    return image


@cache
def _formats() -> list[str]:
    PIL.Image.init()
    return [name for name in _FORMATS if name in PIL.Image.OPEN]


def _register_heif() -> None:
    """Let Pillow read HEIC and HEIF, which phones write."""
    try:
        import pillow_heif
    except ImportError as error:
        raise UnreadableImageError("HEIC needs pillow-heif: pip install 'modeling-crh[heif]'") from error
    pillow_heif.register_heif_opener()
    _formats.cache_clear()


def _scaled(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of more than 8 bits, or of floating point, scaled to 8 bits; see `read_image`."""
    if not np.isfinite(values).all() or values.min() < 0:
        raise UnreadableImageError("its pixels must be finite and not negative")
    largest = float(values.max())
    is_16_bit = values.dtype.kind == "u" and values.dtype.itemsize == 2
    steps = [65535.0] if is_16_bit else [1.0, 255.0, 65535.0] if values.dtype.kind == "f" else [255.0, 65535.0]
    white = next((step for step in steps if largest <= step), largest)
    return np.round(values.astype(np.float64) * (255.0 / white)).astype(np.uint8)


def _from_array(pixels: NDArray[Any]) -> PIL.Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise ValueError(f"`image` must be (H, W), (H, W, C) or (C, H, W) pixels, but got shape {pixels.shape}.")
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"`image` must hold numbers, but got {pixels.dtype}.")
    return PIL.Image.fromarray(np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else _scaled(pixels)))


def _reason(error: Exception) -> str:
    """What an error of Pillow tells, in a few words."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "no known image format"
    told = error.strerror if isinstance(error, OSError) else None
    return (told or str(error)).rstrip(".") or type(error).__name__
