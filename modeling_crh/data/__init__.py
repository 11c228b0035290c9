"""Open any data source as labelled rows, and divide it into train, validation, query and database."""

from modeling_crh.data.benchmarks import BENCHMARKS, PROTOCOLS, find_protocol, read_benchmark
from modeling_crh.data.benchmarks.large_images import nabirds_hierarchy
from modeling_crh.data.columns import (
    LEVELS,
    class_levels,
    count_unlabelled,
    has_levels,
    is_multi_label,
    label_names,
    label_tensor,
)
from modeling_crh.data.load_splits import LoadedSplits, load_benchmark, load_splits, read_parts
from modeling_crh.data.open_source import OpenedSource, Row, open_source
from modeling_crh.data.prepared import prepare_dataset
from modeling_crh.data.rows import BadRow
from modeling_crh.data.splits import OFFICIAL, Protocol, held_out_rows, split_rows
from modeling_crh.data_source import DataSource, Division, options_of

__all__ = [
    "BENCHMARKS",
    "LEVELS",
    "OFFICIAL",
    "PROTOCOLS",
    "BadRow",
    "DataSource",
    "Division",
    "LoadedSplits",
    "OpenedSource",
    "Protocol",
    "Row",
    "class_levels",
    "count_unlabelled",
    "find_protocol",
    "has_levels",
    "held_out_rows",
    "is_multi_label",
    "label_names",
    "label_tensor",
    "load_benchmark",
    "load_splits",
    "nabirds_hierarchy",
    "open_source",
    "options_of",
    "prepare_dataset",
    "read_benchmark",
    "read_parts",
    "split_rows",
]
