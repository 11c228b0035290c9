"""The torch dataset of images, with reproducible augmentation, and the choice of the dataset for a split."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from transformers import BaseImageProcessor, PreTrainedTokenizerBase, SequenceFeatureExtractor

from modeling_crh.checks import check_whole, is_number
from modeling_crh.data.columns import without_decoding
from modeling_crh.data.rows import PLURALS, Kind
from modeling_crh.encoding.inputs import Processor, make_inputs
from modeling_crh.encoding.labelled_items import (
    FeatureDataset,
    LabelledDataset,
    SoundDataset,
    TextDataset,
    sample_draws,
)
from modeling_crh.images import needed_side, read_pixels
from modeling_crh.processors import plain_image_processor
from modeling_crh.runtime.terminal import progress_bar


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
    return F.crop(image, int(top), int(left), height, width)


def _cut_out(image: Tensor, min_area: float, draws: NDArray[np.float64], size: tuple[int, int]) -> Tensor:
    area = min_area + draws[0] * (1 - min_area)
    ratio = (3 / 4) ** (1 - 2 * draws[1])  # width / height, uniform in its logarithm
    top, left, height, width = _place(image, area, ratio, draws[2:4])
    return F.resized_crop(image, top, left, height, width, list(size), antialias=True)


def _jitter(image: Tensor, jitter: float, draws: NDArray[np.float64]) -> Tensor:
    factors = 1 + jitter * (2 * draws - 1)
    for adjust, factor in zip([F.adjust_brightness, F.adjust_contrast, F.adjust_saturation], factors, strict=True):
        image = adjust(image, float(factor))
    return image


def _erase(image: Tensor, draws: NDArray[np.float64]) -> Tensor:
    area = 0.02 + draws[0] * 0.18
    ratio = (3 / 10) ** (1 - 2 * draws[1])
    top, left, height, width = _place(image, area, ratio, draws[2:4])
    return F.erase(image, top, left, height, width, torch.zeros(3, 1, 1, dtype=image.dtype))


def _place(image: Tensor, area: float, ratio: float, draws: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a rectangle of a share `area` of the image, cut off at its borders."""
    full_height, full_width = image.shape[-2:]
    pixels = area * full_height * full_width
    height = min(max(round((pixels / ratio) ** 0.5), 1), full_height)
    width = min(max(round((pixels * ratio) ** 0.5), 1), full_width)
    top = int(draws[0] * (full_height - height + 1))
    left = int(draws[1] * (full_width - width + 1))
    return top, left, height, width


