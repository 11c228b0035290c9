"""Encode items into codes or features: inputs, batches, device, shards and the manifest of a folder of codes."""

from modeling_crh.encoding.augmentation import PRESETS, Augmentation, TrainTransform, sample_draws
from modeling_crh.encoding.encode import EncodedItems, encode_batches, encode_items
from modeling_crh.encoding.items import FeatureDataset, ImageDataset, LabelledDataset, TextDataset

__all__ = [
    "PRESETS",
    "Augmentation",
    "EncodedItems",
    "FeatureDataset",
    "ImageDataset",
    "LabelledDataset",
    "TextDataset",
    "TrainTransform",
    "encode_batches",
    "encode_items",
    "sample_draws",
]
