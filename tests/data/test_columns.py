import pytest
import torch
from datasets import Dataset

from modeling_crh.data.columns import (
    canonical_features,
    count_unlabelled,
    is_multi_label,
    label_names,
    label_tensor,
    row_name,
)


def dataset_of(labels, *, multi_label):
    rows = {"image": [{"bytes": b"no image", "path": None}] * len(labels), "label": labels}
    return Dataset.from_dict(rows, features=canonical_features(["a", "b", "c"], multi_label=multi_label))


def test_single_labels_become_integers_without_an_image_being_decoded():
    dataset = dataset_of([2, 0, 1], multi_label=False)
    assert torch.equal(label_tensor(dataset), torch.tensor([2, 0, 1]))
    assert not is_multi_label(dataset)
    assert count_unlabelled(dataset) == 0


def test_lists_of_labels_become_multi_hot_rows_and_an_empty_list_a_row_of_zeros():
    dataset = dataset_of([[0, 2], [], [1]], multi_label=True)
    assert torch.equal(label_tensor(dataset), torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]]))
    assert is_multi_label(dataset)
    assert count_unlabelled(dataset) == 1
    assert label_names(dataset) == ["a", "b", "c"]


def test_labels_follow_a_selection_of_rows():
    assert label_tensor(dataset_of([2, 0, 1], multi_label=False).select([2, 0])).tolist() == [1, 2]


def test_a_row_is_named_after_its_file_or_else_its_number():
    rows = {"image": [{"bytes": b"", "path": "cats/1.png"}, {"bytes": b"", "path": None}], "label": [0, 1]}
    dataset = Dataset.from_dict(rows, features=canonical_features(["a", "b"]))
    assert [row_name(dataset, row) for row in range(2)] == ["'cats/1.png'", "row 1"]


@pytest.mark.parametrize("rows", [{"label": [0, 1]}, {"label": ["a", "b"]}, {"kind": [0]}])
def test_a_column_that_holds_no_classes_is_an_error(rows):
    with pytest.raises(ValueError, match="`dataset` must have a column `label` of ClassLabel"):
        label_tensor(Dataset.from_dict(rows))
