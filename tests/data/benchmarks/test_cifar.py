import hashlib
import pickle

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from torchvision.datasets import CIFAR10, CIFAR100

from modeling_crh.data.benchmarks import cifar
from modeling_crh.data.benchmarks.cifar import load_cifar10, load_cifar100
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.columns import label_names, label_tensor

CASES = {"cifar10": (CIFAR10, load_cifar10, "labels"), "cifar100": (CIFAR100, load_cifar100, "fine_labels")}
NAMES = ["apple", "bear", "crab", "dolphin"]


def pixels_of(seed):
    return np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)


@pytest.fixture
def write_archive(tmp_path, monkeypatch):
    """The official files of a benchmark with 4 images each, whose checksums torchvision is told."""

    def write(name):
        official, _, labels_key = CASES[name]
        folder = tmp_path / official.base_folder
        folder.mkdir()

        def store(file, content):
            raw = pickle.dumps(content, protocol=2)
            (folder / file).write_bytes(raw)
            return hashlib.md5(raw).hexdigest()

        files = [file for file, _ in official.train_list + official.test_list]
        labels = {file: [(row + seed) % 4 for row in range(4)] for seed, file in enumerate(files)}
        md5s = {
            file: store(file, {"data": pixels_of(seed), labels_key: labels[file]}) for seed, file in enumerate(files)
        }
        for part in ("train_list", "test_list"):
            monkeypatch.setattr(official, part, [[file, md5s[file]] for file, _ in getattr(official, part)])
        meta = {"md5": store(official.meta["filename"], {official.meta["key"]: NAMES})}
        monkeypatch.setattr(official, "meta", official.meta | meta)
        return tmp_path

    return write


@pytest.mark.parametrize(("name", "num_train"), [("cifar10", 20), ("cifar100", 4)])
def test_the_official_files_become_images_and_named_labels(write_archive, name, num_train):
    train, test = CASES[name][1](write_archive(name))
    assert (len(train), len(test)) == (num_train, 4)
    assert label_names(train) == label_names(test) == NAMES
    assert label_tensor(train)[:4].tolist() == [0, 1, 2, 3]
    red, green, blue = pixels_of(0)[2].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(train[2]["image"]), np.stack([red, green, blue], axis=-1))


def test_the_folder_of_the_archive_may_be_given(write_archive):
    root = write_archive("cifar100")
    assert load_cifar100(root / "cifar-100-python")[0][:]["label"] == load_cifar100(root)[0][:]["label"]


@pytest.mark.parametrize("name", CASES)
def test_the_hub_gives_the_same_rows_as_the_official_files(write_archive, hub_replica, monkeypatch, name):
    _, load, labels_key = CASES[name]
    official, column = load(write_archive(name)), labels_key.removesuffix("s")
    misspelt = ["cra" if name == "cifar100" and one == "crab" else one for one in NAMES]
    features = Features({"img": Image(), column: ClassLabel(names=misspelt), "coarse_label": ClassLabel(num_classes=2)})
    splits = {}
    for part, dataset in zip(["train", "test"], official, strict=True):
        images = [encode_png(np.asarray(image)) for image in dataset["image"]]
        rows = {"img": images, column: dataset[:]["label"], "coarse_label": [0] * len(dataset)}
        splits[part] = Dataset.from_dict(rows, features=features)
    monkeypatch.setitem(cifar.HUB_IDS, name, hub_replica(**splits))
    for from_hub, from_files in zip(load(), official, strict=True):
        assert from_hub.features == from_files.features
        assert from_hub[:]["label"] == from_files[:]["label"]
        assert all(np.array_equal(a, b) for a, b in zip(from_hub["image"], from_files["image"], strict=True))


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_missing_file_is_an_error_that_names_it(write_archive, file):
    root = write_archive("cifar100")
    (root / "cifar-100-python" / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"must hold {file}, but .*cifar-100-python.{file} does not exist"):
        load_cifar100(root)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_file_with_another_checksum_is_refused_before_it_is_unpickled(write_archive, file):
    path = write_archive("cifar100") / "cifar-100-python" / file
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=rf"{file} must have the official MD5 checksum .{{32}}, but has another"):
        load_cifar100(path.parent)
