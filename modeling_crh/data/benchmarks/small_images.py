"""Benchmarks of small images.

CIFAR-10 and CIFAR-100 (Krizhevsky, 2009); Fashion-MNIST (Xiao et al., 2017); and emoji, where a class is an emoji, and
an image is the drawing of 96 x 96 pixels by one of eleven vendors.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.table import InMemoryTable
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST
from torchvision.datasets.utils import check_integrity

from modeling_crh.data.benchmarks.official_files import encode_png, find_file, load_hub_pair, unpacked_folder
from modeling_crh.data.columns import canonical_features
from modeling_crh.runtime.terminal import progress_bar

HUB_IDS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
}
SAMPLE_DIRS = {name: Path(__file__).parent / name for name in ("fashion_mnist_sample", "emoji_sample")}
EMOJI_BUILD = "python benchmarks/builders/emoji_build.py --out DIR"
FASHION_CLASSES: list[str] = FashionMNIST.classes
FASHION_SHAPE = (28, 28)


def load_cifar10(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load CIFAR-10: 50,000 and 10,000 photographs of 32 x 32 pixels in 10 classes.

    Args:
        data_dir: Folder of the official `data_batch_1` to `data_batch_5`, `test_batch` and `batches.meta`, or its
            parent. None loads them from the Hub.
    """
    if data_dir is None:
        return load_hub_pair(HUB_IDS["cifar10"], image_column="img")
    return _read_cifar(CIFAR10, data_dir)


