import gzip
from functools import partial

import numpy as np
import pytest
from datasets import ClassLabel

from modeling_crh.data.benchmarks import fashion_mnist
from modeling_crh.data.benchmarks.fashion_mnist import (
    CLASS_NAMES,
    load_fashion_mnist,
    load_fashion_mnist_sample,
)
from modeling_crh.data.columns import label_tensor

_compress = partial(gzip.compress, mtime=0)  # without the time, so that all test processes collect the same names


def test_the_official_files_become_images_and_named_labels(idx_folder):
    train, test = load_fashion_mnist(idx_folder)
    assert (len(train), len(test)) == (40, 20)
    assert train.features["label"].names == CLASS_NAMES
    assert label_tensor(train).tolist() == [row % 10 for row in range(40)]
    assert np.array_equal(np.asarray(train[17]["image"]), np.full((28, 28), 17))


def test_the_hub_gives_the_same_rows_as_the_official_files(idx_folder, hub_replica, monkeypatch):
    official = load_fashion_mnist(idx_folder)
    foreign = ClassLabel(names=[f"{name} !" for name in CLASS_NAMES])
    splits = zip(["train", "test"], official, strict=True)
    monkeypatch.setattr(
        fashion_mnist, "HUB_ID", hub_replica(**{name: rows.cast_column("label", foreign) for name, rows in splits})
    )
    for from_hub, from_files in zip(load_fashion_mnist(), official, strict=True):
        assert from_hub.features == from_files.features
        assert from_hub[:]["label"] == from_files[:]["label"]
        assert all(np.array_equal(a, b) for a, b in zip(from_hub["image"], from_files["image"], strict=True))


def test_the_bundled_sample_is_balanced_and_leaves_no_file_behind():
    before = sorted(fashion_mnist.SAMPLE_DIR.iterdir())
    train, test = load_fashion_mnist_sample()
    assert label_tensor(train).bincount().tolist() == [600] * 10
    assert label_tensor(test).bincount().tolist() == [100] * 10
    assert np.asarray(train[0]["image"]).shape == (28, 28)
    assert not train.cache_files
    assert sorted(fashion_mnist.SAMPLE_DIR.iterdir()) == before
    assert sum(file.stat().st_size for file in before) < 4 * 2**20


def test_the_bundled_sample_takes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="`data_dir` must be None for fashion_mnist_sample"):
        load_fashion_mnist_sample(tmp_path)


LABELS = "train-labels-idx1-ubyte.gz"
IMAGES = "train-images-idx3-ubyte.gz"
IMAGE_HEADER = bytes.fromhex("00000803 00000028 0000001c 0000001c")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (LABELS, b"", f"{LABELS} must start with the magic number 2049, but starts with b''"),
        (LABELS, b"plain text", f"{LABELS} must be a complete gzip file"),
        (LABELS, _compress(bytes(500))[:-12], f"{LABELS} must be a complete gzip file"),
        (LABELS, _compress(IMAGE_HEADER), "magic number 2049, but starts with b'.x00.x00.x08.x03'"),
        (LABELS, _compress(bytes.fromhex("00000801 00000028") + bytes(39)), r"must hold 40 bytes .* but holds 39"),
        (LABELS, _compress(bytes.fromhex("00000801 00000003") + bytes(3)), "each of the 40 images .* but holds 3"),
        (LABELS, _compress(bytes.fromhex("00000801 00000028") + bytes([10] * 40)), "from 0 to 9, but holds 10"),
        (IMAGES, _compress(bytes.fromhex("00000803 00000001 00000002 00000002") + bytes(4)), "images of 28 x 28"),
        (IMAGES, _compress(IMAGE_HEADER + bytes(10)), r"must hold 31360 bytes of shape \(40, 28, 28\)"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(idx_folder, name, content, message):
    (idx_folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_fashion_mnist(idx_folder)


def test_a_missing_file_is_an_error_that_names_it(idx_folder):
    (idx_folder / LABELS).unlink()
    with pytest.raises(FileNotFoundError, match=f"`data_dir` must hold {LABELS}"):
        load_fashion_mnist(idx_folder)
