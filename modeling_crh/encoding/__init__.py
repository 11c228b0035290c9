"""Encode items into codes or features, in memory or into folders of parquet files."""

from modeling_crh.encoding.encode import EncodedItems, EncodedSource, encode_items, encode_source
from modeling_crh.encoding.encoder import Encoder, run_batches
from modeling_crh.encoding.items import PRESETS, Augmentation, ImageDataset, TrainTransform, labelled_dataset
from modeling_crh.encoding.labelled_items import (
    FeatureDataset,
    LabelledDataset,
    SoundDataset,
    TextDataset,
    sample_draws,
)
from modeling_crh.encoding.loading import load_backbone, load_checkpoint, load_model

__all__ = [
    "PRESETS",
    "Augmentation",
    "EncodedItems",
    "EncodedSource",
    "Encoder",
    "FeatureDataset",
    "ImageDataset",
    "LabelledDataset",
    "SoundDataset",
    "TextDataset",
    "TrainTransform",
    "encode_items",
    "encode_source",
    "labelled_dataset",
    "load_backbone",
    "load_checkpoint",
    "load_model",
    "run_batches",
    "sample_draws",
]
