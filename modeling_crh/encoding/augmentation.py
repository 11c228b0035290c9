"""Reproducible augmentation: each draw depends only on seed, epoch and sample number."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from modeling_crh.checks import is_number

NUM_DRAWS = 15


@dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation before the image processor; the default changes nothing.

    Args:
        padding: Largest shift, as a share of height and width; the image is filled up with black.
        min_area: Smallest area of a cut-out, as a share of the image. Its sides relate from 3:4 to 4:3 as far as the
            image allows, and it is resized to the input size of the model. 1 cuts nothing.
        flip: Probability of swapping left and right.
        jitter: Brightness, contrast and saturation change by a factor from `1 - jitter` to `1 + jitter` each.
        erasing: Probability of blackening a rectangle of 2 to 20 % of the area.

    Raises:
        ValueError: If a setting is not a number from 0 to 1, or `min_area` is 0.
    """

    padding: float = 0.0
    min_area: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not is_number(value) or not 0 <= value <= 1:
                raise ValueError(f"`{field.name}` must be a number from 0 to 1, but got {value!r}.")
        if self.min_area == 0:
            raise ValueError("`min_area` must be above 0, but got 0.")


PRESETS = {
    "none": Augmentation(),
    "light": Augmentation(padding=0.1, flip=0.5),
    "standard": Augmentation(min_area=0.35, flip=0.5, jitter=0.2),
}
"""`light` is for images of about 28 to 64 pixels, `standard` for photographs at 224."""


def sample_draws(seed: int, epoch: int, index: int) -> NDArray[np.float64]:
    """Draw uniform numbers for one sample of one epoch, from a counter-based generator.

    Args:
        seed: Seed, 0 or larger.
        epoch: Number of the epoch, 0 or larger.
        index: Number of the sample in its dataset.

    Returns:
        `(15,)` from 0 (inclusive) to 1 (exclusive).

    Example:
        >>> bool((sample_draws(0, 1, 2) == sample_draws(0, 1, 2)).all())
        True
        >>> bool((sample_draws(0, 1, 2) == sample_draws(0, 2, 1)).any())
        False
    """
    counter = [0, index, epoch, 0]  # the generator uses the first word as its own counter
    return np.random.Generator(np.random.Philox(key=seed, counter=counter)).random(NUM_DRAWS)


class TrainTransform:
    """Apply an `Augmentation` to single images.

    Args:
        augmentation: Settings of the augmentation.
        size: Height and width of a resized cut-out (`min_area` below 1); no other setting changes the size.

    Example:
        >>> transform = TrainTransform(PRESETS["light"], size=(28, 28))
        >>> transform(torch.zeros(3, 28, 28, dtype=torch.uint8), sample_draws(seed=0, epoch=0, index=7)).shape
        torch.Size([3, 28, 28])
    """

    def __init__(self, augmentation: Augmentation, size: tuple[int, int]) -> None:
        self.augmentation = augmentation
        self.size = size

    def __call__(self, image: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """Augment one image.

        Args:
            image: Pixels, `(3, H, W)` uint8.
            draws: Uniform numbers from `sample_draws`, `(15,)`. Each setting has its own draws, so changing one setting
                does not affect the others.

        Returns:
            `(3, H, W)` uint8, or `(3, *size)` if `min_area` is below 1.
        """
        settings = self.augmentation
        if settings.padding:
            image = _shift(image, settings.padding, draws[0:2])
        if settings.min_area < 1:
            image = _cut_out(image, settings.min_area, draws[2:6], self.size)
        if draws[6] < settings.flip:
            image = F.horizontal_flip(image)
        if settings.jitter:
            image = _jitter(image, settings.jitter, draws[7:10])
        if draws[10] < settings.erasing:
            image = _erase(image, draws[11:15])
        return image


def _shift(image: Tensor, padding: float, draws: NDArray[np.float64]) -> Tensor:
    height, width = image.shape[-2:]
    most = np.round(np.array([height, width]) * padding)
    top, left = np.floor(draws * (2 * most + 1)) - most  # each whole shift from -most to most is equally likely
    shifted: Tensor = F.crop(image, int(top), int(left), height, width)
    return shifted


def _cut_out(image: Tensor, min_area: float, draws: NDArray[np.float64], size: tuple[int, int]) -> Tensor:
    area = min_area + draws[0] * (1 - min_area)
    ratio = (3 / 4) ** (1 - 2 * draws[1])  # width / height, uniform in its logarithm
    top, left, height, width = _place(image, area, ratio, draws[2:4])
    resized: Tensor = F.resized_crop(image, top, left, height, width, list(size), antialias=True)
    return resized


def _jitter(image: Tensor, jitter: float, draws: NDArray[np.float64]) -> Tensor:
    factors = 1 + jitter * (2 * draws - 1)
    for adjust, factor in zip([F.adjust_brightness, F.adjust_contrast, F.adjust_saturation], factors, strict=True):
        image = adjust(image, float(factor))
    return image


def _erase(image: Tensor, draws: NDArray[np.float64]) -> Tensor:
    area = 0.02 + draws[0] * 0.18
    ratio = (3 / 10) ** (1 - 2 * draws[1])
    top, left, height, width = _place(image, area, ratio, draws[2:4])
    erased: Tensor = F.erase(image, top, left, height, width, torch.zeros(3, 1, 1, dtype=image.dtype))
    return erased


def _place(image: Tensor, area: float, ratio: float, draws: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a rectangle of a share `area` of the image, cut off at its borders."""
    full_height, full_width = image.shape[-2:]
    pixels = area * full_height * full_width
    height = min(max(round((pixels / ratio) ** 0.5), 1), full_height)
    width = min(max(round((pixels * ratio) ** 0.5), 1), full_width)
    top = int(draws[0] * (full_height - height + 1))
    left = int(draws[1] * (full_width - width + 1))
    return top, left, height, width
