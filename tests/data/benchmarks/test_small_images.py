import gzip
import hashlib
import pickle
from collections import Counter
from functools import partial

import numpy as np
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from torchvision.datasets import CIFAR10, CIFAR100

from modeling_crh.data import load_benchmark
from modeling_crh.data.benchmarks import small_images
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.columns import class_levels, label_names, label_tensor

CIFAR = {
    "cifar10": (CIFAR10, small_images.load_cifar10, "labels"),
    "cifar100": (CIFAR100, small_images.load_cifar100, "fine_labels"),
}
NAMES = ["apple", "bear", "crab", "dolphin"]
LABELS, IMAGES = "train-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"
EMOJI_COLUMNS = ["image", "label", "vendor", "group", "subgroup", "name"]
EMOJI_SIZES = {"train": 1166, "validation": 130, "query": 400, "database": 1296}
IMAGE_HEADER = bytes.fromhex("00000803 00000028 0000001c 0000001c")
_compress = partial(gzip.compress, mtime=0)  # without the time, so that all test processes collect the same names


def pixels_of(seed):
    return np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)


@pytest.fixture
def write_cifar(tmp_path, monkeypatch):
    """The official files of a benchmark with 4 images each, whose checksums torchvision is told."""

    def write(name):
        official, _, labels_key = CIFAR[name]
        folder = tmp_path / official.base_folder
        folder.mkdir()

        def store(file, content):
            raw = pickle.dumps(content, protocol=2)
            (folder / file).write_bytes(raw)
            return hashlib.md5(raw).hexdigest()

        contents = {
            file: {"data": pixels_of(seed), labels_key: [(row + seed) % 4 for row in range(4)]}
            for seed, (file, _) in enumerate(official.train_list + official.test_list)
        }
        md5s = {file: store(file, content) for file, content in contents.items()}
        for part in ("train_list", "test_list"):
            monkeypatch.setattr(official, part, [[file, md5s[file]] for file, _ in getattr(official, part)])
        meta = {"md5": store(official.meta["filename"], {official.meta["key"]: NAMES})}
        monkeypatch.setattr(official, "meta", official.meta | meta)
        return tmp_path

    return write


@pytest.mark.parametrize(("name", "num_train"), [("cifar10", 20), ("cifar100", 4)])
def test_the_official_files_of_cifar_become_images_and_named_labels(write_cifar, name, num_train):
    root = write_cifar(name)
    official, load, _ = CIFAR[name]
    for folder in (root, root / official.base_folder):  # around the archive, or its own
        train, test = load(folder)
        assert (len(train), len(test)) == (num_train, 4)
        assert label_names(train) == label_names(test) == NAMES
        assert label_tensor(train)[:4].tolist() == [0, 1, 2, 3]
        red, green, blue = pixels_of(0)[2].reshape(3, 32, 32)
        assert np.array_equal(np.asarray(train[2]["image"]), np.stack([red, green, blue], axis=-1))


@pytest.mark.parametrize("name", CIFAR)
def test_the_hub_gives_the_rows_of_the_official_files_of_cifar(
    write_cifar, hub_replica, monkeypatch, assert_same_rows, name
):
    _, load, labels_key = CIFAR[name]
    official, column = load(write_cifar(name)), labels_key.removesuffix("s")
    misspelt = ["cra" if name == "cifar100" and one == "crab" else one for one in NAMES]
    features = Features({"img": Image(), column: ClassLabel(names=misspelt), "coarse_label": ClassLabel(num_classes=2)})
    splits = {}
    for part, dataset in zip(["train", "test"], official, strict=True):
        images = [encode_png(np.asarray(image)) for image in dataset["image"]]
        rows = {"img": images, column: dataset[:]["label"], "coarse_label": [0] * len(dataset)}
        splits[part] = Dataset.from_dict(rows, features=features)
    monkeypatch.setitem(small_images.HUB_IDS, name, hub_replica(**splits))
    assert_same_rows(load(), official)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_file_of_cifar_with_another_checksum_is_refused_before_it_is_unpickled(write_cifar, file):
    path = write_cifar("cifar100") / "cifar-100-python" / file
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=rf"{file} must have the official MD5 checksum .{{32}}, but has another"):
        small_images.load_cifar100(path.parent)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"must hold {file}, but .*cifar-100-python.{file} does not exist"):
        small_images.load_cifar100(path.parent)


