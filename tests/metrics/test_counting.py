from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.codes import hamming_distance
from modeling_crh.losses import NO_LABEL
from modeling_crh.metrics import count_by_distance, counting, ranking
from modeling_crh.metrics.counting import prepare_retrieval

pytestmark = pytest.mark.usefixtures("either_ranking")


def relevance(query_labels, database_labels):
    """Ask for one pair at a time: `(Q, N)`."""
    code = torch.ones(1, 1)
    pairs = [[(query, item) for item in database_labels.split(1)] for query in query_labels.split(1)]
    return [[bool(count_by_distance(code, code, *pair).num_relevant) for pair in row] for row in pairs]


def test_three_items_at_distance_0_1_and_2_are_counted_by_hand():
    database = torch.tensor([[1, 1], [1, -1], [-1, -1]])
    counts = count_by_distance(database[:1], database, torch.tensor([0]), torch.tensor([0, 1, 0]))
    assert counts.items.tolist() == [[1, 1, 1]]
    assert counts.relevant.tolist() == [[1, 0, 1]]
    assert counts.items.dtype == counts.relevant.dtype == torch.int64
    assert counts.num_items == 3
    assert counts.num_relevant.tolist() == [2]


@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(1, 9) | st.sampled_from([63, 64, 65, 128, 255, 256, 300, 512]),
    multi=st.booleans(),
    leave_one_out=st.booleans(),
    unlabelled=st.sampled_from([0, 0.3, 1]),
)
def test_counts_agree_with_a_loop_over_pairs_at_any_number_of_bits(
    random_case, relevant_to, seed, bits, multi, leave_one_out, unlabelled
):
    case = random_case(seed, queries=4, items=12, bits=bits, multi=multi, unlabelled=unlabelled)
    queries, database, query_labels, labels = case
    if leave_one_out:
        queries, query_labels = database, labels
    items, relevant = torch.zeros(2, len(queries), bits + 1, dtype=torch.int64)
    for query, item in product(range(len(queries)), range(len(database))):
        if not leave_one_out or query != item:
            distance = int((queries[query] != database[item]).sum())
            items[query, distance] += 1
            relevant[query, distance] += bool(relevant_to(query_labels[query], labels[item : item + 1]))
    counts = count_by_distance(queries, database, query_labels, labels, leave_one_out=leave_one_out)
    assert torch.equal(counts.items, items)
    assert torch.equal(counts.relevant, relevant)


def test_opposite_codes_differ_in_all_bits():
    codes = torch.ones(1, 70_000)
    assert count_by_distance(codes, -codes, torch.zeros(1), torch.zeros(1)).items[0, 70_000] == 1


@pytest.mark.parametrize("at_once", [1, 100, 2**20])
def test_the_queries_keep_their_order_however_many_are_ranked_at_a_time(random_case, monkeypatch, at_once):
    case = random_case(0, queries=9)
    monkeypatch.setattr(counting, "PAIRS_AT_ONCE", at_once)
    distance = hamming_distance(*case[:2]).int()
    assert count_by_distance(*case).items.tolist() == [row.bincount(minlength=6).tolist() for row in distance]


def test_blocks_of_queries_leave_no_seam(random_case, monkeypatch):
    monkeypatch.setattr(ranking, "SORTED_AT_ONCE", 3000)
    size, at_once = 1000, counting.QUERIES_AT_ONCE
    _, codes, _, labels = random_case(0, items=size, bits=7)
    counts, scores = prepare_retrieval(codes, codes, labels, labels, leave_one_out=True).rank([size - 1, 50])
    for query in (0, 2, 3, at_once - 1, at_once, size - 1):
        others = torch.arange(size) != query
        distance = (codes[query] != codes[others]).sum(dim=1)
        relevant = labels[query] == labels[others]
        assert counts.items[query].tolist() == distance.bincount(minlength=8).tolist()
        assert counts.relevant[query].tolist() == distance[relevant].bincount(minlength=8).tolist()
        places = relevant[distance.argsort(stable=True)].nonzero().squeeze(1) + 1
        precision = torch.arange(1, len(places) + 1) / places
        assert scores[query].tolist() == pytest.approx([precision.mean().item(), precision[places <= 50].mean().item()])


def test_the_input_may_differ_in_type_and_is_left_as_it_was(random_case):
    case = random_case(0)
    before = [part.clone() for part in case]
    counts = count_by_distance(case[0].float(), case[1], case[2].int(), case[3])
    assert counts.items.sum(dim=1).tolist() == [40] * 7
    assert all(torch.equal(part, old) for part, old in zip(case, before, strict=True))


