import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
import torchvision
from datasets import ClassLabel, Dataset, Features, Image

from modeling_crh.data.benchmarks import cifar
from modeling_crh.data.benchmarks.cifar import CIFAR10, CIFAR100, load_cifar10, load_cifar100
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.columns import label_names, label_tensor

LOADERS = {"CIFAR10": load_cifar10, "CIFAR100": load_cifar100}


def pixels_of(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def batch_of(archive, count, seed):
    labels = [(row * 7 + seed) % len(archive.class_names) for row in range(count)]
    return {"data": pixels_of(count, seed), archive.labels_key: labels, "filenames": [f"{row}.png" for row in labels]}


@pytest.fixture
def write_archive(tmp_path, monkeypatch, python_two_pickle):
    """The official files of CIFAR10 or CIFAR100 with 4 images a file; `changed` replaces the content of some."""

    def write(which, **changed):
        archive = getattr(cifar, which)
        folder = tmp_path / archive.folder
        folder.mkdir()
        contents = {name: batch_of(archive, 4, seed) for seed, name in enumerate([*archive.train, *archive.test])}
        contents |= {name: {archive.names_key: list(archive.class_names)} for name in archive.meta}
        md5s = {}
        for name, content in (contents | changed).items():
            raw = content if isinstance(content, bytes) else python_two_pickle(content)
            (folder / name).write_bytes(raw)
            md5s[name] = hashlib.md5(raw).hexdigest()
        known = {part: {name: md5s[name] for name in getattr(archive, part)} for part in ("train", "test", "meta")}
        monkeypatch.setattr(cifar, which, dataclasses.replace(archive, **known))
        return tmp_path

    return write


@pytest.mark.parametrize("official", [torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100])
def test_the_checksums_are_those_that_torchvision_knows(official):
    archive = getattr(cifar, official.__name__)
    assert archive.folder == official.base_folder
    assert list(archive.train.items()) == [tuple(file) for file in official.train_list]
    assert list(archive.test.items()) == [tuple(file) for file in official.test_list]
    assert archive.meta == {official.meta["filename"]: official.meta["md5"]}
    assert archive.names_key == official.meta["key"]


def test_classes_are_numbered_by_their_sorted_names():
    assert [len(archive.class_names) for archive in (CIFAR10, CIFAR100)] == [10, 100]
    for archive in (CIFAR10, CIFAR100):
        assert list(archive.class_names) == sorted(set(archive.class_names))


@pytest.mark.parametrize(("which", "num_train"), [("CIFAR10", 20), ("CIFAR100", 4)])
def test_the_official_files_become_images_and_named_labels(write_archive, which, num_train):
    archive = getattr(cifar, which)
    train, test = LOADERS[which](write_archive(which))
    assert (len(train), len(test)) == (num_train, 4)
    assert label_names(train) == label_names(test) == list(archive.class_names)
    assert label_tensor(train)[:4].tolist() == [0, 7, 14 % len(archive.class_names), 21 % len(archive.class_names)]
    red, green, blue = pixels_of(4, 0)[2].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(train[2]["image"]), np.stack([red, green, blue], axis=-1))


def test_the_folder_of_the_archive_may_be_given(write_archive):
    root = write_archive("CIFAR100")
    assert load_cifar100(root / "cifar-100-python")[0][:]["label"] == load_cifar100(root)[0][:]["label"]


@pytest.mark.parametrize("which", LOADERS)
def test_the_hub_gives_the_same_rows_as_the_official_files(write_archive, hub_replica, monkeypatch, which):
    official = LOADERS[which](write_archive(which))
    archive = getattr(cifar, which)
    misspelt = ["cra" if name == "crab" else name for name in archive.class_names]
    splits = {}
    for name, dataset in zip(["train", "test"], official, strict=True):
        columns = {"img": Image(), archive.label_column: ClassLabel(names=misspelt)}
        rows = {"img": [encode_png(np.asarray(image)) for image in dataset["image"]]}
        rows[archive.label_column] = dataset[:]["label"]
        if which == "CIFAR100":
            columns["coarse_label"], rows["coarse_label"] = ClassLabel(num_classes=20), [0] * len(dataset)
        splits[name] = Dataset.from_dict(rows, features=Features(columns))
    monkeypatch.setattr(cifar, which, dataclasses.replace(archive, hub_id=hub_replica(**splits)))
    for from_hub, from_files in zip(LOADERS[which](), official, strict=True):
        assert from_hub.features == from_files.features
        assert from_hub[:]["label"] == from_files[:]["label"]
        assert all(np.array_equal(a, b) for a, b in zip(from_hub["image"], from_files["image"], strict=True))


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_missing_file_is_an_error_that_names_it(write_archive, name):
    root = write_archive("CIFAR100")
    (root / "cifar-100-python" / name).unlink()
    with pytest.raises(ValueError, match=rf"`data_dir` must hold {name}, but .*cifar-100-python.{name} does not exist"):
        load_cifar100(root)


def test_a_missing_archive_is_an_error_that_names_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"`data_dir` must hold batches\.meta"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_file_cut_short_has_another_checksum(write_archive, name):
    path = write_archive("CIFAR100") / "cifar-100-python" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"{name} must have the official MD5 checksum .{{32}}, but has .{{32}}\."):
        load_cifar100(path.parent)


PIXELS = pixels_of(4, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": pickle.dumps(print)}, r"train must be a pickle of plain data, but is not: it names builtins\.print"),
        ({"train": {"fine_labels": [1]}}, r"train must hold `data` of shape \(N, 3072\), but holds NoneType"),
        ({"train": {"data": PIXELS[:, :-1], "fine_labels": [1] * 4}}, r"of shape \(N, 3072\), but holds \(4, 3071\)"),
        ({"train": {"data": PIXELS[0], "fine_labels": [1] * 4}}, r"of shape \(N, 3072\), but holds \(3072,\)"),
        ({"test": {"data": PIXELS}}, "test must hold a label for each of its 4 images, but holds NoneType"),
        ({"test": {"data": PIXELS, "fine_labels": [1] * 3}}, "a label for each of its 4 images, but holds 3"),
        (
            {"test": {"data": PIXELS, "fine_labels": [0, 1, 99, 100]}},
            "test must hold labels from 0 to 99, but holds 100",
        ),
        ({"test": {"data": PIXELS, "fine_labels": [0, 1, 2, "3"]}}, "labels from 0 to 99, but holds '3'"),
        ({"meta": {}}, "meta must list the 100 official classes, but lists None"),
        ({"meta": {"fine_label_names": ["crab"]}}, r"meta must list the 100 official classes, but lists \['crab'\]"),
    ],
)
def test_a_file_with_other_content_is_an_error_that_names_it(write_archive, changed, message):
    root = write_archive("CIFAR100", **changed)
    with pytest.raises(ValueError, match=message):
        load_cifar100(root)
