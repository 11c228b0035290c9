import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, LargeList, List, Value

from modeling_crh.data.prepare import prepare_dataset, prepare_table


def dataset_of(labels, feature=None):
    """Rows whose images are never decoded: `1.png`, `2.png` and so on."""
    rows = {"image": [f"{row + 1}.png" for row in range(len(labels))], "label": labels}
    return Dataset.from_dict(rows, features=feature and Features({"image": Value("string"), "label": feature}))


@pytest.mark.parametrize(
    ("labels", "feature", "ids", "names"),
    [
        (["dog", "cat", "dog"], None, [1, 0, 1], ["cat", "dog"]),
        ([2, 0], None, [1, 0], ["0", "2"]),
        ([True, False], None, [1, 0], ["0", "1"]),
        ([1, 0], ClassLabel(names=["b", "a"]), [1, 0], ["b", "a"]),
        ([1, 0], Value("uint8"), [1, 0], ["0", "1"]),
        ([["dog"], ["dog", "cat", "dog"], []], None, [[1], [0, 1], []], ["cat", "dog"]),
        ([[1, 0], []], None, [[0, 1], []], ["0", "1"]),
        ([[1, 0], []], List(ClassLabel(names=["b", "a"])), [[0, 1], []], ["b", "a"]),
        ([[1], []], LargeList(Value("int64")), [[0], []], ["1"]),
    ],
)
def test_every_kind_of_label_becomes_classes(labels, feature, ids, names):
    prepared = prepare_dataset(dataset_of(labels, feature))
    assert list(prepared["label"]) == ids
    label = ClassLabel(names=names)
    assert prepared.features == Features(
        {"image": Image(), "label": List(label) if isinstance(ids[0], list) else label}
    )


def test_the_columns_may_have_other_names_and_neighbours():
    rows = Dataset.from_dict({"id": [1, 2], "kind": ["b", "a"], "file": ["1.png", "2.png"]})
    prepared = prepare_dataset(rows, image_column="file", label_column="kind")
    assert prepared.column_names == ["image", "label"]


def test_images_may_be_bytes(write_image, tmp_path):
    content = write_image(tmp_path / "1.png").read_bytes()
    prepared = prepare_dataset(Dataset.from_dict({"image": [content] * 2, "label": [0, 1]}))
    assert np.asarray(prepared[1]["image"]).shape == (8, 10, 3)


@pytest.mark.parametrize("path", [None, "1.png"])
def test_images_may_be_structs_of_bytes_and_path(write_image, tmp_path, path):
    content = write_image(tmp_path / "1.png").read_bytes()
    rows = Dataset.from_dict({"image": [{"bytes": content, "path": path}] * 2, "label": [0, 1]})
    assert np.asarray(prepare_dataset(rows)[1]["image"]).shape == (8, 10, 3)


@pytest.mark.parametrize("values", [[1, 2], [1.5, 2.5], [[b"a"], [b"b"]], [{"x": 1}, {"x": 2}], [None, None]])
def test_what_holds_no_images_is_an_error(values):
    with pytest.raises(ValueError, match="`image_column` 'image' must hold images, paths or bytes, but holds"):
        prepare_dataset(Dataset.from_dict({"image": values, "label": [0, 1]}))


def test_whole_numbers_may_start_anywhere_and_leave_some_out():
    prepared = prepare_dataset(dataset_of([12, 3, 2**62, 3]))
    assert prepared.features["label"].names == ["3", "12", str(2**62)]
    assert list(prepared["label"]) == [1, 0, 2, 0]
    test = prepare_dataset(dataset_of([12, 3]), label_names=prepared.features["label"].names)
    assert list(test["label"]) == [1, 0]


def test_a_test_set_takes_the_ids_of_the_training_set():
    test = dataset_of([0, 1], ClassLabel(names=["dog", "bird"]))
    assert list(prepare_dataset(test, label_names=["bird", "cat", "dog"])["label"]) == [2, 0]
    assert list(prepare_dataset(dataset_of(["dog"]), label_names=["cat", "dog"])["label"]) == [1]
    assert list(prepare_dataset(dataset_of([1]), label_names=["cat", "dog"])["label"]) == [1]


def test_a_prepared_dataset_stays_as_it_is():
    prepared = prepare_dataset(dataset_of([1, 0, 1]))
    again = prepare_dataset(prepared)
    assert again.features == prepared.features
    assert list(again["label"]) == list(prepared["label"])


