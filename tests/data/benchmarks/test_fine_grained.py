from pathlib import Path

import numpy as np
import pytest
import scipy.io

from modeling_crh.data.benchmarks import large_images
from modeling_crh.data.benchmarks.large_images import load_nabirds, load_stanford_cars, nabirds_hierarchy
from modeling_crh.data.columns import label_names, label_tensor

CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]
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
    scipy.io.savemat(root / annos / "cars_meta.mat", {"class_names": cell(CARS)})
    return root


def write_joint(root, write_image):
    rows = [(f"car_ims/{row:06}.jpg", 1, 2, 9, 8, row % 3 + 1, int(row > 4)) for row in range(1, 8)]
    for row in rows:
        write_image(root / row[0])
    content = annotations(["relative_im_path", *BOX, "class", "test"], rows)
    scipy.io.savemat(root / "cars_annos.mat", {"annotations": content, "class_names": cell(CARS)})
    return root


@pytest.mark.parametrize(("annos", "labels"), [("devkit", "."), ("devkit", "devkit"), (".", ".")])
def test_the_development_kit_of_cars_becomes_images_and_named_labels(tmp_path, write_image, files, annos, labels):
    train, test = load_stanford_cars(write_devkit(tmp_path, write_image, annos=annos, labels=labels))
    assert label_names(train) == label_names(test) == CARS
    assert label_tensor(train).tolist() == [2, 0, 1, 0]
    assert label_tensor(test).tolist() == [1, 2]
    assert files(train) == [f"cars_train/0000{row}.jpg" for row in (1, 2, 3, 4)]
    assert files(test) == ["cars_test/00001.jpg", "cars_test/00002.jpg"]
    assert train[0]["image"].size == (10, 8)


def test_the_joint_file_of_cars_is_divided_by_its_own_mark(tmp_path, write_image, files):
    train, test = load_stanford_cars(write_joint(tmp_path, write_image))
    assert label_names(train) == CARS
    assert label_tensor(train).tolist() == [1, 2, 0, 1]
    assert label_tensor(test).tolist() == [2, 0, 1]
    assert files(test) == ["car_ims/000005.jpg", "car_ims/000006.jpg", "car_ims/000007.jpg"]
    (tmp_path / "car_ims" / "000006.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"car_ims.000006\.jpg is missing or empty"):
        load_stanford_cars(tmp_path)


def test_a_relative_folder_outlives_a_change_of_the_working_directory(tmp_path, write_image, monkeypatch):
    write_devkit(tmp_path, write_image)
    monkeypatch.chdir(tmp_path.parent)
    train, _ = load_stanford_cars(Path(tmp_path.name))
    monkeypatch.chdir("/")
    assert train[0]["image"].size == (10, 8)


def test_the_hub_gives_the_rows_of_the_official_files_of_cars(
    tmp_path, write_image, hub_replica, monkeypatch, assert_same_rows
):
    train, test = load_stanford_cars(write_devkit(tmp_path, write_image, train=[2]))  # one annotation, read like many
    assert label_tensor(train).tolist() == [1]
    monkeypatch.setattr(large_images, "CARS_HUB_ID", hub_replica(train=train, test=test, contrast=test))
    assert_same_rows(load_stanford_cars(), (train, test))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"devkit/{TRAIN}", rf"hold devkit/{TRAIN} or {TRAIN} or cars_annos\.mat, but .* does not exist"),
        ("devkit/cars_meta.mat", r"hold devkit/cars_meta\.mat or cars_meta\.mat, but"),
        (TEST, rf"hold {TEST} or devkit/{TEST}, but"),
        ("cars_train/00002.jpg", r"hold every annotated image, but .*cars_train.00002\.jpg is missing or empty"),
    ],
)
def test_a_missing_file_of_cars_is_an_error_that_names_it(tmp_path, write_image, name, message):
    (write_devkit(tmp_path, write_image) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"`data_dir` must {message}"):
        load_stanford_cars(tmp_path)


ROWS = [(1, "00001.jpg"), (2, "00002.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": cell(CARS)}, f"{TRAIN} must hold the variable `annotations`, but does not"),
        ({"annotations": annotations(["class", "file"], ROWS)}, "`annotations` with a field 'fname', but has"),
        ({"annotations": cell(["a", "b"])}, "`annotations` with a field 'fname', but has object"),
        ({"annotations": annotations(["class", "fname"], [(0, "a"), (1, "b")])}, "classes from 1 to 3, but holds .*0"),
        ({"annotations": annotations(["class", "fname"], [(1, "a"), (4, "b")])}, "classes from 1 to 3, but holds .*4"),
        ({"annotations": annotations(["class", "fname"], [("x", "a"), (1, "b")])}, "from 1 to 3, but holds .*'x'"),
    ],
)
def test_a_file_of_cars_with_other_content_is_an_error_that_names_it(tmp_path, write_image, content, message):
    scipy.io.savemat(write_devkit(tmp_path, write_image) / "devkit" / TRAIN, content)
    with pytest.raises(ValueError, match=message):
        load_stanford_cars(tmp_path)


@pytest.mark.parametrize("kept", [0, 60, 200, 0.5, 0.9])
def test_a_file_of_cars_cut_short_is_an_error_that_names_it(tmp_path, write_image, kept):
    path = write_devkit(tmp_path, write_image) / "devkit" / TRAIN
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"{TRAIN} must be a complete MATLAB file, but reading it failed: "):
        load_stanford_cars(tmp_path)


