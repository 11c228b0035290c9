"""Torch datasets of prepared rows: the inputs of a model, and labels."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedTokenizerBase, SequenceFeatureExtractor

from modeling_crh.checks import check_seed
from modeling_crh.data.bad_rows import PLURALS, Kind, numbers_of
from modeling_crh.data.columns import without_decoding
from modeling_crh.encoding.augmentation import PRESETS, Augmentation, TrainTransform, sample_draws
from modeling_crh.encoding.inputs import Processor, make_inputs
from modeling_crh.encoding.labelled_items import LabelledDataset
from modeling_crh.images import needed_side, read_pixels
from modeling_crh.processors import plain_image_processor
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.sounds import read_sound


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
        check_seed(seed)
        super().__init__(dataset)
        self.seed = seed
        self._images = without_decoding(dataset, "image")
        self._least_side = needed_side(plain_image_processor(image_processor))
        self._cache = _decode_all(self._images, self._least_side, cache_bytes)
        augmentation = PRESETS[augment] if isinstance(augment, str) else augment
        self._transform = None
        self._processor = image_processor = plain_image_processor(image_processor)
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
            images = [
                self._transform(image, sample_draws(self.seed, self.epoch, sample))
                for image, sample in zip(images, rows if samples is None else samples, strict=True)
            ]
        return make_inputs(images, self._processor)

    def _decode(self, index: int) -> Tensor:
        if self._cache is not None:
            return self._cache[index]
        return read_pixels(self._images[index]["image"], f"row {index}", self._least_side)


class SoundDataset(LabelledDataset):
    """Map-style dataset of what a feature extractor makes of sounds, and `labels`; see `sound_inputs` for its padding.

    Args:
        dataset: A prepared dataset with the columns `audio` and `label`.
        feature_extractor: Feature extractor of the model.

    Raises:
        ValueError: If `dataset` is empty or has no sounds, the first of them is broken, or `feature_extractor` cannot
            work.
        ModuleNotFoundError: If the package that decodes sound is not installed.
    """

    def __init__(self, dataset: Dataset, feature_extractor: SequenceFeatureExtractor) -> None:
        super().__init__(dataset)
        self._sounds = without_decoding(dataset, "audio")
        self._feature_extractor = feature_extractor
        self.inputs([0])  # wrong settings fail here

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`input_values` or `input_features`, and perhaps `attention_mask`, each of `len(rows)` rows.

        Raises:
            ValueError: If a sound cannot be decoded.
        """
        sounds = [read_sound(self._sounds[row]["audio"], f"row {row}") for row in rows]
        return make_inputs(sounds, self._feature_extractor)


class TextDataset(LabelledDataset):
    """Map-style dataset of tokens and `labels`; the texts of a batch are padded to the longest of them.

    Args:
        dataset: A prepared dataset with the columns `text` and `label`.
        tokenizer: Tokenizer of the model; it must be able to pad.
        max_length: Tokens to keep of a text; None keeps as many as the tokenizer says that its model takes.

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
        self._tokenizer, self._max_length = tokenizer, max_length

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and what else the tokenizer gives, each `(len(rows), T)`."""
        return make_inputs([self._texts[row] for row in rows], self._tokenizer, max_length=self._max_length)


class FeatureDataset(LabelledDataset):
    """Map-style dataset of `features` and `labels`, all of it in memory.

    Where a row holds several views of one item, such as the features of augmented images, training sees one of them an
    epoch, chosen by `seed`, the epoch and the row alone; `first_view` keeps to the first, which is for evaluation.

    Args:
        dataset: A prepared dataset with the columns `features`, `(F,)` or `(V, F)` numbers a row, and `label`.
        first_view: Take the first view of every row in every epoch.
        seed: Seed of the choice of views, 0 or larger.

    Attributes:
        num_features: Width of a row, F.

    Raises:
        ValueError: If `seed` is no whole number from 0 up, `dataset` is empty, or its features are not finite numbers
            of one shape.

    Example:
        >>> from modeling_crh.data import prepare_dataset
        >>> table = Dataset.from_dict({"clip": [[0.0, 1.0], [1.0, 0.0]], "label": ["cat", "dog"]})
        >>> FeatureDataset(prepare_dataset(table, features_column="clip"))[1]
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

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`features` of some rows, `(len(rows), F)` float32; `samples` number the choices of a view."""
        num_views = self._features.shape[1]
        views = torch.zeros(len(rows), dtype=torch.int64)
        if num_views > 1 and not self._first_view:
            draws = [
                sample_draws(self.seed, self.epoch, sample)[0] for sample in (rows if samples is None else samples)
            ]
            views = torch.tensor([int(draw * num_views) for draw in draws])
        return {"features": self._features[torch.as_tensor(rows), views]}


def _feature_tensor(dataset: Dataset) -> Tensor:
    if "features" not in dataset.column_names:
        raise ValueError(f"`dataset` must have a column `features`, but has {dataset.column_names}.")
    features = numbers_of(dataset.with_format("arrow")[:]["features"])
    if features is None:
        try:
            features = np.asarray(dataset.with_format(None)[:]["features"], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`features` must hold numbers of one shape in every row, but do not: {error}") from error
    if features.ndim not in (2, 3) or 0 in features.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but are {features.shape} in all.")
    finite = np.isfinite(features).reshape(len(features), -1).all(1)
    if not finite.all():
        raise ValueError(f"`features` must be finite, but row {int(np.argmin(finite))} is not.")
    writable = np.require(features, requirements="W")  # what Arrow holds is read-only, which torch warns of
    return torch.from_numpy(writable.reshape(len(features), -1, features.shape[-1]))


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
    if "features" in split.column_names and processor is None:
        return FeatureDataset(split, first_view=not training, seed=seed)
    if "text" in split.column_names and isinstance(processor, PreTrainedTokenizerBase):
        return TextDataset(split, processor)
    if "image" in split.column_names and isinstance(processor, BaseImageProcessor):
        return ImageDataset(split, processor, augment=augment, seed=seed)
    if "audio" in split.column_names and isinstance(processor, SequenceFeatureExtractor):
        return SoundDataset(split, processor)
    kinds: dict[type, Kind] = {
        PreTrainedTokenizerBase: "text",
        BaseImageProcessor: "image",
        SequenceFeatureExtractor: "audio",
    }
    reads: Kind = next((kind for class_, kind in kinds.items() if isinstance(processor, class_)), "features")
    held = " and ".join(plural for kind, plural in PLURALS.items() if kind in split.column_names)
    raise ValueError(f"`dataset` must hold {PLURALS[reads]}, which the model reads, but holds {held or 'none'}.")


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
