import gzip

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset

from modeling_crh.data.columns import canonical_features
from modeling_crh.data.fashion_mnist import encode_png


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
