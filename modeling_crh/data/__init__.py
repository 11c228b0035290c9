"""Labelled images, texts and features, in the splits `train`, `validation`, `query` and `database`."""

from modeling_crh.data.benchmarks import BENCHMARKS, benchmark_rows, load_benchmark, read_benchmark
from modeling_crh.data.benchmarks.nabirds import nabirds_hierarchy
from modeling_crh.data.columns import (
    LEVELS,
    class_levels,
    count_unlabelled,
    has_levels,
    is_multi_label,
    label_names,
    label_tensor,
)
from modeling_crh.data.folder import load_folder
from modeling_crh.data.images import BadImage, check_images
from modeling_crh.data.load_splits import load_splits, read_parts
from modeling_crh.data.prepare import prepare_dataset, prepare_table
from modeling_crh.data.protocols import OFFICIAL, PROTOCOLS, Protocol, find_protocol
from modeling_crh.data.sources import Source, SourceRow, open_source
from modeling_crh.data.splits import held_out_rows, split_dataset, split_rows
from modeling_crh.data.tables import load_table, read_table

__all__ = [
    "BENCHMARKS",
    "LEVELS",
    "OFFICIAL",
    "PROTOCOLS",
    "BadImage",
    "Protocol",
    "Source",
    "SourceRow",
    "benchmark_rows",
    "check_images",
    "class_levels",
    "count_unlabelled",
    "find_protocol",
    "has_levels",
    "held_out_rows",
    "is_multi_label",
    "label_names",
    "label_tensor",
    "load_benchmark",
    "load_folder",
    "load_splits",
    "load_table",
    "nabirds_hierarchy",
    "open_source",
    "prepare_dataset",
    "prepare_table",
    "read_benchmark",
    "read_parts",
    "read_table",
    "split_dataset",
    "split_rows",
]
