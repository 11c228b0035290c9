import numpy as np
import pytest
import torch

from modeling_crh.metrics import blocks
from modeling_crh.metrics.blocks import check_top, prepare_retrieval


def test_an_item_left_out_is_farther_than_any_code_and_not_relevant():
    codes, labels = torch.tensor([[1, 1], [-1, -1]]), torch.tensor([0, 0])
    block = prepare_retrieval(codes, codes, labels, labels, leave_one_out=True).block(1, 2)
    assert block.distance.tolist() == [[2, 3]]
    assert block.relevant.tolist() == [[True, False]]


@pytest.mark.parametrize("pairs", [1, 100, 2**20])
def test_blocks_of_any_size_come_in_the_order_of_the_queries(random_case, monkeypatch, pairs):
    query_codes, database_codes, query_labels, database_labels = random_case(0)
    monkeypatch.setattr(blocks, "PAIRS_PER_BLOCK", pairs)
    task = prepare_retrieval(query_codes, database_codes, query_labels, database_labels, leave_one_out=False)
    distance = np.concatenate(task.map_blocks(lambda block: block.distance))
    assert distance.tolist() == (query_codes[:, None] != database_codes).sum(dim=2).tolist()


def test_the_input_may_differ_in_type_and_is_left_as_it_was(random_case):
    case = random_case(0)
    before = [part.clone() for part in case]
    task = prepare_retrieval(case[0].float(), case[1], case[2].int(), case[3], leave_one_out=False)
    assert task.block(0, 7).distance.shape == (7, 40)
    assert all(torch.equal(part, old) for part, old in zip(case, before, strict=True))


def test_codes_of_two_lengths_are_an_error():
    with pytest.raises(ValueError, match=r"same number of bits K, but got K=64 and K=32"):
        prepare_retrieval(torch.ones(1, 64), torch.ones(1, 32), torch.zeros(1), torch.zeros(1), leave_one_out=False)


@pytest.mark.parametrize(
    ("queries", "items", "message"),
    [
        (0, 3, r"`query_codes` must be \(N, K\) with at least one row and one bit, but got shape \(0, 8\)"),
        (3, 0, r"`database_codes` must be \(N, K\) with at least one row and one bit, but got shape \(0, 8\)"),
    ],
)
def test_an_empty_side_is_an_error(queries, items, message):
    with pytest.raises(ValueError, match=message):
        prepare_retrieval(
            torch.ones(queries, 8), torch.ones(items, 8), torch.zeros(queries), torch.zeros(items), leave_one_out=False
        )


def test_leaving_out_needs_one_set_in_one_order(random_case):
    _, codes, _, labels = random_case(0)
    with pytest.raises(ValueError, match=r"`leave_one_out` must be False unless query and database are the same set"):
        prepare_retrieval(codes, codes.flip(0), labels, labels.flip(0), leave_one_out=True)
    with pytest.raises(ValueError, match=r"their codes or labels differ \(Q=7, N=40\)"):
        prepare_retrieval(codes[:7], codes, labels[:7], labels, leave_one_out=True)


def test_leaving_out_the_only_item_is_an_error():
    codes, labels = torch.ones(1, 4), torch.zeros(1)
    with pytest.raises(ValueError, match=r"unless the database has at least 2 items, but it has 1"):
        prepare_retrieval(codes, codes, labels, labels, leave_one_out=True)


@pytest.mark.parametrize("top", [0, -1, 41, 1.5, True, "1", None])
def test_places_outside_the_ranking_are_an_error(top):
    with pytest.raises(ValueError, match=rf"`top_k` must be a whole number from 1 to N=40, but got {top!r}"):
        check_top("top_k", top, 40)
