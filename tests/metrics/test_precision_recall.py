import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.metrics import (
    DistanceCounts,
    count_by_distance,
    precision_at,
    precision_recall_curve,
    precision_within_radius,
    recall_at,
)


@pytest.fixture
def one_tie():
    return DistanceCounts(items=torch.tensor([[2, 0, 1]]), relevant=torch.tensor([[1, 0, 1]]))


def test_one_tie_is_worked_by_hand(one_tie):
    assert [precision_at(one_tie, k).item() for k in (1, 2, 3)] == pytest.approx([1 / 2, 1 / 2, 2 / 3])
    assert [recall_at(one_tie, k).item() for k in (1, 2, 3)] == pytest.approx([1 / 4, 1 / 2, 1])


def test_the_curve_is_worked_by_hand(one_tie):
    curve = precision_recall_curve(one_tie)
    assert curve.radius.tolist() == [0, 1, 2]
    assert curve.precision.tolist() == pytest.approx([1 / 2, 1 / 2, 2 / 3])
    assert curve.recall.tolist() == pytest.approx([1 / 2, 1 / 2, 1])


@given(
    seed=st.integers(0, 2**32 - 1), items=st.integers(1, 6), bits=st.integers(1, 4), multi=st.booleans(), data=st.data()
)
def test_precision_and_recall_are_means_over_all_orders(random_case, tied_orders, seed, items, bits, multi, data):
    case = random_case(seed, queries=1, items=items, bits=bits, multi=multi)
    top_k = data.draw(st.integers(1, items))
    found = [sum(ranking[:top_k]) for ranking in tied_orders(case, 0)]
    mean, relevant = sum(found) / len(found), sum(next(tied_orders(case, 0)))
    counts = count_by_distance(*case)
    assert precision_at(counts, top_k).item() == pytest.approx(mean / top_k, abs=1e-12)
    assert recall_at(counts, top_k).item() == pytest.approx(mean / max(1, relevant), abs=1e-12)


def test_the_curve_is_a_lookup_at_each_radius(random_case):
    queries, database, query_labels, labels = case = random_case(5, queries=20, items=15, labels=6)
    curve = precision_recall_curve(count_by_distance(*case))
    for radius in range(6):
        precision, recall = [], []
        for code, label in zip(queries, query_labels, strict=True):
            inside = (code != database).sum(dim=1) <= radius
            relevant = labels == label
            precision.append((inside & relevant).sum().item() / max(1, inside.sum().item()))
            recall.append((inside & relevant).sum().item() / max(1, relevant.sum().item()))
        assert curve.precision[radius].item() == pytest.approx(sum(precision) / 20, abs=1e-12)
        assert curve.recall[radius].item() == pytest.approx(sum(recall) / 20, abs=1e-12)


def test_a_query_that_finds_nothing_within_the_radius_counts_0():
    counts = DistanceCounts(items=torch.tensor([[0, 0, 0, 5], [0, 0, 2, 3]]), relevant=torch.tensor([[0, 0, 0, 5]] * 2))
    assert precision_within_radius(counts).tolist() == [0, 0]


def test_a_radius_beyond_the_code_takes_in_the_whole_database(one_tie):
    assert precision_within_radius(one_tie, radius=99).tolist() == pytest.approx([2 / 3])


def test_a_query_without_a_relevant_item_has_recall_0():
    counts = DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[0, 0]]))
    assert recall_at(counts, 3).tolist() == [0]
    assert precision_recall_curve(counts).recall.tolist() == [0, 0]
