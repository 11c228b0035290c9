import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, LargeList, List, Value
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import read_both

from modeling_crh.data import label_names, load_splits, open_source, prepare_dataset
from modeling_crh.data.columns import canonical_features, count_unlabelled, is_multi_label, label_tensor
from modeling_crh.data.label_forms import sort_names

AB = ClassLabel(names=["b", "a"])


def texts(labels, feature=None):
    types = feature and Features({"text": Value("string"), "label": feature})
    return Dataset.from_dict({"text": ["x"] * len(labels), "label": labels}, features=types)


@pytest.mark.parametrize(
    ("labels", "feature", "expected", "names"),
    [
        (["dog", "cat", None], None, ["dog", "cat", None], ["cat", "dog"]),
        ([10, 9, -1, 2**62], None, ["10", "9", None, str(2**62)], ["9", "10", str(2**62)]),
        ([1.0, None, float("nan"), -1.0, 7.0], None, ["1", None, None, None, "7"], ["1", "7"]),
        ([True, False], None, ["1", "0"], ["0", "1"]),
        ([1, 0, -1, None], AB, ["a", "b", None, None], ["b", "a"]),
        ([1, 0], Value("uint8"), ["1", "0"], ["0", "1"]),
        ([["dog"], ["dog", "cat", "dog"], [], None], None, [["dog"], ["cat", "dog"], [], []], ["cat", "dog"]),
        ([[12, 3], []], None, [["3", "12"], []], ["3", "12"]),
        ([[1, 0], []], List(AB), [["b", "a"], []], ["b", "a"]),
        ([[1], []], LargeList(Value("int64")), [["1"], []], ["1"]),
        (["007", "10", "9"], None, ["007", "10", "9"], ["007", "10", "9"]),
        (["size,fit", "fit"], None, ["size,fit", "fit"], ["fit", "size,fit"]),
    ],
)
def test_every_form_of_label_is_the_name_of_a_class_or_none(labels, feature, expected, names):
    assert read_both(texts(labels, feature), text_column="text") == expected
    assert label_names(prepare_dataset(texts(labels, feature), text_column="text")) == names


@given(st.sets(st.one_of(st.integers(0, 200).map(str), st.text("ab01", min_size=1, max_size=3))))
def test_names_are_in_the_order_of_their_numbers_or_else_of_their_letters(names):
    ordered = sort_names(names)
    assert set(ordered) == names
    plain = all(name == "0" or (name.isdecimal() and name[0] != "0") for name in names)
    assert ordered == (sorted(names, key=int) if plain else sorted(names))


def test_several_labels_in_one_cell_need_a_separator(capsys):
    rows = texts(["size, fit", "fit", "", None, " ,"])
    assert read_both(rows, text_column="text", label_separator=",") == [["fit", "size"], ["fit"], [], [], []]
    assert capsys.readouterr().err == ""
    assert read_both(rows, text_column="text") == ["size, fit", "fit", "", None, " ,"]
    hint = "The label 'size, fit' in 'label' is one class; `--label-separator ,` reads it as several.\n"
    assert capsys.readouterr().err == hint * 2


@pytest.mark.parametrize("kind", [int, float, bool])
def test_lists_of_zeros_and_ones_are_flags_only_where_that_is_said(kind):
    flags = [None, *([kind(flag) for flag in row] for row in np.eye(4, dtype=int).tolist()), [kind(1)] * 4]
    rows = texts(flags)
    for read in (open_source, load_splits):
        with pytest.raises(ValueError, match=r"holds lists of 4 zeros and ones, which could be .* say `--multi-hot`"):
            read(rows, text_column="text")
    expected = [[], ["0"], ["1"], ["2"], ["3"], ["0", "1", "2", "3"]]
    assert read_both(rows, text_column="text", multi_hot=True) == expected
    named = prepare_dataset(rows, text_column="text", label_names=["ant", "bee", "cow", "dog"])
    assert list(named["label"]) == [[], [0], [1], [2], [3], [0, 1, 2, 3]]
    assert label_names(named) == ["ant", "bee", "cow", "dog"]


@pytest.mark.parametrize("labels", [[[1, 0, 1], [1, 0]], [[1, 0], [2, 1]], [["1", "0"], ["0", "1"]], [[1], [0]]])
def test_other_lists_are_classes_by_number(labels):
    assert read_both(texts(labels), text_column="text") == [sorted({str(label) for label in row}) for row in labels]


