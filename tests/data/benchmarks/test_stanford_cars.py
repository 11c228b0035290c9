from pathlib import Path

import numpy as np
import pytest
import scipy.io
from datasets import Image

from modeling_crh.data.benchmarks import stanford_cars
from modeling_crh.data.benchmarks.stanford_cars import load_stanford_cars
from modeling_crh.data.columns import label_names, label_tensor

NAMES = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]
BOX = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]
TRAIN = "cars_train_annos.mat"
TEST = "cars_test_annos_withlabels.mat"


def cell(values):
    array = np.empty((1, len(values)), dtype=object)
    array[0] = values
    return array


def annotations(fields, rows):
    """A MATLAB struct array `(1, N)`, whose numbers are as small as they fit, as in the official files."""
    small = [tuple(np.min_scalar_type(v).type(v) if isinstance(v, int) else v for v in row) for row in rows]
    return np.array([small], dtype=[(field, "O") for field in fields])


def write_devkit(root, write_image, train=(3, 1, 2, 1), test=(2, 3), *, annos="devkit", labels="."):
    for folder, name, classes, place in [("cars_train", TRAIN, train, annos), ("cars_test", TEST, test, labels)]:
        rows = [(1, 2, 9, 8, number, f"{row:05}.jpg") for row, number in enumerate(classes, start=1)]
        for row in rows:
            write_image(root / folder / row[-1], seed=row[-2])
        (root / place).mkdir(exist_ok=True)
        scipy.io.savemat(root / place / name, {"annotations": annotations([*BOX, "class", "fname"], rows)})
    scipy.io.savemat(root / annos / "cars_meta.mat", {"class_names": cell(NAMES)})
    return root


def write_joint(root, write_image):
    rows = [(f"car_ims/{row:06}.jpg", 1, 2, 9, 8, row % 3 + 1, int(row > 4)) for row in range(1, 8)]
    for row in rows:
        write_image(root / row[0])
    content = annotations(["relative_im_path", *BOX, "class", "test"], rows)
    scipy.io.savemat(root / "cars_annos.mat", {"annotations": content, "class_names": cell(NAMES)})
    return root


def files(dataset):
    paths = [image["path"] for image in dataset.cast_column("image", Image(decode=False))["image"]]
    return ["/".join(path.replace("\\", "/").split("/")[-2:]) for path in paths]


@pytest.mark.parametrize(("annos", "labels"), [("devkit", "."), ("devkit", "devkit"), (".", ".")])
def test_the_development_kit_becomes_images_and_named_labels(tmp_path, write_image, annos, labels):
    train, test = load_stanford_cars(write_devkit(tmp_path, write_image, annos=annos, labels=labels))
    assert label_names(train) == label_names(test) == NAMES
    assert label_tensor(train).tolist() == [2, 0, 1, 0]
    assert label_tensor(test).tolist() == [1, 2]
    assert files(train) == [f"cars_train/0000{row}.jpg" for row in (1, 2, 3, 4)]
    assert files(test) == ["cars_test/00001.jpg", "cars_test/00002.jpg"]
    assert train[0]["image"].size == (10, 8)


def test_one_annotation_is_read_like_many(tmp_path, write_image):
    train, test = load_stanford_cars(write_devkit(tmp_path, write_image, train=[2], test=[1]))
    assert (label_tensor(train).tolist(), label_tensor(test).tolist()) == ([1], [0])


def test_the_joint_file_is_divided_by_its_own_mark(tmp_path, write_image):
    train, test = load_stanford_cars(write_joint(tmp_path, write_image))
    assert label_names(train) == NAMES
    assert label_tensor(train).tolist() == [1, 2, 0, 1]
    assert label_tensor(test).tolist() == [2, 0, 1]
    assert files(test) == ["car_ims/000005.jpg", "car_ims/000006.jpg", "car_ims/000007.jpg"]


def test_a_relative_folder_outlives_a_change_of_the_working_directory(tmp_path, write_image, monkeypatch):
    write_devkit(tmp_path, write_image)
    monkeypatch.chdir(tmp_path.parent)
    train, _ = load_stanford_cars(Path(tmp_path.name))
    monkeypatch.chdir("/")
    assert train[0]["image"].size == (10, 8)


def test_the_hub_gives_the_same_rows_as_the_official_files(tmp_path, write_image, hub_replica, monkeypatch):
    official = load_stanford_cars(write_devkit(tmp_path, write_image))
    train, test = official
    monkeypatch.setattr(stanford_cars, "HUB_ID", hub_replica(train=train, test=test, contrast=test))
    for from_hub, from_files in zip(load_stanford_cars(), official, strict=True):
        assert from_hub.features == from_files.features
        assert from_hub[:]["label"] == from_files[:]["label"]
        assert all(np.array_equal(a, b) for a, b in zip(from_hub["image"], from_files["image"], strict=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"devkit/{TRAIN}", rf"must hold devkit/{TRAIN} or {TRAIN} or cars_annos\.mat, but .* does not exist"),
        ("devkit/cars_meta.mat", r"must hold devkit/cars_meta\.mat or cars_meta\.mat, but"),
        (TEST, rf"must hold {TEST} or devkit/{TEST}, but"),
        ("cars_train/00002.jpg", r"hold every annotated image, but .*cars_train.00002\.jpg is missing or empty"),
        ("cars_test/00001.jpg", r"hold every annotated image, but .*cars_test.00001\.jpg is missing or empty"),
    ],
)
def test_a_missing_file_is_an_error_that_names_it(tmp_path, write_image, name, message):
    (write_devkit(tmp_path, write_image) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"`data_dir` must {message.removeprefix('must ')}"):
        load_stanford_cars(tmp_path)


def test_a_missing_image_of_the_joint_file_is_an_error(tmp_path, write_image):
    (write_joint(tmp_path, write_image) / "car_ims" / "000006.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"car_ims.000006\.jpg is missing or empty"):
        load_stanford_cars(tmp_path)


ROWS = [(1, "00001.jpg"), (2, "00002.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": cell(NAMES)}, f"{TRAIN} must hold the variable `annotations`, but does not"),
        ({"annotations": annotations(["class", "file"], ROWS)}, "`annotations` with a field 'fname', but has"),
        ({"annotations": cell(["a", "b"])}, "`annotations` with a field 'fname', but has object"),
        ({"annotations": annotations(["class", "fname"], [(0, "a"), (1, "b")])}, "classes from 1 to 3, but holds .*0"),
        ({"annotations": annotations(["class", "fname"], [(1, "a"), (4, "b")])}, "classes from 1 to 3, but holds .*4"),
        ({"annotations": annotations(["class", "fname"], [("x", "a"), (1, "b")])}, "from 1 to 3, but holds .*'x'"),
    ],
)
def test_a_file_with_other_content_is_an_error_that_names_it(tmp_path, write_image, content, message):
    scipy.io.savemat(write_devkit(tmp_path, write_image) / "devkit" / TRAIN, content)
    with pytest.raises(ValueError, match=message):
        load_stanford_cars(tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 60, 130, 200, 400, 0.5, 0.9])
def test_a_file_cut_short_is_an_error_that_names_it(tmp_path, write_image, kept):
    path = write_devkit(tmp_path, write_image) / "devkit" / TRAIN
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"{TRAIN} must be a complete MATLAB file, but reading it failed: "):
        load_stanford_cars(tmp_path)
