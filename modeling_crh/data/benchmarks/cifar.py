"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 colour photographs each, 32 x 32, in 10 and in 100 classes."""

from pathlib import Path

from datasets import Dataset
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from modeling_crh.data.benchmarks.official_files import encode_png, find_file, load_hub_pair, unpacked_folder
from modeling_crh.data.columns import canonical_features
from modeling_crh.runtime.terminal import progress_bar

HUB_IDS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}


class _Unpacked10(CIFAR10):
    base_folder = ""  # `root` is the unpacked folder itself


class _Unpacked100(CIFAR100):
    base_folder = ""


def load_cifar10(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set.

    Args:
        data_dir: Folder of the official `data_batch_1` to `data_batch_5`, `test_batch` and `batches.meta`, or the one
            around it. None loads them from the Hub.

    Returns:
        50,000 and 10,000 rows of `image` and `label`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file has another checksum than the official one.
    """
    if data_dir is None:
        return load_hub_pair(HUB_IDS["cifar10"], image_column="img")
    return _read(_Unpacked10, unpacked_folder(data_dir, CIFAR10.base_folder))


def load_cifar100(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the official training and test set, with the 100 fine classes.

    Args:
        data_dir: Folder of the official `train`, `test` and `meta`, or the one around it. None loads them from the
            Hub.

    Returns:
        50,000 and 10,000 rows of `image` and `label`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file has another checksum than the official one.
    """
    if data_dir is None:
        return load_hub_pair(
            HUB_IDS["cifar100"],
            image_column="img",
            label_column="fine_label",
            rename=lambda names: ["crab" if name == "cra" else name for name in names],  # misspelt there
        )
    return _read(_Unpacked100, unpacked_folder(data_dir, CIFAR100.base_folder))


def _read(official: type[CIFAR10], folder: Path) -> tuple[Dataset, Dataset]:
    """Read official files, which are pickles: torchvision opens one only after its checksum, as is tested."""
    meta = (official.meta["filename"], official.meta["md5"])
    for name, md5 in [meta, *official.train_list, *official.test_list]:
        path = find_file(folder, name)
        if not check_integrity(path, md5):
            raise ValueError(f"{path} must have the official MD5 checksum {md5}, but has another.")
    return _rows(official(folder, train=True)), _rows(official(folder, train=False))


def _rows(read: CIFAR10) -> Dataset:
    images = [encode_png(pixels) for pixels in progress_bar(read.data, desc="Reading CIFAR")]  # (N, 32, 32, 3)
    return Dataset.from_dict({"image": images, "label": read.targets}, features=canonical_features(read.classes))