class ImageDataset(LabelledDataset):
    """Map-style dataset of `pixel_values` and `labels`.

    Without `augment` the pixels are those of `image_processor` called by hand, so training, evaluation and the pipeline
    agree. With `augment` the RGB image is augmented first; where that cuts out a rectangle (`min_area` below 1), which
    it resizes itself, the processor's own resizing and center crop are switched off.

    The augmentation of sample i in epoch e depends on `seed`, e and i only: not on the order, the batch, the worker
    process or any global generator.

    Args:
        dataset: A prepared dataset with the columns `image` and `label`.
        image_processor: Image processor of the model. It must make all images the same size.
        augment: Settings of the augmentation, or the name of one of `PRESETS`.
        seed: Seed of the augmentation, 0 or larger.
        cache_bytes: Images are decoded once and held as uint8 if all have one size and take no more bytes than this.

    Raises:
        ValueError: If `augment` is no preset, `seed` is no whole number from 0 up, `dataset` is empty or has no images,
            the first of them is broken, or `image_processor` makes no pixels of it.

    Example:
        >>> from transformers import ViTImageProcessor
        >>> from modeling_crh.data import load_benchmark
        >>> processor = ViTImageProcessor(size={"height": 32, "width": 32}, do_convert_rgb=True)
        >>> train = ImageDataset(load_benchmark("fashion_mnist_sample")["train"], processor, augment="light")
        >>> train[0]["pixel_values"].shape
        torch.Size([3, 32, 32])
    """

    def __init__(
        self,
        dataset: Dataset,
        image_processor: BaseImageProcessor,
        *,
        augment: Augmentation | str = "none",
        seed: int = 0,
        cache_bytes: int = 512 * 2**20,
    ) -> None:
        if not isinstance(augment, Augmentation) and (not isinstance(augment, str) or augment not in PRESETS):
            raise ValueError(f"`augment` must be an Augmentation or one of {', '.join(PRESETS)}, but got {augment!r}.")
        check_whole("seed", seed, least=0)
        super().__init__(dataset)
        self.seed = seed
        self._images = without_decoding(dataset, "image")
        image_processor = plain_image_processor(image_processor)
        self._least_side = needed_side(image_processor)
        self._cache = _decode_all(self._images, self._least_side, cache_bytes)
        augmentation = PRESETS[augment] if isinstance(augment, str) else augment
        self._transform, self._processor = None, image_processor
        first = make_inputs([self._decode(0)], image_processor)["pixel_values"]  # wrong settings fail here
        if augmentation != PRESETS["none"]:
            self._transform = TrainTransform(augmentation, (first.shape[-2], first.shape[-1]))
        if augmentation.min_area < 1:
            self._processor = copy.deepcopy(image_processor)
            vars(self._processor).update(do_resize=False, do_center_crop=False)

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`pixel_values` of some rows, `(len(rows), 3, H, W)`; `samples` number their augmentations.

        Raises:
            ValueError: If an image cannot be decoded.
        """
        images = [self._decode(row) for row in rows]
        if self._transform is not None:
            draws = [sample_draws(self.seed, self.epoch, sample) for sample in (rows if samples is None else samples)]
            images = [self._transform(image, drawn) for image, drawn in zip(images, draws, strict=True)]
        return make_inputs(images, self._processor)

    def _decode(self, index: int) -> Tensor:
        if self._cache is not None:
            return self._cache[index]
        return read_pixels(self._images[index]["image"], f"row {index}", self._least_side)


def labelled_dataset(
    split: Dataset, processor: Processor, *, augment: Augmentation | str = "none", training: bool = False, seed: int = 0
) -> LabelledDataset:
    """Make a split the dataset that a model reads.

    Args:
        split: A prepared dataset with a column `image`, `audio`, `text` or `features`, and `label`.
        processor: Image processor, feature extractor or tokenizer of the model; None where it reads features.
        augment: Augmentation of images.
        training: Whether features with several views a row are to be seen in all of them.
        seed: Seed of augmentation and views.

    Raises:
        ValueError: If the model does not read what the split holds.
    """
    kinds: dict[Any, Kind] = {PreTrainedTokenizerBase: "text", BaseImageProcessor: "image"}
    kinds[SequenceFeatureExtractor] = "audio"
    reads: Kind = next((kind for class_, kind in kinds.items() if isinstance(processor, class_)), "features")
    if reads not in split.column_names:
        held = " and ".join(plural for kind, plural in PLURALS.items() if kind in split.column_names)
        raise ValueError(f"`dataset` must hold {PLURALS[reads]}, which the model reads, but holds {held or 'none'}.")
    if reads == "features":
        return FeatureDataset(split, first_view=not training, seed=seed)
    if reads == "image":
        return ImageDataset(split, cast(BaseImageProcessor, processor), augment=augment, seed=seed)
    return TextDataset(split, cast(Any, processor)) if reads == "text" else SoundDataset(split, cast(Any, processor))


def _decode_all(images: Dataset, least_side: int | None, cache_bytes: int) -> Tensor | None:
    """Decode all images, `(N, 3, H, W)` uint8; None if they differ in size or take more than `cache_bytes`."""
    shape = read_pixels(images[0]["image"], "row 0", least_side).shape
    if shape.numel() * len(images) > cache_bytes:
        return None
    cache = torch.empty(len(images), *shape, dtype=torch.uint8)
    for start in progress_bar(range(0, len(images), 256), desc="Decoding images", unit="batch"):
        for row, value in enumerate(images[start : start + 256]["image"], start):
            if (image := read_pixels(value, f"row {row}", least_side)).shape != shape:
                return None
            cache[row] = image
    return cache
