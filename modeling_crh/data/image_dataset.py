"""A prepared dataset as what a training loop reads: pixels and labels."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from datasets.utils import tqdm
from torch import Tensor
from transformers import BaseImageProcessor

from modeling_crh.data.columns import is_multi_label, label_names, label_tensor
from modeling_crh.data.images import decode_image, without_decoding
from modeling_crh.data.transforms import PRESETS, Augmentation, TrainTransform, sample_draws


class ImageDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Map-style dataset of `pixel_values` and `labels`.

    Without `augment` the pixels are those of `image_processor` called by hand, so training, evaluation and the pipeline
    agree. With `augment`, the RGB image is augmented first; where that cuts out a rectangle (`min_area` below 1), which
    it resizes itself, the processor's own resizing and center crop are switched off.

    The augmentation of sample i in epoch e depends on `seed`, e and i only: not on the order, the batch, the worker
    process or any global generator. The epoch lies in shared memory, so worker processes that outlive an epoch see
    `set_epoch` too.

    Args:
        dataset: A prepared dataset: columns `image` and `label`.
        image_processor: Of the checkpoint. It must make all images the same size.
        augment: Settings, or the name of one of `PRESETS`.
        seed: 0 or larger.
        cache_bytes: Images are decoded once and held as uint8 if all have one size and take no more than this.

    Raises:
        ValueError: If `augment` is no preset, `seed` is negative, `dataset` is empty, or the first image is broken.

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
        if isinstance(augment, str) and augment not in PRESETS:
            raise ValueError(f"`augment` must be an Augmentation or one of {', '.join(PRESETS)}, but got {augment!r}.")
        if seed < 0:
            raise ValueError(f"`seed` must be 0 or larger, but got {seed}.")
        if len(dataset) == 0:
            raise ValueError("`dataset` must hold at least one image, but is empty.")
        self.labels: Tensor = label_tensor(dataset)  # (N,) int64 or (N, C) float32
        self.label_names = label_names(dataset)
        self.is_multi_label = is_multi_label(dataset)
        self.seed = seed
        self._images = without_decoding(dataset)
        self._cache = _decode_all(self._images, cache_bytes)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        augmentation = PRESETS[augment] if isinstance(augment, str) else augment
        self._transform = None
        self._processor = image_processor
        if augmentation != PRESETS["none"]:
            size = self._process([self._decode(0)]).shape[-2:]
            self._transform = TrainTransform(augmentation, (size[0], size[1]))
        if augmentation.min_area < 1:
            self._processor = copy.deepcopy(image_processor)
            vars(self._processor).update(do_resize=False, do_center_crop=False)

    @property
    def num_labels(self) -> int:
        """Number of classes, C."""
        return len(self.label_names)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next samples are augmented for; `accelerate` and `CRHTrainer` call this."""
        if epoch < 0:
            raise ValueError(f"`epoch` must be 0 or larger, but got {epoch}.")
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: see `__getitems__`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples, processed at once; torch's `DataLoader` calls this for a batch.

        Returns:
            For each index `{"pixel_values": (3, H, W) float, "labels": int64 scalar or (C,) float32}`.

        Raises:
            IndexError: If an index is not from 0 to N-1.
            ValueError: If an image cannot be decoded, or `image_processor` makes images of several sizes.
        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"`index` must be from 0 to N-1={len(self) - 1}, but got {index}.")
        images = [self._decode(index) for index in indices]
        if self._transform is not None:
            epoch = int(self._epoch)
            images = [
                self._transform(image, sample_draws(self.seed, epoch, index))
                for image, index in zip(images, indices, strict=True)
            ]
        pixels = self._process(images)  # (len(indices), 3, H, W)
        return [
            {"pixel_values": values, "labels": self.labels[index]}
            for values, index in zip(pixels, indices, strict=True)
        ]

    def _decode(self, index: int) -> Tensor:
        if self._cache is not None:
            return self._cache[index]
        return decode_image(self._images[index]["image"], f"row {index}")

    def _process(self, images: list[Tensor]) -> Tensor:
        try:
            pixels: Tensor = self._processor(images, return_tensors="pt")["pixel_values"]
        except ValueError as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise ValueError(f"`image_processor` must make images of one size, but cannot: {reason}.") from error
        return pixels


def _decode_all(images: Dataset, cache_bytes: int) -> Tensor | None:
    """All images as `(N, 3, H, W)` uint8, or None if they differ in size or take more than `cache_bytes`."""
    first = decode_image(images[0]["image"], "row 0")
    if first.numel() * len(images) > cache_bytes:
        return None
    cache = torch.empty(len(images), *first.shape, dtype=torch.uint8)
    for start in tqdm(range(0, len(images), 256), desc="Decoding images", unit="batch", delay=2):
        for row, value in enumerate(images[start : start + 256]["image"], start):
            image = decode_image(value, f"row {row}")
            if image.shape != first.shape:
                return None
            cache[row] = image
    return cache