def load_cifar100(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load CIFAR-100: 50,000 and 10,000 photographs of 32 x 32 pixels in 100 fine classes.

    Args:
        data_dir: Folder of the official `train`, `test` and `meta`, or its parent. None loads them from the Hub.
    """
    if data_dir is None:
        return load_hub_pair(
            HUB_IDS["cifar100"],
            image_column="img",
            label_column="fine_label",
            rename=lambda names: ["crab" if name == "cra" else name for name in names],  # misspelt there
        )
    return _read_cifar(CIFAR100, data_dir)


def load_fashion_mnist(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load Fashion-MNIST: 60,000 and 10,000 grayscale pictures of clothes, 28 x 28 pixels, in 10 classes.

    Args:
        data_dir: Folder of the four official files `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`,
            `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`; Debian's package `dataset-fashion-mnist` puts
            them in `/usr/share/datasets/fashion-mnist`. None loads them from the Hub.
    """
    if data_dir is None:
        return load_hub_pair(HUB_IDS["fashion_mnist"], rename=lambda names: FASHION_CLASSES)
    return _read_fashion(data_dir, "train"), _read_fashion(data_dir, "t10k")


def load_fashion_mnist_sample(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the bundled, balanced tenth of Fashion-MNIST into memory: 6,000 and 1,000 images."""
    folder = _bundled_folder("fashion_mnist_sample", data_dir)
    train, test = (pq.read_table(folder / f"{name}.parquet").to_pydict() for name in ("train", "test"))
    features = canonical_features(FASHION_CLASSES)
    return Dataset.from_dict(train, features=features), Dataset.from_dict(test, features=features)


def load_emoji(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the emoji benchmark into memory: 11,230 drawings as database and 3,222 as queries, two of each emoji.

    Args:
        data_dir: Folder made by `python benchmarks/builders/emoji_build.py --out DIR`.
    """
    if data_dir is None:
        raise ValueError(f"`data_dir` must be the folder that `{EMOJI_BUILD}` makes, but got None.")
    return _read_emoji(data_dir, "database"), _read_emoji(data_dir, "query")


def load_emoji_sample(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the bundled sample into memory: 200 emoji by nine vendors, five of each of 40 subgroups."""
    return load_emoji(_bundled_folder("emoji_sample", data_dir))


def emoji_features(classes: list[str], vendors: list[str], groups: list[str], subgroups: list[str]) -> Features:
    """Make the features of the emoji datasets; a class is named after the slug of its emoji."""
    names = {"label": classes, "vendor": vendors, "group": groups, "subgroup": subgroups}
    labels = {column: ClassLabel(names=values) for column, values in names.items()}
    return Features(image=Image(), **labels, name=Value("string"))


def _bundled_folder(name: str, data_dir: Path | None) -> Path:
    if data_dir is not None:
        raise ValueError(f"`data_dir` must be None for {name}, which is bundled, but got {data_dir}.")
    return SAMPLE_DIRS[name]


def _read_cifar(official: type[CIFAR10], data_dir: Path) -> tuple[Dataset, Dataset]:
    """Read the official files, which are pickles; torchvision checks the checksum of each before it opens it."""
    folder = unpacked_folder(data_dir, official.base_folder)
    meta = (official.meta["filename"], official.meta["md5"])
    for name, md5 in [meta, *official.train_list, *official.test_list]:
        path = find_file(folder, name)
        if not check_integrity(path, md5):
            raise ValueError(f"{path} must have the official MD5 checksum {md5}, but has another.")
    reader = type(official.__name__, (official,), {"base_folder": ""})  # `root` is the unpacked folder itself
    train, test = reader(folder, train=True), reader(folder, train=False)  # `data` are (N, 32, 32, 3)
    pair = [_make_dataset(part.data, part.targets, part.classes, "CIFAR") for part in (train, test)]
    return pair[0], pair[1]


def _read_fashion(data_dir: Path, prefix: str) -> Dataset:
    images_path = find_file(data_dir, f"{prefix}-images-idx3-ubyte.gz")
    labels_path = find_file(data_dir, f"{prefix}-labels-idx1-ubyte.gz")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if images.shape[1:] != FASHION_SHAPE:
        raise ValueError(f"{images_path} must hold images of 28 x 28, but holds shape {images.shape}.")
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path} must hold a label for each of the {len(images)} images of {images_path.name}, "
            f"but holds {len(labels)}."
        )
    if labels.max(initial=0) >= len(FASHION_CLASSES):
        raise ValueError(f"{labels_path} must hold labels from 0 to 9, but holds {labels.max()}.")
    return _make_dataset(images, labels.tolist(), FASHION_CLASSES, images_path.name)


def _read_idx(path: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes; torchvision reads only unpacked copies, in folders of its own."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be a complete gzip file, but reading it failed: {error}.") from error
    magic = 0x0800 + num_dimensions  # 08: unsigned byte
    header_size = 4 + 4 * num_dimensions
    if len(content) < header_size or int.from_bytes(content[:4], "big") != magic:
        raise ValueError(f"{path} must start with the magic number {magic}, but starts with {content[:4]!r}.")
    shape = np.frombuffer(content, ">u4", num_dimensions, offset=4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=header_size)
    if len(values) != shape.prod():
        wanted = f"{shape.prod()} bytes of shape {tuple(shape.tolist())}"
        raise ValueError(f"{path} must hold {wanted} after its header, but holds {len(values)}.")
    return values.reshape(shape)


def _make_dataset(images: NDArray[np.uint8], labels: list[int], names: list[str], source: str) -> Dataset:
    rows = {"image": [encode_png(pixels) for pixels in progress_bar(images, desc=f"Reading {source}")], "label": labels}
    return Dataset.from_dict(rows, features=canonical_features(names))


def _read_emoji(folder: Path, part: str) -> Dataset:
    path = find_file(folder, f"{part}.parquet")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} must be a parquet file of `{EMOJI_BUILD}`, but reading it failed: {error}") from error
    features, expected = Features.from_arrow_schema(table.schema), emoji_features([], [], [], [])
    if {name: type(kind) for name, kind in features.items()} != {name: type(kind) for name, kind in expected.items()}:
        raise ValueError(f"{path} must have the columns {', '.join(expected)} of `{EMOJI_BUILD}`, but has {features}.")
    rows: Dataset = Dataset(InMemoryTable(table)).select_columns(list(expected))
    return rows