def test_an_item_without_a_label_is_relevant_to_none_and_finds_none():
    labels = torch.tensor([0, NO_LABEL, NO_LABEL])
    assert relevance(labels, labels) == [[True, False, False], [False, False, False], [False, False, False]]
    assert relevance(labels.float(), labels.int()) == relevance(labels, labels)


def test_labels_of_unsigned_bytes_are_never_taken_for_none():
    labels = torch.arange(256, dtype=torch.uint8)  # -100 in eight bits is 156
    codes = torch.ones(256, 8)
    assert count_by_distance(codes, codes, labels, labels).num_relevant.tolist() == [1] * 256


@pytest.mark.parametrize("num_labels", [1, 63, 64, 65, 200])
def test_multi_hot_relevance_is_the_sign_of_the_product_of_the_rows(num_labels):
    generator = torch.Generator().manual_seed(num_labels)
    rows = (torch.rand(30, num_labels, generator=generator) < 1 / num_labels).float()
    assert relevance(rows[:10], rows) == ((rows[:10] @ rows.T) > 0).tolist()


def test_columns_of_tables_whole_floats_and_booleans_are_labels_too():
    table = torch.tensor([[0, 9], [1, 9], [0, 9]])
    assert relevance(table[:1, 0], table[:, 0]) == [[True, False, True]]
    assert relevance(torch.tensor([0.0, 1.0]), torch.tensor([1])) == [[False], [True]]
    assert relevance(torch.tensor([[True]]), torch.tensor([[1]])) == [[True]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2]), r"`query_labels` must be \(2,\) .* one for each code, but got shape \(3,\)"),
        (torch.zeros(2, 0), r"`query_labels` must be \(2,\) .* but got shape \(2, 0\)"),
        (torch.tensor([0.0, 0.5]), r"`query_labels` must hold class numbers from 0 up, or -100 .* but holds 0.5"),
        (torch.tensor([0.0, float("inf")]), r"`query_labels` must hold class numbers .* but holds inf"),
        (torch.tensor([0, -1]), r"`query_labels` must hold class numbers .* but holds -1"),
        (torch.tensor([[0, 1], [0.5, 0]]), r"`query_labels` must hold only 0 and 1 where .* but holds 0.5"),
        ([0, 1], r"`query_labels` must be a torch\.Tensor, but got list"),
        (torch.eye(2), r"must both be class numbers, or both .* but got shapes \(2, 2\) and \(2,\)"),
    ],
)
def test_malformed_labels_are_an_error(labels, message):
    with pytest.raises(ValueError, match=message):
        count_by_distance(torch.ones(2, 1), torch.ones(2, 1), labels, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.ones(4), r"`query_codes` must be \(N, K\) with at least one row and one bit, but got shape \(4,\)"),
        (torch.ones(0, 8), r"at least one row and one bit, but got shape \(0, 8\)"),
        (torch.ones(8, 0), r"at least one row and one bit, but got shape \(8, 0\)"),
        (torch.ones(1, 64), "same number of bits K, but got K=64 and K=8"),
        (torch.zeros(1, 8), r"`query_codes` must hold only -1 and \+1"),
        (torch.full((1, 8), float("nan")), r"`query_codes` must hold only -1 and \+1"),
        (torch.full((1, 8), 255, dtype=torch.uint8), r"`query_codes` must hold only -1 and \+1"),
        ([[1, -1]], r"`query_codes` must be a torch\.Tensor, but got list"),
    ],
)
def test_anything_but_a_table_of_signs_is_an_error(codes, message):
    with pytest.raises(ValueError, match=message):
        count_by_distance(codes, torch.ones(1, 8), torch.zeros(len(codes)), torch.zeros(1))


def test_leaving_out_needs_one_set_in_one_order_of_two_items(random_case):
    _, codes, _, labels = random_case(0)
    with pytest.raises(ValueError, match=r"`leave_one_out` must be False unless query and database are the same set"):
        count_by_distance(codes, codes.flip(0), labels, labels.flip(0), leave_one_out=True)
    with pytest.raises(ValueError, match=r"their codes or labels differ \(Q=7, N=40\)"):
        count_by_distance(codes[:7], codes, labels[:7], labels, leave_one_out=True)
    with pytest.raises(ValueError, match=r"unless the database has at least 2 items, but it has 1"):
        count_by_distance(codes[:1], codes[:1], labels[:1], labels[:1], leave_one_out=True)
