"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 grayscale pictures of clothes, 28 x 28, in ten classes."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset
from numpy.typing import NDArray
from torchvision.datasets import FashionMNIST

from modeling_crh.data.benchmarks.official_files import encode_png, find_file, load_hub_pair
from modeling_crh.data.columns import canonical_features
from modeling_crh.runtime.terminal import progress_bar

HUB_ID = "zalando-datasets/fashion_mnist"
SAMPLE_DIR = Path(__file__).parent / "fashion_mnist_sample"
CLASS_NAMES: list[str] = FashionMNIST.classes
SIDE = 28


def load_fashion_mnist(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set.

    Args:
        data_dir: Folder of the four official files `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`,
            `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`; Debian's package `dataset-fashion-mnist` puts
            them in `/usr/share/datasets/fashion-mnist`. None loads them from the Hub.

    Returns:
        60,000 and 10,000 rows of `image` and `label`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is cut short, or is another one than its name says.
    """
    if data_dir is None:
        return load_hub_pair(HUB_ID, rename=lambda names: CLASS_NAMES)
    return _read_pair(data_dir, "train"), _read_pair(data_dir, "t10k")


def load_fashion_mnist_sample(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load a balanced tenth of both official sets, which ships with this package.

    Args:
        data_dir: None; the sample is bundled.

    Returns:
        6,000 and 1,000 rows of `image` and `label`, held in memory.

    Raises:
        ValueError: If `data_dir` is given.
    """
    if data_dir is not None:
        raise ValueError(f"`data_dir` must be None for fashion_mnist_sample, which is bundled, but got {data_dir}.")
    train, test = (pq.read_table(SAMPLE_DIR / f"{name}.parquet").to_pydict() for name in ("train", "test"))
    features = canonical_features(CLASS_NAMES)
    return Dataset.from_dict(train, features=features), Dataset.from_dict(test, features=features)


def read_idx(path: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """Read one gzipped IDX file of unsigned bytes.

    torchvision reads only unpacked copies of them, in a folder layout of its own.

    Args:
        path: The file.
        num_dimensions: Number of dimensions of the array that it must hold: 1 for labels, 3 for images.

    Returns:
        `uint8` of the shape that the header states.

    Raises:
        ValueError: If the file is no gzip file, is cut short, or has another header.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be a complete gzip file, but reading it failed: {error}.") from error
    magic = 0x0800 + num_dimensions  # 08: unsigned byte
    header_size = 4 + 4 * num_dimensions
    if len(content) < header_size or int.from_bytes(content[:4], "big") != magic:
        raise ValueError(f"{path} must start with the magic number {magic}, but starts with {content[:4]!r}.")
    shape = np.frombuffer(content, ">u4", num_dimensions, offset=4).astype(np.int64)
    if len(content) - header_size != shape.prod():
        raise ValueError(
            f"{path} must hold {shape.prod()} bytes of shape {tuple(shape.tolist())} after its header, "
            f"but holds {len(content) - header_size}."
        )
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def _read_pair(data_dir: Path, prefix: str) -> Dataset:
    images_path = find_file(data_dir, f"{prefix}-images-idx3-ubyte.gz")
    labels_path = find_file(data_dir, f"{prefix}-labels-idx1-ubyte.gz")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{images_path} must hold images of {SIDE} x {SIDE}, but holds shape {images.shape}.")
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path} must hold a label for each of the {len(images)} images of {images_path.name}, "
            f"but holds {len(labels)}."
        )
    if labels.max(initial=0) >= len(CLASS_NAMES):
        raise ValueError(f"{labels_path} must hold labels from 0 to 9, but holds {labels.max()}.")
    bar = progress_bar(images, desc=f"Reading {images_path.name}")
    rows = {"image": [encode_png(image) for image in bar], "label": labels.tolist()}
    return Dataset.from_dict(rows, features=canonical_features(CLASS_NAMES))
