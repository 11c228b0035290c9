"""Small rows, codes and folders of shards."""

import dataclasses

import numpy as np

from modeling_crh.data import Row
from modeling_crh.encoding.manifest import EncodingRecord
from modeling_crh.encoding.shards import CodeShards

RECORD = EncodingRecord(
    model="runs/a",
    revision="",
    weights="abc",
    num_bits=16,
    source="/photos",
    source_version="1",
    options={"label_column": "label"},
    shard_size=3,
)


def rows(*ids):
    return [Row(number, f"{number}.png", "ant" if number % 2 else None, None) for number in ids]


def packed(*ids):
    return np.array([[number, 255] for number in ids], np.uint8).reshape(len(ids), 2)


def open_shards(folder, label_type=None, **fields):
    return CodeShards(folder, dataclasses.replace(RECORD, **fields), label_type)