def test_the_official_files_of_fashion_mnist_become_images_and_named_labels(idx_folder):
    train, test = small_images.load_fashion_mnist(idx_folder)
    assert (len(train), len(test)) == (40, 20)
    assert label_names(train) == small_images.FASHION_CLASSES
    assert label_tensor(train).tolist() == [row % 10 for row in range(40)]
    assert np.array_equal(np.asarray(train[17]["image"]), np.full((28, 28), 17))


def test_the_hub_gives_the_rows_of_the_official_files_of_fashion_mnist(
    idx_folder, hub_replica, monkeypatch, assert_same_rows
):
    official = small_images.load_fashion_mnist(idx_folder)
    foreign = ClassLabel(names=[f"{name} !" for name in small_images.FASHION_CLASSES])
    splits = {name: rows.cast_column("label", foreign) for name, rows in zip(["train", "test"], official, strict=True)}
    monkeypatch.setitem(small_images.HUB_IDS, "fashion_mnist", hub_replica(**splits))
    assert_same_rows(small_images.load_fashion_mnist(), official)


def test_the_sample_of_fashion_mnist_is_balanced():
    train, test = small_images.load_fashion_mnist_sample()
    assert label_tensor(train).bincount().tolist() == [600] * 10
    assert label_tensor(test).bincount().tolist() == [100] * 10
    assert np.asarray(train[0]["image"]).shape == (28, 28)


@pytest.mark.parametrize("load", [small_images.load_fashion_mnist_sample, small_images.load_emoji_sample])
def test_a_sample_is_small_leaves_no_file_behind_and_takes_no_folder(load, tmp_path):
    name = load.__name__.removeprefix("load_")
    before = sorted(small_images.SAMPLE_DIRS[name].iterdir())
    assert not any(rows.cache_files for rows in load())
    assert sorted(small_images.SAMPLE_DIRS[name].iterdir()) == before
    assert sum(file.stat().st_size for file in before) < 4 * 2**20
    with pytest.raises(ValueError, match=f"`data_dir` must be None for {name}"):
        load(tmp_path)


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
def test_a_damaged_file_of_fashion_mnist_is_an_error_that_names_it(idx_folder, name, content, message):
    (idx_folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        small_images.load_fashion_mnist(idx_folder)
    (idx_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"`data_dir` must hold {name}"):
        small_images.load_fashion_mnist(idx_folder)


def test_the_sample_of_emoji_has_200_classes_in_40_subgroups_and_two_queries_a_class():
    splits = load_benchmark("emoji_sample")
    assert splits.num_rows == EMOJI_SIZES
    assert splits["query"].column_names == EMOJI_COLUMNS
    assert label_tensor(splits["query"]).bincount().tolist() == [2] * 200
    assert label_tensor(splits["database"]).bincount().min() == 4
    found = class_levels(splits["database"])
    assert sorted(Counter(found["subgroup"]).values()) == [5] * 40
    assert len(set(found["group"])) == 8
    assert len(set(zip(found["subgroup"], found["group"], strict=True))) == 40


def test_the_sample_of_emoji_has_permissive_vendors_only_and_no_query_in_its_database():
    database, query = small_images.load_emoji_sample()
    vendors = database.features["vendor"].names
    assert set(vendors).isdisjoint({"openmoji", "emojione-v1"})
    readme = (small_images.SAMPLE_DIRS["emoji_sample"] / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{vendor}`" in readme for vendor in vendors)
    pixels = [{np.asarray(image).tobytes() for image in rows["image"]} for rows in (database, query)]
    assert pixels[0].isdisjoint(pixels[1])
    assert sum(map(len, pixels)) == len(database) + len(query)


def test_emoji_that_have_not_been_built_are_an_error_that_says_how_to_build_them(tmp_path):
    command = r"`python benchmarks/builders/emoji_build\.py --out DIR`"
    with pytest.raises(ValueError, match=rf"`data_dir` must be the folder that {command} makes, but got None"):
        small_images.load_emoji()
    with pytest.raises(FileNotFoundError, match=r"`data_dir` must hold database\.parquet, but"):
        small_images.load_emoji(tmp_path)


def test_a_damaged_or_foreign_file_of_emoji_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "database.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"database\.parquet must be a parquet file"):
        small_images.load_emoji(tmp_path)
    for columns in ({"image": [b""], "label": [0]}, {"image": [1]}):
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        with pytest.raises(ValueError, match=r"database\.parquet must have the columns image, label, vendor, group"):
            small_images.load_emoji(tmp_path)
