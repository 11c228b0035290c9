import numpy as np
import pytest
from datasets import Image


@pytest.fixture
def files():
    """Give the paths of a dataset's images, each with the folder that it lies in."""

    def paths(dataset):
        images = dataset.cast_column("image", Image(decode=False))["image"]
        return ["/".join(image["path"].replace("\\", "/").split("/")[-2:]) for image in images]

    return paths


@pytest.fixture
def assert_same_rows():
    """Compare two pairs of datasets by features, labels and pixels."""

    def compare(pair, others):
        for one, other in zip(pair, others, strict=True):
            assert one.features == other.features
            assert one[:]["label"] == other[:]["label"]
            assert all(np.array_equal(a, b) for a, b in zip(one["image"], other["image"], strict=True))

    return compare
