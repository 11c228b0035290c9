"""Columns of items: what may be given, and what may be added later."""

import numpy as np
import pytest
import torch

from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex

CODES = np.arange(6, dtype=np.uint8).reshape(3, 2)


@pytest.mark.parametrize("first", [["a", "b", None], [3, None, 5], [["x"], ["y", "z"], None]])
def test_items_without_a_label_or_path_are_added_to_those_that_have_some(first, tmp_path):
    index = HammingIndex(CODES, ids=[0, 1, 2], labels=first, paths=["p", None, "q"])
    index.add(CODES[:1], ids=[3], labels=[None], paths=[None])
    assert [row["label"] for row in index.records(range(4))] == [*first, None]
    assert index.records([3])[0]["path"] is None
    given = {"labels": first, "columns": {"price": [1.0, None, 2.5]}}
    table = LanceIndex.create(tmp_path / "t.lance", CODES, ids=[0, 1, 2], **given)
    table.add(CODES[:1], [3], labels=[None], columns={"price": [None]})
    found = {row["id"]: row for row in table.records(table.find(CODES, 4).positions[0])}
    assert (found[3]["label"], found[3]["price"]) == (None, None)
    assert [found[number]["label"] for number in range(3)] == first


def test_labels_are_added_to_items_that_have_none_so_far():
    index = HammingIndex(CODES, labels=[None] * 3)
    index.add(CODES[:1], labels=["a"])
    assert [row["label"] for row in index.records(range(4))] == [None, None, None, "a"]
    with pytest.raises(ValueError, match=r"Items must have the columns of the index, .*string.*, but have .*int64"):
        index.add(CODES[:1], labels=[7])


@pytest.mark.parametrize("ids", [{5, 3, 9}, {1: 2, 2: 3, 3: 4}, "abc", b"abc"])
def test_a_collection_without_an_order_of_its_own_and_a_text_are_no_column(ids):
    with pytest.raises(
        ValueError, match="`ids` must be whole numbers or strings, all of one type, in a fixed order, but got"
    ):
        HammingIndex(CODES, ids=ids)


def test_a_tensor_is_a_column_as_an_array_is():
    assert HammingIndex(CODES, ids=torch.tensor([4, 5, 6])).records([2])[0]["id"] == 6
    assert HammingIndex(CODES, paths={"a": 1, "b": 2, "c": 3}.keys()).records([2])[0]["path"] == "c"


@pytest.mark.parametrize("positions", [1, [[0, 1]], [0.7], ["0"], [True]])
def test_positions_are_whole_numbers_in_one_row(positions, tmp_path):
    for index in (HammingIndex(CODES), LanceIndex.create(tmp_path / "t.lance", CODES, ids=[0, 1, 2])):
        with pytest.raises(ValueError, match=r"`positions` must be \(P,\) whole numbers, but got"):
            index.records(positions)


def test_more_items_than_a_table_has_are_all_of_them(tmp_path):
    table = LanceIndex.create(tmp_path / "t.lance", CODES, ids=[0, 1, 2], columns={"sold": [True, False, True]})
    ids, _ = table.search(CODES[:1], k=10**13)
    assert sorted(ids[0]) == [0, 1, 2]
    assert len(table.where({"sold": np.True_}).search(CODES[:1], k=10**13)[0][0]) == 2
