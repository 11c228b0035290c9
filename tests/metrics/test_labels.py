import pytest
import torch

from modeling_crh.labels import NO_LABEL
from modeling_crh.metrics import count_by_distance
from modeling_crh.metrics.counting import pack_label_pair


def relevance(query_labels, database_labels):
    """Ask for one pair at a time: `(Q, N)`."""
    code = torch.ones(1, 1)
    pairs = [[(query, item) for item in database_labels.split(1)] for query in query_labels.split(1)]
    return [[bool(count_by_distance(code, code, *pair).num_relevant) for pair in row] for row in pairs]


def test_class_numbers_are_relevant_where_they_are_equal():
    found = relevance(torch.tensor([0, 2]), torch.tensor([2, 0, 1]))
    assert found == [[False, True, False], [True, False, False]]


def test_multi_hot_rows_are_relevant_where_they_share_a_label_and_an_empty_row_never_is():
    rows = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert relevance(rows, rows) == [
        [True, False, True, False],
        [False, True, False, False],
        [True, False, True, False],
        [False, False, False, False],
    ]


def test_an_item_without_a_label_is_relevant_to_none_and_finds_none():
    labels = torch.tensor([0, NO_LABEL, NO_LABEL])
    assert relevance(labels, labels) == [[True, False, False], [False, False, False], [False, False, False]]
    assert relevance(labels.float(), labels.int()) == relevance(labels, labels)


def test_labels_of_unsigned_bytes_are_never_taken_for_none():
    labels = torch.arange(256, dtype=torch.uint8)  # -100 in eight bits is 156
    codes = torch.ones(256, 8)
    assert count_by_distance(codes, codes, labels, labels).num_relevant.tolist() == [1] * 256


def test_labels_may_be_a_column_of_a_table():
    table = torch.tensor([[0, 9], [1, 9], [0, 9]])
    assert relevance(table[:1, 0], table[:, 0]) == [[True, False, True]]
    assert all(labels.flags.c_contiguous for labels in pack_label_pair(table[:1, 0], table[:, 0], (1, 3)))


@pytest.mark.parametrize("num_labels", [1, 63, 64, 65, 200])
def test_multi_hot_relevance_is_the_sign_of_the_product_of_the_rows(num_labels):
    generator = torch.Generator().manual_seed(num_labels)
    rows = (torch.rand(30, num_labels, generator=generator) < 1 / num_labels).float()
    assert relevance(rows[:10], rows) == ((rows[:10] @ rows.T) > 0).tolist()


def test_whole_floats_and_booleans_are_labels_too():
    assert relevance(torch.tensor([0.0, 1.0]), torch.tensor([1])) == [[False], [True]]
    assert relevance(torch.tensor([[True]]), torch.tensor([[1]])) == [[True]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2]), r"`query_labels` must be \(2,\) .* one for each code, but got shape \(3,\)"),
        (torch.zeros(2, 3, 1), r"`query_labels` must be \(2,\) .* but got shape \(2, 3, 1\)"),
        (torch.zeros(2, 0), r"`query_labels` must be \(2,\) .* but got shape \(2, 0\)"),
        (torch.tensor([0.0, 0.5]), r"`query_labels` must hold class numbers from 0 up, or -100 .* but holds 0.5"),
        (torch.tensor([0.0, float("inf")]), r"`query_labels` must hold class numbers .* but holds inf"),
        (torch.tensor([0, -1]), r"`query_labels` must hold class numbers .* but holds -1"),
        (torch.tensor([[0, 1], [2, 0]]), r"`query_labels` must hold only 0 and 1 where it is \(N, C\), but holds 2"),
        (torch.tensor([[0, 1], [0.5, 0]]), r"`query_labels` must hold only 0 and 1 where .* but holds 0.5"),
        ([0, 1], r"`query_labels` must be a torch\.Tensor, but got list"),
        (torch.eye(2), r"must both be class numbers, or both .* but got shapes \(2, 2\) and \(2,\)"),
    ],
)
def test_malformed_labels_are_an_error(labels, message):
    with pytest.raises(ValueError, match=message):
        pack_label_pair(labels, torch.tensor([0, 1]), (2, 2))


def test_multi_hot_labels_of_two_widths_are_an_error():
    with pytest.raises(ValueError, match=r"multi-hot with the same C, but got shapes \(2, 2\) and \(3, 3\)"):
        pack_label_pair(torch.eye(2), torch.eye(3), (2, 3))
