import json

import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from modeling_crh.data.benchmarks import large_images
from modeling_crh.data.benchmarks.large_images import load_coco, load_coco_2014
from modeling_crh.data.columns import is_multi_label, label_names

CATEGORIES = [
    {"supercategory": "vehicle", "id": 3, "name": "car"},
    {"id": 1, "name": "person"},
    {"id": 90, "name": "mop"},
]
LABELS = {  # image id to the categories of its objects, in the order of the file
    "train": {30: [90, 1], 9: [3], 25: [], 12: [1, 1, 1, 3]},
    "val": {139: [90], 42: [1], 285: []},
}


def file_name(part, year, number):
    return f"COCO_{part}2014_{number:012}.jpg" if year == 2014 else f"{number:012}.jpg"


def instances(part, year):
    labels = LABELS[part]
    images = [{"id": number, "file_name": file_name(part, year, number), "height": 8, "width": 10} for number in labels]
    annotations = [
        {"id": 1000 * number, "image_id": number, "category_id": kind, "iscrowd": 0, "segmentation": [[0.5] * 6]}
        for number, kinds in labels.items()
        for kind in kinds
    ]
    return {"info": {"year": year}, "images": images, "annotations": annotations, "categories": CATEGORIES}


@pytest.fixture
def write_archive(tmp_path, write_image):
    def write(year):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        for part in LABELS:
            content = instances(part, year)
            (tmp_path / "annotations" / f"instances_{part}{year}.json").write_text(json.dumps(content))
            for image in content["images"]:
                write_image(tmp_path / f"{part}{year}" / image["file_name"], seed=image["id"])
        return tmp_path

    return write


@pytest.mark.parametrize(("load", "year"), [(load_coco, 2017), (load_coco_2014, 2014)])
def test_the_official_files_become_images_with_the_set_of_their_objects(write_archive, files, load, year):
    train, val = load(write_archive(year))
    assert is_multi_label(train)
    assert label_names(train) == label_names(val) == ["person", "car", "mop"]
    assert list(train["label"]) == [[1], [0, 1], [0, 2]]
    assert files(train) == [f"train{year}/{file_name('train', year, number)}" for number in (9, 12, 30)]
    assert list(val["label"]) == [[0], [2]]
    assert files(val) == [f"val{year}/{file_name('val', year, number)}" for number in (42, 139)]
    assert train[0]["image"].size == (10, 8)


def test_files_of_both_years_may_lie_in_one_folder_and_an_image_without_objects_may_be_missing(write_archive, files):
    write_archive(2014)
    root = write_archive(2017)
    (root / "train2017" / file_name("train", 2017, 25)).unlink()
    assert all("2017/" in file for file in files(load_coco(root)[0]))
    assert all("2014/" in file for file in files(load_coco_2014(root)[0]))


def test_the_hub_gives_the_same_rows_as_the_official_files(write_archive, hub_replica, png, monkeypatch):
    ids = {1: 0, 3: 1, 90: 2}
    boxes = {"bbox_id": List(Value("int64")), "category": List(ClassLabel(names=["person", "car", "mop"]))}
    features = Features({"image_id": Value("int64"), "image": Image(), "width": Value("int64"), "objects": boxes})
    splits = {}
    for part, labels in LABELS.items():
        objects = [
            {"bbox_id": list(range(len(kinds))), "category": [ids[kind] for kind in kinds]} for kinds in labels.values()
        ]
        columns = {"image_id": list(labels), "image": [png(number % 256) for number in labels]}
        columns |= {"width": [8] * len(labels), "objects": objects}
        splits[part] = Dataset.from_dict(columns, features=features)
    monkeypatch.setattr(large_images, "HUB_ID", hub_replica(**splits))
    from_hub, official = load_coco(), load_coco(write_archive(2017))
    for hub, disk in zip(from_hub, official, strict=True):
        assert hub.features == disk.features
        assert list(hub["label"]) == list(disk["label"])
    assert [image.getpixel((0, 0))[0] for image in from_hub[0]["image"]] == [9, 12, 30]


@pytest.mark.parametrize("name", ["annotations/instances_val2017.json", "train2017/000000000012.jpg"])
def test_a_missing_file_is_an_error_that_names_it(write_archive, name):
    root = write_archive(2017)
    (root / name).unlink()
    what = "every annotated image" if name.endswith("jpg") else name
    with pytest.raises(FileNotFoundError, match=rf"`data_dir` must hold {what}, but .*{name.replace('/', '.')} "):
        load_coco(root)


def dump(**changes):
    return json.dumps(instances("train", 2017) | changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dump()[:-40], r"instances_train2017\.json must be a whole JSON file, but reading it failed: "),
        ("{}", "must hold a list of categories, but does not"),
        (dump(images=None), "must hold a list of images, but does not"),
        (dump(images=[{"id": 1}]), "must hold images with id and file_name, but holds {'id': 1}"),
        (dump(images=[{"id": "1", "file_name": "a"}]), "must hold images with id and file_name, but holds {'id': '1'"),
        (dump(categories=[3]), "must hold categories with id and name, but holds 3"),
        (dump(annotations=[{"image_id": 9}]), "must hold annotations with image_id and category_id, but holds"),
        (dump(annotations=[{"image_id": 9, "category_id": 2}]), "own images with its own categories, but has {.*: 2}"),
        (dump(annotations=[{"image_id": 8, "category_id": 3}]), "own images with its own categories, but has {.*: 8"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(write_archive, content, message):
    root = write_archive(2017)
    (root / "annotations" / "instances_train2017.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_coco(root)