@pytest.mark.parametrize(
    ("labels", "feature", "settings", "message"),
    [
        ([0.0, 1.5], None, {}, r"`label` must be a whole number or a string, but row 1 of the dataset has 1\.5"),
        ([0.0, float("inf")], None, {}, "whole number or a string, but row 1 of the dataset has inf"),
        ([[0, 1.5]], None, {}, r"but row 0 of the dataset has 1\.5"),
        ([[0, None], [1]], None, {}, "must be a list of class names or numbers, but row 0 of the dataset has"),
        ([[0, -1], [1]], None, {}, "must be a list of class names or numbers, but row 0 of the dataset has"),
        ([[0, 1], [1, 2]], None, {"multi_hot": True}, "`multi_hot` labels must be lists of 0 and 1 of one length, but"),
        ([[1, 0]] * 300 + [[2, 0]], None, {"multi_hot": True}, "must be 2 times 0 or 1, but row 300 of the dataset"),
        (["a"], None, {"multi_hot": True}, "`multi_hot` must be left out for 'label', which holds no lists"),
        ([1], None, {"label_separator": ","}, "`label_separator` must be left out for 'label', which holds no text"),
        ([b"a"], None, {}, "`label_column` 'label' must hold whole numbers, strings or lists of them"),
    ],
)
def test_what_is_no_label_is_an_error_that_names_the_row(labels, feature, settings, message):
    with pytest.raises(ValueError, match=message):
        read_both(texts(labels, feature), text_column="text", **settings)


def test_other_splits_have_the_classes_of_the_training_set():
    train, test = texts(["b", "a"] * 20), texts([0, 1], AB)
    splits = load_splits(DatasetDict(train=train, test=texts(["b"] * 4)), text_column="text").splits
    assert list(splits["query"]["label"]) == [1] * 4
    assert list(prepare_dataset(test, text_column="text", label_names=["x", "a", "b"])["label"]) == [2, 1]
    with pytest.raises(ValueError, match="one of the classes of the training set, but row 1 of the dataset has 'z'"):
        prepare_dataset(texts(["b", "z"]), text_column="text", label_names=["a", "b"])


def test_rows_without_a_label_are_counted_in_one_line(capsys):
    splits = load_splits(texts(["a", "b"] * 20 + [None] * 3), text_column="text").splits
    assert sum(count_unlabelled(splits[name]) for name in ("database", "query")) == 3
    assert capsys.readouterr().err.startswith("3 of 43 rows have no label: they have no loss")


def test_labels_become_tensors_without_an_image_being_decoded():
    def images(labels, **settings):
        columns = {"image": [{"bytes": b"no image", "path": None}] * len(labels), "label": labels}
        return Dataset.from_dict(columns, features=canonical_features(["a", "b", "c"], **settings))

    single, several = images([2, 0, -1]), images([[0, 2], [], [1]], multi_label=True)
    assert label_tensor(single).tolist() == [2, 0, -100]
    assert label_tensor(single.select([1, 0])).tolist() == [0, 2]
    assert torch.equal(label_tensor(several), torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]]))
    assert (is_multi_label(single), is_multi_label(several)) == (False, True)
    assert (count_unlabelled(single), count_unlabelled(several)) == (1, 1)
    assert list(prepare_dataset(several)["label"]) == [[0, 2], [], [1]]


@pytest.mark.parametrize("rows", [{"label": [0, 1]}, {"label": ["a", "b"]}, {"kind": [0]}])
def test_a_column_that_holds_no_classes_is_an_error(rows):
    with pytest.raises(ValueError, match="`dataset` must have a column `label` of ClassLabel"):
        label_tensor(Dataset.from_dict(rows))


def test_what_is_no_split_cannot_be_prepared():
    with pytest.raises(ValueError, match=r"`dataset` must be one datasets\.Dataset, .* but got DatasetDict"):
        prepare_dataset(DatasetDict(train=texts(["a"])))
    with pytest.raises(ValueError, match="`dataset` must hold at least one row, but is empty"):
        prepare_dataset(texts(["a"]).select([]), text_column="text")
    with pytest.raises(ValueError, match="Training needs labels: `label_column` must name a column of the data"):
        prepare_dataset(texts(["a"]).remove_columns("label"), text_column="text")
