import pytest
import torch

from modeling_crh.losses import NO_LABEL, check_labels, has_label, label_weights


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float16, torch.bool])
def test_multi_hot_rows_of_any_number_type_weigh_alike(dtype):
    labels = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]]).to(dtype)
    check_labels(labels, 3)
    assert has_label(labels).tolist() == [True, True, False]
    assert label_weights(labels, 3).dtype == torch.float32
    assert label_weights(labels, 3).tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8])
def test_integers_of_any_width_mean_the_same(dtype):
    labels = torch.tensor([1, NO_LABEL, 0], dtype=dtype)
    check_labels(labels, 2)
    assert has_label(labels).tolist() == [True, False, True]
    assert label_weights(labels, 2).tolist() == [[0, 1], [0, 0], [1, 0]]


def test_an_unsigned_label_is_never_taken_for_none():
    labels = torch.arange(256, dtype=torch.uint8)  # -100 in eight bits is 156
    check_labels(labels, 256)
    assert has_label(labels).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "`labels` must lie from 0 to C-1=2, but got 3"),
        (torch.tensor([0, -1]), "`labels` must lie from 0 to C-1=2, but got -1"),
        (torch.tensor([0.0, 1.0]), r"`labels` of shape \(N,\) must be integers, but got torch\.float32"),
        (torch.tensor([[0.5, 0.5, 0.0]]), r"must hold only 0 and 1, but got another value"),
        (torch.tensor([[0, 2, 0]]), r"must hold only 0 and 1"),
        (torch.tensor([[0, float("nan"), 0]]), r"must hold only 0 and 1"),
        (torch.tensor([[0, 1]]), r"must be \(N, C\) with C=3, but got shape \(1, 2\)"),
        (torch.zeros(1, 3, 1), r"must be \(N,\) or \(N, C\), but got shape \(1, 3, 1\)"),
        (torch.tensor(1), r"must be \(N,\) or \(N, C\), but got shape \(\)"),
    ],
)
def test_labels_that_no_class_has_are_an_error(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 3)