MALE, FEMALE, TITMOUSE = "Mallard (Breeding male)", "Mallard (Female/Eclipse male)", "Oak Titmouse"
CLASSES = ["0 Birds", "1 Ducks, Geese, and Swans", "2 Hawks", "10 Mallard", f"295 {MALE}", f"296 {FEMALE}"]
BIRDS = "\n".join([*CLASSES, f"817 {TITMOUSE}", ""])
HIERARCHY = "1 0\n2 0\n10 1\n295 10\n296 10\n817 0\n"
BIRD_IMAGES = [  # file, class, whether it is for training
    ("0817/aaa.jpg", 817, 1),
    ("0295/bbb.jpg", 295, 1),
    ("0296/ccc.jpg", 296, 0),
    ("0817/ddd.jpg", 817, 0),
    ("0296/eee.jpg", 296, 1),
]


def identity(row):
    return f"0000139e-21dc-4d0c-bfe1-{row:012}"


@pytest.fixture
def archive(tmp_path, write_image):
    root = tmp_path / "nabirds"
    root.mkdir()
    columns = {"images.txt": 0, "image_class_labels.txt": 1, "train_test_split.txt": 2}
    for name, column in columns.items():
        lines = [f"{identity(row)} {image[column]}\n" for row, image in enumerate(BIRD_IMAGES)]
        (root / name).write_text("".join(lines))
    for row, (file, _, _) in enumerate(BIRD_IMAGES):
        write_image(root / "images" / file, seed=row)
    (root / "classes.txt").write_text(BIRDS)
    (root / "hierarchy.txt").write_text(HIERARCHY)
    return root


def test_the_official_files_of_birds_become_images_and_named_labels(archive, files):
    train, test = load_nabirds(archive)
    assert label_names(train) == label_names(test) == [MALE, FEMALE, TITMOUSE]
    assert (files(train), label_tensor(train).tolist()) == (["0817/aaa.jpg", "0295/bbb.jpg", "0296/eee.jpg"], [2, 0, 1])
    assert (files(test), label_tensor(test).tolist()) == (["0296/ccc.jpg", "0817/ddd.jpg"], [1, 2])
    assert train[0]["image"].size == (10, 8)
    assert files(load_nabirds(archive.parent)[1]) == files(test)


def test_the_hierarchy_lists_the_parents_of_each_class_from_the_nearest_to_the_root(archive):
    ducks = ["Mallard", "Ducks, Geese, and Swans", "Birds"]
    assert nabirds_hierarchy(archive) == {MALE: ducks, FEMALE: ducks, TITMOUSE: ["Birds"]}
    assert list(nabirds_hierarchy(str(archive.parent))) == label_names(load_nabirds(archive)[0])
    (archive / "hierarchy.txt").write_text("0 0\n" + HIERARCHY)
    assert nabirds_hierarchy(archive)[TITMOUSE] == ["Birds"]  # a root may be its own parent


def test_classes_of_one_name_are_told_apart_by_their_numbers(archive):
    (archive / "classes.txt").write_text(BIRDS.replace(FEMALE, TITMOUSE))
    names = [MALE, "Oak Titmouse (296)", "Oak Titmouse (817)"]
    assert label_names(load_nabirds(archive)[0]) == names
    assert list(nabirds_hierarchy(archive)) == names


@pytest.mark.parametrize(
    "name", ["images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images/0296/ccc.jpg"]
)
def test_a_missing_file_of_birds_is_an_error_that_names_it(archive, name):
    (archive / name).unlink()
    what = "every annotated image" if name.endswith("jpg") else name
    with pytest.raises(FileNotFoundError, match=rf"`data_dir` must hold {what}, but .*{name.replace('/', '.')} "):
        load_nabirds(archive)


def test_a_missing_hierarchy_stops_only_who_asks_for_it(archive):
    (archive / "hierarchy.txt").unlink()
    load_nabirds(archive)
    with pytest.raises(FileNotFoundError, match=r"`data_dir` must hold hierarchy\.txt, but"):
        nabirds_hierarchy(archive)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("images.txt", " 0817/aaa.jpg", "", r"Line 1 of .*images\.txt must be a new id and its value, but is '0000"),
        ("classes.txt", "2 Hawks", "1 Hawks", r"Line 3 of .*classes\.txt must be a new id .*, but is '1 Hawks'"),
        ("classes.txt", "817 Oak Titmouse\n", "", r"classes\.txt must name every class by its number, but lacks '817'"),
        ("image_class_labels.txt", " 295", " drake", "name every class by its number, but lacks 'drake'"),
        ("image_class_labels.txt", identity(3), "x", rf"line for each image of images\.txt, but lacks {identity(3)}"),
        ("train_test_split.txt", identity(0), "x", r"train_test_split\.txt must have a line for each image"),
        ("train_test_split.txt", f"{identity(2)} 0", f"{identity(2)} 2", r"must hold 0 or 1, but 0000.*2 has '2'"),
    ],
)
def test_files_that_contradict_each_other_are_an_error(archive, name, old, new, message):
    text = (archive / name).read_text()
    assert old in text
    (archive / name).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_nabirds(archive)


@pytest.mark.parametrize(("line", "message"), [("1 10", "goes in a circle"), ("1 5", "leads to the unknown class 5")])
def test_a_hierarchy_without_a_way_to_the_root_is_an_error(archive, line, message):
    (archive / "hierarchy.txt").write_text(HIERARCHY.replace("1 0", line, 1))
    with pytest.raises(ValueError, match=rf"hierarchy\.txt must lead from .Mallard .* to a root, but {message}"):
        nabirds_hierarchy(archive)
