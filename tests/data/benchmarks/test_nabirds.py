import pytest
from datasets import Image

from modeling_crh.data.benchmarks.nabirds import load_nabirds, nabirds_hierarchy
from modeling_crh.data.columns import label_names, label_tensor

CLASSES = """\
0 Birds
1 Ducks, Geese, and Swans
2 Hawks
10 Mallard
295 Mallard (Breeding male)
296 Mallard (Female/Eclipse male)
817 Oak Titmouse
"""
HIERARCHY = """\
1 0
2 0
10 1
295 10
296 10
817 0
"""
IMAGES = [  # file, class, whether it is for training
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
        lines = [f"{identity(row)} {image[column]}\n" for row, image in enumerate(IMAGES)]
        (root / name).write_text("".join(lines))
    for row, (file, _, _) in enumerate(IMAGES):
        write_image(root / "images" / file, seed=row)
    (root / "classes.txt").write_text(CLASSES)
    (root / "hierarchy.txt").write_text(HIERARCHY)
    return root


def files(dataset):
    return [image["path"][-12:] for image in dataset.cast_column("image", Image(decode=False))["image"]]


def test_the_official_files_become_images_and_named_labels(archive):
    train, test = load_nabirds(archive)
    names = ["Mallard (Breeding male)", "Mallard (Female/Eclipse male)", "Oak Titmouse"]
    assert label_names(train) == label_names(test) == names
    assert (files(train), label_tensor(train).tolist()) == (["0817/aaa.jpg", "0295/bbb.jpg", "0296/eee.jpg"], [2, 0, 1])
    assert (files(test), label_tensor(test).tolist()) == (["0296/ccc.jpg", "0817/ddd.jpg"], [1, 2])
    assert train[0]["image"].size == (10, 8)


def test_the_folder_around_the_archive_may_be_given(archive):
    assert files(load_nabirds(archive.parent)[1]) == ["0296/ccc.jpg", "0817/ddd.jpg"]


def test_the_hierarchy_lists_the_parents_of_each_class_from_the_nearest_to_the_root(archive):
    assert nabirds_hierarchy(archive) == {
        "Mallard (Breeding male)": ["Mallard", "Ducks, Geese, and Swans", "Birds"],
        "Mallard (Female/Eclipse male)": ["Mallard", "Ducks, Geese, and Swans", "Birds"],
        "Oak Titmouse": ["Birds"],
    }
    assert list(nabirds_hierarchy(str(archive.parent))) == label_names(load_nabirds(archive)[0])


def test_a_root_may_be_its_own_parent(archive):
    (archive / "hierarchy.txt").write_text("0 0\n" + HIERARCHY)
    assert nabirds_hierarchy(archive)["Oak Titmouse"] == ["Birds"]


def test_classes_of_one_name_are_told_apart_by_their_numbers(archive):
    (archive / "classes.txt").write_text(CLASSES.replace("296 Mallard (Female/Eclipse male)", "296 Oak Titmouse"))
    names = ["Mallard (Breeding male)", "Oak Titmouse (296)", "Oak Titmouse (817)"]
    assert label_names(load_nabirds(archive)[0]) == names
    assert list(nabirds_hierarchy(archive)) == names


def test_a_folder_must_be_given():
    with pytest.raises(ValueError, match="`data_dir` must be given for nabirds, which is not on the Hub, but got None"):
        load_nabirds()


NAMES = ["images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"]


@pytest.mark.parametrize("name", [*NAMES, "images/0296/ccc.jpg"])
def test_a_missing_file_is_an_error_that_names_it(archive, name):
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
        (
            "images.txt",
            " 0817/aaa.jpg",
            "",
            r"Line 1 of .*images\.txt must be a new id and its value, but is '0000139e",
        ),
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1 0\n", "1 10\n", "to a root, but goes in a circle"),
        ("10 1\n", "10 5\n", "to a root, but leads to the unknown class 5"),
    ],
)
def test_a_hierarchy_without_a_way_to_the_root_is_an_error(archive, old, new, message):
    (archive / "hierarchy.txt").write_text(HIERARCHY.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"hierarchy\.txt must lead from .Mallard .* {message}"):
        nabirds_hierarchy(archive)
