import os
from unittest.mock import Mock

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDatasetDict
from tiny_data import CLASSES, image_bytes, picture, read_both, write_pictures

from modeling_crh.data import load_splits, open_source
from modeling_crh.data import stored as stored_sources

TWENTY_FOUR = [name for name in CLASSES for _ in range(8)]


@pytest.fixture
def photos():
    """24 JPEG images under the names that a dataset of CIFAR has."""
    images = [{"bytes": image_bytes(picture(n // 8, n % 8), "JPEG"), "path": None} for n in range(24)]
    features = Features({"img": Image(), "fine_label": ClassLabel(names=list(CLASSES))})
    return Dataset.from_dict({"img": images, "fine_label": [n // 8 for n in range(24)]}, features=features)


def pixels_of(split):
    return np.stack([np.asarray(image) for image in split["image"]])


FORMS = {
    "dataset": lambda rows, folder: rows,
    "dict": lambda rows, folder: DatasetDict(train=rows),
    "stream": lambda rows, folder: rows.to_iterable_dataset(num_shards=2),
    "streams": lambda rows, folder: IterableDatasetDict(train=rows.to_iterable_dataset()),
    "torch": lambda rows, folder: rows.with_format("torch"),
    "transform": lambda rows, folder: rows.with_transform(lambda batch: {"x": [0] * len(batch["img"])}),
    "selected": lambda rows, folder: datasets.concatenate_datasets([rows, rows]).select(range(24)),
    "saved": lambda rows, folder: rows.save_to_disk(folder) or str(folder),
    "saved dict": lambda rows, folder: DatasetDict(train=rows).save_to_disk(folder) or folder,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"image_column": "img", "label_column": "fine_label"}])
def test_a_dataset_gives_the_same_rows_in_every_form(photos, tmp_path, form, options, capsys):
    source = FORMS[form](photos, tmp_path / "saved")
    assert read_both(source, **options) == TWENTY_FOUR
    told = "Images are read from the column 'img'.\nLabels are read from the column 'fine_label'.\n"
    said = "".join(line + "\n" for line in capsys.readouterr().err.splitlines() if "column" in line)
    assert said == ("" if options else told * 2)
    splits, expected = load_splits(source).splits, load_splits(photos).splits
    for name in ("train", "query"):
        assert np.array_equal(pixels_of(splits[name]), pixels_of(expected[name]))
    contents = [row.value["bytes"] for row in open_source(source).rows()]
    assert contents == [image["bytes"] for image in photos.cast_column("img", Image(decode=False))["img"]]


@pytest.mark.parametrize("test", ["test", "query"])
@pytest.mark.parametrize("form", ["object", "saved", "hub"])
def test_splits_keep_their_division_and_one_can_be_chosen(photos, tmp_path, test, form, monkeypatch, hub_replica):
    parts = {"train": photos, "val": photos.select(range(0, 24, 2)), test: photos.select(range(0, 24, 3))}
    source = DatasetDict(parts)
    if form == "saved":
        source.save_to_disk(tmp_path / "saved")
        source = tmp_path / "saved"
    if form == "hub":
        source, _ = as_hub(monkeypatch, hub_replica(**parts))
    splits = load_splits(source).splits
    assert splits.num_rows == {"train": 24, "validation": 12, "query": 8, "database": 36}
    assert len(read_both(source)) == 44
    assert read_both(source, split=test) == TWENTY_FOUR[::3]
    assert read_both(source, split="validation") == TWENTY_FOUR[::2]
    with pytest.raises(ValueError, match=r"`split` must be one of .*, but got 'other'"):
        open_source(source, split="other")


def as_hub(monkeypatch, folder):
    """Let the Hub id `org/photos` lead to a folder with the files of a repository; gives it and what asks for it."""
    load = datasets.load_dataset
    build = Mock(side_effect=lambda _, config, revision: datasets.load_dataset_builder(folder, config))
    monkeypatch.setattr(stored_sources, "load_dataset_builder", build)
    monkeypatch.setattr(stored_sources, "load_dataset", lambda name, config, split, revision: load(folder, split=split))
    return "org/photos", build


def test_a_dataset_on_the_hub_is_streamed_and_changes_its_version(photos, monkeypatch, hub_replica):
    folder = hub_replica(train=photos)
    name, build = as_hub(monkeypatch, folder)
    source = open_source(name, config="default", revision="v1")
    build.assert_called_once_with(name, "default", revision="v1")
    assert (source.name, source.num_rows) == (name, None)
    assert [row.label for row in source.rows()] == TWENTY_FOUR
    assert load_splits(name).splits.num_rows["query"] == 5
    file = next(os.scandir(os.path.join(folder, "data"))).path
    before = open_source(name).version
    assert before == open_source(name).version
    os.utime(file, (1, 1))
    assert open_source(name).version != before


def test_other_splits_are_encoded_and_passed_over_in_training(capsys):
    rows = Dataset.from_dict({"text": ["x"] * 20, "label": [0, 1] * 10})
    unlabelled = Dataset.from_dict({"text": ["y"] * 3, "label": [-1] * 3})
    data = DatasetDict(unsupervised=unlabelled, test=rows, train=rows)
    splits = load_splits(data, text_column="text").splits
    assert splits.num_rows == {"train": 18, "validation": 2, "query": 20, "database": 20}
    assert "Passed over the splits unsupervised of a dataset object." in capsys.readouterr().err
    assert [row.value for row in open_source(data, text_column="text").rows()] == ["x"] * 40 + ["y"] * 3
    with pytest.raises(ValueError, match="`split` must name the split to train on, since none of a, b is train"):
        load_splits(DatasetDict(a=rows, b=rows), text_column="text")
    with pytest.raises(ValueError, match="`split` must name the split to read, since two of val, dev, train are valid"):
        load_splits(DatasetDict(val=rows, dev=rows, train=rows), text_column="text")
    assert load_splits(DatasetDict(a=rows, b=rows), text_column="text", split="b").splits.num_rows["query"] == 4


def test_a_split_without_labels_can_be_encoded_and_not_trained_on():
    rows = Dataset.from_dict({"text": ["x"] * 20, "label": [0, 1] * 10})
    data = DatasetDict(train=rows, test=rows.remove_columns("label").select(range(2)))
    assert [row.label for row in open_source(data, text_column="text").rows()] == ["0", "1"] * 10 + [None] * 2
    with pytest.raises(ValueError, match=r"Training needs labels: `label_column` must name .*, which are \['text'\]"):
        load_splits(data, text_column="text")
    with pytest.raises(ValueError, match=r"`split` query must have a column 'text' as the others do"):
        open_source(DatasetDict(train=rows, test=rows.rename_column("text", "words")), text_column="text")


def test_a_stream_of_features_that_names_no_columns_is_read():
    def rows():
        yield from ({"clip": [float(number), 1.0], "label": number % 2} for number in range(40))

    stream = datasets.IterableDataset.from_generator(rows)
    assert read_both(stream, features_column="clip") == ["0", "1"] * 20


def test_benchmarks_are_read_with_both_their_parts():
    source = open_source("fashion_mnist_sample")
    _, rows = next(source.shards(1, wanted=lambda shard: shard == 5999))
    row = next(rows)
    assert (source.num_rows, row.id, row.path) == (7000, 5999, "row 5999 of fashion_mnist_sample")
    assert isinstance(row.label, str)
    assert len(list(open_source("fashion_mnist_sample", split="test").rows())) == 1000
    with pytest.raises(ValueError, match="`query_fraction` must be left out where the data bring that part themselves"):
        load_splits("fashion_mnist_sample", query_fraction=0.1)


@pytest.mark.parametrize("dataset", ["", None, 5, b"images", [1]])
def test_what_is_no_name_of_data_is_an_error(dataset):
    with pytest.raises(ValueError, match="`dataset` must be a path, and not empty, but got"):
        open_source(dataset)


@pytest.mark.parametrize("name", ["/no/such/data", "none.csv", "/no/such/*.csv", "a,b.csv", "photos/rows.parquet"])
def test_what_is_not_there_is_a_file_not_found_error(name):
    with pytest.raises(FileNotFoundError, match=r"`dataset` must be a folder, a table, .* but there is no"):
        load_splits(name)


def test_an_option_that_the_data_do_not_have_is_an_error():
    with pytest.raises(ValueError, match="`protocol` must be given with a benchmark only, but got 'disjoint'"):
        load_splits(Dataset.from_dict({"text": ["x"]}), text_column="text", protocol="disjoint")
    with pytest.raises(TypeError, match="lable_column"):
        load_splits("x", lable_column="y")


def test_columns_that_datasets_do_not_name_are_found_only_where_one_fits():
    rows = Dataset.from_dict({"photo": ["1.png"], "label": [0]})
    with pytest.raises(ValueError, match=r"must name a column of the data, which are \['photo', 'label'\]"):
        open_source(rows)
    images = Features({"a": Image(), "b": Image(), "x": ClassLabel(names=["p"]), "y": ClassLabel(names=["q"])})
    two = Dataset.from_dict({"a": [None], "b": [None], "x": [0], "y": [0]}, features=images)
    with pytest.raises(ValueError, match="`audio_column`, `text_column` and `features_column` must name"):
        open_source(two)
    assert open_source(two, image_column="b").columns.label is None
    assert open_source(two, image_column="b", label_column="y").columns.names == ["b", "y"]
    assert open_source(two, image_column="b", label_column="z", needs_label=False).columns.label is None


def test_some_rows_are_spread_over_a_folder_and_are_the_first_of_a_stream(photos, tmp_path):
    write_pictures(tmp_path / "pictures", 4)
    source = open_source(tmp_path / "pictures")
    assert [row.id for row in source.spread(5)] == [0, 2, 4, 7, 9]  # of 12
    assert [row.id for row in source.spread(99)] == list(range(12))
    stream = open_source(photos.to_iterable_dataset())
    assert [row.id for row in stream.spread(3)] == [0, 1, 2]


def test_an_error_of_ours_is_not_told_as_one_of_the_data(tmp_path, monkeypatch):
    (tmp_path / "texts.csv").write_text("text,label\nred,apple\n")
    source = open_source(str(tmp_path / "texts.csv"), text_column="text")

    def fail(*args):
        raise ValueError("ours")

    monkeypatch.setattr(type(source), "_read", fail)
    with pytest.raises(ValueError, match=r"^ours$"):
        list(source.rows())
