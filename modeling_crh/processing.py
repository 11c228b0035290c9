"""What turns images or texts into the inputs of a model: its image processor or tokenizer; features need neither."""

from pathlib import Path

from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_crh.data import Augmentation, FeatureDataset, ImageDataset, LabelledDataset, TextDataset

Processor = BaseImageProcessor | PreTrainedTokenizerBase | None


def load_processor(name: str | Path, main_input_name: str) -> Processor:
    """The image processor or tokenizer that was saved with a model.

    Args:
        name: A folder or a Hub id.
        main_input_name: What the model reads: `pixel_values`, `input_ids` or `features`.

    Raises:
        OSError: If it is not there.
    """
    if main_input_name == "features":
        return None
    if main_input_name == "input_ids":
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
        return tokenizer
    image_processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(name, do_convert_rgb=True)
    return image_processor


def labelled_dataset(
    split: Dataset, processor: Processor, *, augment: Augmentation | str = "none", training: bool = False, seed: int = 0
) -> LabelledDataset:
    """A split as what the model reads.

    Args:
        split: With a column `image`, `text` or `features`, and `label`.
        processor: Of the model.
        augment: Of images.
        training: Whether features with several views a row are to be seen in all of them.
        seed: Of augmentation and views.

    Raises:
        ValueError: If the model does not read what the split holds.
    """
    if "features" in split.column_names and processor is None:
        return FeatureDataset(split, first_view=not training, seed=seed)
    if "text" in split.column_names and isinstance(processor, PreTrainedTokenizerBase):
        return TextDataset(split, processor)
    if "image" in split.column_names and isinstance(processor, BaseImageProcessor):
        return ImageDataset(split, processor, augment=augment, seed=seed)
    reads = "features" if processor is None else "text" if isinstance(processor, PreTrainedTokenizerBase) else "image"
    raise ValueError(f"`dataset` must have a column {reads!r}, which the model reads, but has {split.column_names}.")


def model_inputs(batch: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """A batch of a `LabelledDataset` without its labels, on the device and in the precision of a model."""
    return {
        name: values.to(model.device, model.dtype if values.is_floating_point() else None)
        for name, values in batch.items()
        if name != "labels"
    }