def test_rows_keep_their_order_under_a_selection():
    prepared = prepare_dataset(dataset_of(["a", "b", "c", "b"]).select([3, 0]))
    assert list(prepared["label"]) == [1, 0]
    assert [image["path"] for image in prepared.cast_column("image", Image(decode=False))["image"]] == [
        "4.png",
        "1.png",
    ]


@pytest.mark.parametrize(
    ("labels", "feature", "settings", "message"),
    [
        (["a", None], None, {}, r"`label` must be a whole number or a string, but '2\.png' has none"),
        ([[0], None], None, {}, r"but '2\.png' has none"),
        ([[0, None], [1]], None, {}, r"but '1\.png' has none"),
        ([0.0, 1.5], None, {}, r"but '1\.png' has 0\.0"),
        ([[0, 1.5]], None, {}, r"has 0\.0"),
        ([0, -1], None, {}, r"`label` must be 0 or larger, but '2\.png' has -1"),
        ([0, -1], ClassLabel(names=["a", "b"]), {}, r"`label` must be from 0 to C-1=1, but '2\.png' has -1"),
        ([0, 2], None, {"label_names": ["a", "b"]}, r"one of the 2 classes of `label_names`, but '2\.png' has 2"),
        (["a", "z"], None, {"label_names": ["a", "b"]}, r"one of the 2 classes of `label_names`, but '2\.png' has 'z'"),
        ([0], None, {"label_column": "y"}, r"`label_column` must be one of \['image', 'label'\], but got 'y'"),
        ([0], None, {"image_column": "x"}, r"`image_column` must be one of \['image', 'label'\], but got 'x'"),
        ([0], None, {"image_column": "label"}, "`image_column` 'label' must hold images, paths or bytes"),
        (
            [0],
            None,
            {"label_column": "image"},
            "`label_column` must be another column than `image_column`, but both are",
        ),
        ([], Value("int64"), {}, "`dataset` must hold at least one row, but is empty"),
        ([5], None, {"label_names": ["3", "12"]}, r"one of the 2 classes of `label_names`, but '1\.png' has 5"),
        ([0], None, {"label_names": "xyz"}, "`label_names` must be a list of strings, but got 'xyz'"),
        ([0], None, {"label_names": [1]}, r"`label_names` must be a list of strings, but got \[1\]"),
        ([0], None, {"label_names": ["a", "a"]}, "`label_names` must be different from one another"),
    ],
)
def test_a_row_that_is_no_good_is_an_error_that_names_it(labels, feature, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare_dataset(dataset_of(labels, feature), **settings)


def test_several_splits_at_once_are_an_error():
    with pytest.raises(
        ValueError, match=r"`dataset` must be one datasets\.Dataset, such as a split, but got DatasetDict"
    ):
        prepare_dataset(DatasetDict({"train": dataset_of([0, 1])}))


def test_a_table_keeps_its_texts_or_features_and_its_labels():
    rows = Dataset.from_dict({"review": ["fine", "bad"], "vector": [[1.0, 2.0], [3.0, 4.0]], "stars": ["5", "1"]})
    texts = prepare_table(rows, text_column="review", label_column="stars")
    assert texts.to_dict() == {"text": ["fine", "bad"], "label": [1, 0]}
    features = prepare_table(rows, features_column="vector", label_column="stars")
    assert features.to_dict() == {"features": [[1.0, 2.0], [3.0, 4.0]], "label": [1, 0]}
    assert features.features["label"] == ClassLabel(names=["1", "5"])


def test_a_table_takes_the_ids_of_the_training_table():
    rows = Dataset.from_dict({"text": ["one", "two"], "label": ["b", "c"]})
    assert list(prepare_table(rows, text_column="text", label_names=["a", "b", "c"])["label"]) == [1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Either `text_column` or `features_column` must be named, and not both"),
        ({"text_column": "text", "features_column": "text"}, "must be named, and not both"),
        ({"text_column": "x"}, r"`text_column` must be one of \['text', 'label'\], but got 'x'"),
        ({"features_column": "x"}, r"`features_column` must be one of \['text', 'label'\], but got 'x'"),
        (
            {"text_column": "text", "label_column": "y"},
            r"`label_column` must be one of \['text', 'label'\], but got 'y'",
        ),
        (
            {"text_column": "text", "label_column": "text"},
            "must be another column than `text_column`, but both are 'text'",
        ),
        ({"text_column": "text", "label_names": ["a"]}, "one of the 1 classes of `label_names`, but row 1 has 'b'"),
    ],
)
def test_a_table_that_does_not_fit_its_settings_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        prepare_table(Dataset.from_dict({"text": ["one", "two"], "label": ["a", "b"]}), **settings)
