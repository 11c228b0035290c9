"""A prepared dataset as what a training loop reads: pixels and labels."""

import copy
from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor
from transformers import BaseImageProcessor

from modeling_crh.checks import check_seed
from modeling_crh.data.images import decode_image, without_decoding
from modeling_crh.data.labelled_dataset import LabelledDataset
from modeling_crh.data.transforms import PRESETS, Augmentation, TrainTransform, sample_draws
from modeling_crh.progress_bar import progress_bar


class ImageDataset(LabelledDataset):
    """Map-style dataset of `pixel_values` and `labels`.

    Without `augment` the pixels are those of `image_processor` called by hand, so training, evaluation and the pipeline
    agree. With `augment`, the RGB image is augmented first; where that cuts out a rectangle (`min_area` below 1), which
    it resizes itself, the processor's own resizing and center crop are switched off.

    The augmentation of sample i in epoch e depends on `seed`, e and i only: not on the order, the batch, the worker
    process or any global generator.

    Args:
        dataset: A prepared dataset: columns `image` and `label`.
        image_processor: Of the checkpoint. It must make all images the same size.
        augment: Settings, or the name of one of `PRESETS`.
        seed: 0 or larger.
        cache_bytes: Images are decoded once and held as uint8 if all have one size and take no more than this.

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
        check_seed(seed)
        super().__init__(dataset)
        self.seed = seed
        self._images = without_decoding(dataset)
        self._cache = _decode_all(self._images, cache_bytes)
        augmentation = PRESETS[augment] if isinstance(augment, str) else augment
        self._transform = None
        self._processor = image_processor
        size = self._process([self._decode(0)]).shape[-2:]  # settings that cannot work fail here, and not in training
        if augmentation != PRESETS["none"]:
            self._transform = TrainTransform(augmentation, (size[0], size[1]))
        if augmentation.min_area < 1:
            self._processor = copy.deepcopy(image_processor)
            vars(self._processor).update(do_resize=False, do_center_crop=False)

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`pixel_values` of some rows, `(len(indices), 3, H, W)`.

        Raises:
            ValueError: If an image cannot be decoded.
        """
        images = [self._decode(index) for index in indices]
        if self._transform is not None:
            images = [
                self._transform(image, sample_draws(self.seed, self.epoch, index))
                for image, index in zip(images, indices, strict=True)
            ]
        return {"pixel_values": self._process(images)}

    def _decode(self, index: int) -> Tensor:
        if self._cache is not None:
            return self._cache[index]
        return decode_image(self._images[index]["image"], f"row {index}")

    def _process(self, images: list[Tensor]) -> Tensor:
        return process_images(self._processor, images)


def process_images(image_processor: BaseImageProcessor, images: list[Tensor]) -> Tensor:
    """`pixel_values` of decoded images, `(N, 3, H, W)`.

    Args:
        image_processor: Of the checkpoint.
        images: Each `(3, H, W)` uint8.

    Raises:
        ValueError: If the processor makes pixels of several sizes, or none.
    """
    try:
        pixels: Tensor = image_processor(images, return_tensors="pt")["pixel_values"]
    except Exception as error:  # each processor raises what its settings lead to
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"`image_processor` must make pixels of one size, but cannot: {reason}.") from error
    return pixels


def _decode_all(images: Dataset, cache_bytes: int) -> Tensor | None:
    """All images as `(N, 3, H, W)` uint8, or None if they differ in size or take more than `cache_bytes`."""
    first = decode_image(images[0]["image"], "row 0")
    if first.numel() * len(images) > cache_bytes:
        return None
    cache = torch.empty(len(images), *first.shape, dtype=torch.uint8)
    for start in progress_bar(range(0, len(images), 256), desc="Decoding images", unit="batch"):
        for row, value in enumerate(images[start : start + 256]["image"], start):
            image = decode_image(value, f"row {row}")
            if image.shape != first.shape:
                return None
            cache[row] = image
    return cache
