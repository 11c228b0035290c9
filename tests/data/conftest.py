import gzip
import io
import pickle
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset

from modeling_crh.data.columns import canonical_features
from modeling_crh.data.png import encode_png


@pytest.fixture
def write_image():
    """Write a random RGB image of 8 x 10 pixels, in the format of the file's suffix."""

    def write(path, seed=0, mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def gray_dataset():
    """Twelve 28 x 28 images of three classes; with `multi_label`, row 0 has none and the others one or two."""

    def make(multi_label=False):
        pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
        labels = [sorted({row % 3, row % 2})[: row % 5] for row in range(12)] if multi_label else [0, 1, 2] * 4
        features = canonical_features(["a", "b", "c"], multi_label=multi_label)
        return Dataset.from_dict({"image": [encode_png(image) for image in pixels], "label": labels}, features=features)

    return make


def idx_bytes(array):
    header = (0x0800 + array.ndim).to_bytes(4, "big") + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """The four official files in small: 40 training and 20 test images, class = row % 10, pixels = row."""
    for prefix, num_images in [("train", 40), ("t10k", 20)]:
        rows = np.arange(num_images, dtype=np.uint8)
        images = np.broadcast_to(rows[:, None, None], (num_images, 28, 28))
        for kind, array in [("images-idx3", images), ("labels-idx1", rows % 10)]:
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return tmp_path


@pytest.fixture
def hub_replica(tmp_path, monkeypatch):
    """Write splits as the parquet files of a Hub repository, and give the folder that stands for its id."""

    def make(**splits):
        replica = tmp_path / "hub"
        (replica / "data").mkdir(parents=True)
        for name, dataset in splits.items():
            dataset.to_parquet(replica / "data" / f"{name}-00000-of-00001.parquet")
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        return str(replica)

    return make


@pytest.fixture
def png():
    """Bytes of an 8 x 8 image of one shade of gray."""
    return lambda shade: encode_png(np.full((8, 8, 3), shade, dtype=np.uint8))


class PythonTwoPickler(pickle._Pickler):
    """Write strings and bytes alike, as Python 2 did."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        raw = value.encode("latin-1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


@pytest.fixture
def python_two_pickle():
    """Pickle as the official files of CIFAR are: protocol 2, and the core of NumPy under its old name."""

    def dump(value):
        file = io.BytesIO()
        PythonTwoPickler(file, protocol=2).dump(value)
        return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")

    return dump
