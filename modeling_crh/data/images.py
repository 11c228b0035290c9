"""Decode images in the one way that training and encoding share, and find those that cannot be decoded."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import datasets
import PIL.Image
import torch
from datasets import Dataset
from torch import Tensor

from modeling_crh.images import DECODE_ERRORS, decode_fault, open_image, to_rgb
from modeling_crh.runtime.terminal import progress_bar

_IMAGE = datasets.Image()
REMEDY = "; `skip_bad_images=True` (`--skip-bad-images`) leaves it out"
"""What `as_error` tells of a way out, where there is one."""


@dataclass(frozen=True)
class BadImage:
    """An image that was left out.

    Args:
        path: Its file, or "row 17" if it has none.
        reason: Why it cannot be decoded.
    """

    path: str
    reason: str

    def as_error(self, remedy: str = "") -> ValueError:
        """The same as an error to raise, with what the user may do about it."""
        return ValueError(f"`image` must be a complete image, but {self.path} is not: {self.reason}{remedy}.")


def decode_image(value: dict[str, Any] | None, name: str) -> Tensor:
    """Decode one image as stored in an undecoded `datasets.Image` column.

    The EXIF orientation is applied, and transparency is laid over white: what `transformers` image processors make of
    the upright image with `do_convert_rgb=True`.

    Args:
        value: `{"bytes": ..., "path": ...}`, or None where the image is missing.
        name: What an error calls an image without a path.

    Returns:
        `(3, H, W)` uint8.

    Raises:
        ValueError: If this is no image, is cut short, has over twice the pixels of `PIL.Image.MAX_IMAGE_PIXELS`, or
            more than its bytes can hold.
    """
    image = try_decode(value, name)
    if isinstance(image, BadImage):
        raise image.as_error()
    return image


def try_decode(value: dict[str, Any] | None, name: str) -> Tensor | BadImage:
    """`decode_image` for those who go on without a bad image: it is given back, and not raised."""
    try:
        pixels = to_rgb(_open(value))  # (H, W, 3)
    except DECODE_ERRORS as error:
        return _bad_image(value, name, error)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def without_decoding(dataset: Dataset) -> Dataset:
    """The `image` column alone, as `{"bytes": ..., "path": ...}`.

    Raises:
        ValueError: If `dataset` has no `image` column of images.
    """
    feature = dataset.features.get("image")
    if not isinstance(feature, datasets.Image):
        raise ValueError(
            f"`dataset` must have a column `image` of images, as `prepare_dataset` makes, but got {feature}."
        )
    return dataset.select_columns("image").cast_column("image", datasets.Image(decode=False))


def check_images(
    dataset: Dataset, *, skip_bad_images: bool = False, num_threads: int = 4
) -> tuple[Dataset, list[BadImage]]:
    """Decode every image once, to find those that would stop a training run.

    Args:
        dataset: With a column `image`.
        skip_bad_images: Leave bad images out and go on, rather than raise.
        num_threads: Images to decode at a time.

    Returns:
        The rows that can be decoded, and what was left out.

    Raises:
        ValueError: If an image cannot be decoded, unless `skip_bad_images`; or if none is left.
    """
    images = without_decoding(dataset)
    bad: dict[int, BadImage] = {}
    with ThreadPoolExecutor(num_threads) as threads, progress_bar(total=len(images), desc="Checking images") as bar:
        for start in range(0, len(images), 256):
            values = images[start : start + 256]["image"]
            faults = threads.map(_find_fault, values, (f"row {start + offset}" for offset in range(len(values))))
            bad.update({row: fault for row, fault in enumerate(faults, start) if fault is not None})
            if bad and not skip_bad_images:
                raise next(iter(bad.values())).as_error(REMEDY)
            bar.update(len(values))
    if len(bad) == len(images):
        raise ValueError(
            f"`dataset` must hold at least one image that can be decoded, but holds none of {len(images)}."
        )
    if not bad:
        return dataset, []
    return dataset.select([row for row in range(len(images)) if row not in bad]), list(bad.values())


def _open(value: dict[str, Any] | None) -> PIL.Image.Image:
    if value is None:
        raise ValueError("it is missing")
    if value["bytes"] is not None:
        return open_image(BytesIO(value["bytes"]))
    if value["path"] is not None and os.path.isfile(value["path"]):
        return open_image(value["path"])
    image: PIL.Image.Image = _IMAGE.decode_example(value)  # from an archive, or from another machine
    return image


def _find_fault(value: dict[str, Any] | None, name: str) -> BadImage | None:
    found = try_decode(value, name)
    return found if isinstance(found, BadImage) else None


def _bad_image(value: dict[str, Any] | None, name: str, error: Exception) -> BadImage:
    path = None if value is None else value["path"]
    return BadImage(path or name, decode_fault(error))
