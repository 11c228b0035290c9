"""Torch datasets of prepared rows: model inputs and labels."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedTokenizerBase

from modeling_crh.checks import check_seed, is_whole
from modeling_crh.data.columns import check_dataset, is_multi_label, label_names, label_tensor
from modeling_crh.data.images import decode_image, without_decoding
from modeling_crh.encoding.augmentation import PRESETS, Augmentation, TrainTransform, sample_draws
from modeling_crh.runtime.terminal import progress_bar


class LabelledDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Map-style dataset of the inputs of a model and `labels`; `ImageDataset`, `TextDataset` and `FeatureDataset` are.

    Samples of a batch are made at once: torch's `DataLoader` calls `__getitems__`, and a subclass implements `inputs`.
    The epoch lies in shared memory, so worker processes that outlive an epoch see `set_epoch` too.

    Args:
        dataset: A prepared dataset: a column `label` beside what the subclass reads.

    Attributes:
        labels: `(N,)` int64 with one class a row, or `(N, C)` float32 of 0 and 1.
        label_names: Names of the C classes, in the order of their ids.
        is_multi_label: Which of the two.

    Raises:
        ValueError: If `dataset` is no single split, is empty, or has no such column.
    """

    def __init__(self, dataset: Dataset) -> None:
        check_dataset(dataset)
        self.labels: Tensor = label_tensor(dataset)
        self.label_names = label_names(dataset)
        self.is_multi_label = is_multi_label(dataset)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def num_labels(self) -> int:
        """Number of classes, C."""
        return len(self.label_names)

    @property
    def epoch(self) -> int:
        """The epoch that samples are made for, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next samples are made for; `accelerate` and `CRHTrainer` call this."""
        if not is_whole(epoch) or epoch < 0:
            raise ValueError(f"`epoch` must be a whole number, 0 or larger, but got {epoch!r}.")
        self._epoch.fill_(epoch)

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Inputs of the model for some rows: each a tensor of `len(indices)` rows."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: see `__getitems__`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples, made at once.

        Returns:
            For each index its inputs, and `labels` as an int64 scalar or `(C,)` float32.

        Raises:
            IndexError: If an index is not from 0 to N-1.
        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"`index` must be from 0 to N-1={len(self) - 1}, but got {index}.")
        inputs = self.inputs(indices)
        return [
            {name: values[row] for name, values in inputs.items()} | {"labels": self.labels[index]}
            for row, index in enumerate(indices)
        ]


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


class TextDataset(LabelledDataset):
    """Map-style dataset of tokens and `labels`; the texts of a batch are padded to the longest of them.

    Args:
        dataset: Columns `text` and `label`.
        tokenizer: Of the checkpoint; it must be able to pad.
        max_length: Tokens to keep of a text. None stands for as many as the tokenizer says that its model takes.

    Raises:
        ValueError: If `dataset` is empty, a text is missing, or the tokenizer has no padding token.
    """

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None) -> None:
        super().__init__(dataset)
        if "text" not in dataset.column_names:
            raise ValueError(f"`dataset` must have a column `text`, but has {dataset.column_names}.")
        if tokenizer.pad_token is None:
            raise ValueError("`tokenizer` must have a padding token, but has none.")
        self._texts: list[str] = list(dataset["text"])
        for row, text in enumerate(self._texts):
            if not isinstance(text, str):
                raise ValueError(f"`text` must be a string, but row {row} has {text!r}.")
        self._tokenizer = tokenizer
        self._max_length = max_length

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and what else the tokenizer gives, each `(len(indices), T)`."""
        texts = [self._texts[index] for index in indices]
        return dict(
            self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt")
        )


class FeatureDataset(LabelledDataset):
    """Map-style dataset of `features` and `labels`, all of it in memory.

    Where a row holds several views of one item, such as the features of augmented images, training sees one of them an
    epoch, chosen by `seed`, the epoch and the row alone; `first_view` keeps to the first, which is for evaluation.

    Args:
        dataset: Columns `features`, `(F,)` or `(V, F)` numbers a row, and `label`.
        first_view: Take the first view of every row in every epoch.
        seed: 0 or larger.

    Attributes:
        num_features: F.

    Raises:
        ValueError: If `seed` is no whole number from 0 up, `dataset` is empty, or its features are not finite numbers
            of one shape.

    Example:
        >>> from modeling_crh.data import prepare_table
        >>> table = Dataset.from_dict({"clip": [[0.0, 1.0], [1.0, 0.0]], "label": ["cat", "dog"]})
        >>> FeatureDataset(prepare_table(table, features_column="clip"))[1]
        {'features': tensor([1., 0.]), 'labels': tensor(1)}
    """

    def __init__(self, dataset: Dataset, *, first_view: bool = False, seed: int = 0) -> None:
        super().__init__(dataset)
        check_seed(seed)
        self._features = _feature_tensor(dataset)  # (N, V, F)
        self._first_view = first_view
        self.seed = seed

    @property
    def num_features(self) -> int:
        """Width of a row, F."""
        return self._features.shape[2]

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`features` of some rows, `(len(indices), F)` float32."""
        rows = torch.as_tensor(indices)
        num_views = self._features.shape[1]
        views = torch.zeros_like(rows)
        if num_views > 1 and not self._first_view:
            draws = [sample_draws(self.seed, self.epoch, index)[0] for index in indices]
            views = torch.tensor([int(draw * num_views) for draw in draws])
        return {"features": self._features[rows, views]}


def _feature_tensor(dataset: Dataset) -> Tensor:
    if "features" not in dataset.column_names:
        raise ValueError(f"`dataset` must have a column `features`, but has {dataset.column_names}.")
    try:
        features = np.asarray(dataset.with_format("numpy")[:]["features"], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`features` must hold numbers of one shape in every row, but do not: {error}") from error
    if features.ndim not in (2, 3) or 0 in features.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but are {features.shape} in all.")
    finite = np.isfinite(features).reshape(len(features), -1).all(1)
    if not finite.all():
        raise ValueError(f"`features` must be finite, but row {int(np.argmin(finite))} is not.")
    return torch.from_numpy(features.reshape(len(features), -1, features.shape[-1]))
