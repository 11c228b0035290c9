from pathlib import Path

import numpy as np
import pytest
from datasets import Image

from modeling_crh.data import load_benchmark, load_splits, read_benchmark
from modeling_crh.data.columns import label_tensor


@pytest.mark.parametrize("kind", [str, Path])
def test_the_training_set_is_the_database_and_the_test_set_the_queries(idx_folder, kind):
    splits = load_benchmark("fashion_mnist", kind(idx_folder), validation_fraction=0.25)
    assert splits.num_rows == {"train": 30, "validation": 10, "query": 20, "database": 40}
    assert label_tensor(splits["validation"]).bincount().tolist() == [1] * 10


def contents(dataset):
    return [image["bytes"] for image in dataset.cast_column("image", Image(decode=False))["image"]]


@pytest.mark.parametrize("protocol", ["official", "disjoint"])
def test_the_rows_that_a_run_can_save_give_back_its_splits(protocol):
    rows = load_splits("fashion_mnist_sample", protocol=protocol, seed=3).rows
    splits = load_benchmark("fashion_mnist_sample", protocol=protocol, seed=3)
    images = [image for dataset in read_benchmark("fashion_mnist_sample") for image in contents(dataset)]
    for name, split in splits.items():
        assert contents(split) == [images[row] for row in rows[name]]


def test_the_seed_decides_what_is_drawn_and_a_disjoint_protocol_draws_each_row_once():
    first, again, other = (
        load_splits("fashion_mnist_sample", protocol="disjoint", seed=seed).rows for seed in (0, 0, 1)
    )
    sizes = {"train": 2700, "validation": 300, "query": 1000, "database": 3000}
    assert {name: len(rows) for name, rows in first.items()} == sizes
    assert np.array_equal(np.sort(np.concatenate(list(first.values()))), np.arange(7000))
    assert np.array_equal(first["query"], again["query"])
    assert not np.array_equal(first["query"], other["query"])


@pytest.mark.parametrize("read", [load_benchmark, read_benchmark])
@pytest.mark.parametrize(
    ("name", "data_dir", "error", "message"),
    [
        ("mnist", None, ValueError, "`name` must be one of cifar10, .*, stanford_cars, but got 'mnist'"),
        ("fashion_mnist", "/no/folder", FileNotFoundError, "`data_dir` must be a folder, but got '/no/folder'"),
        ("nabirds", None, ValueError, "`data_dir` must be given for nabirds, which is not on the Hub, but got None"),
        ("coco_2014", None, ValueError, "`data_dir` must be given for coco_2014, .*, but got None"),
    ],
)
def test_an_unknown_benchmark_or_folder_is_an_error(name, data_dir, error, message, read):
    with pytest.raises(error, match=message):
        read(name, data_dir)


def test_an_unknown_protocol_is_an_error_before_anything_is_read():
    with pytest.raises(ValueError, match="`protocol` of coco must be one of official, sampled, disjoint, but got 'a"):
        load_benchmark("coco", protocol="all")
