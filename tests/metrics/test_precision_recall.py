from statistics import mean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_rankings import average_precision_of

from modeling_crh.metrics import (
    DistanceCounts,
    average_precision,
    average_precision_at_r,
    average_precision_bounds,
    count_by_distance,
    figures_by_class,
    precision_at,
    precision_recall_curve,
    precision_within_radius,
    recall_at,
    worst_classes,
)


@pytest.fixture
def one_tie():
    """Two tied items, one of them relevant, then a relevant one."""
    return DistanceCounts(items=torch.tensor([[2, 0, 1]]), relevant=torch.tensor([[1, 0, 1]]))


def test_one_tie_is_worked_by_hand(one_tie):
    best, worst = (1 / 1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2
    assert average_precision(one_tie).item() == pytest.approx((best + worst) / 2, abs=1e-15)
    assert [bound.item() for bound in average_precision_bounds(one_tie)] == pytest.approx([worst, best], abs=1e-15)
    assert [precision_at(one_tie, k).item() for k in (1, 2, 3)] == pytest.approx([1 / 2, 1 / 2, 2 / 3])
    assert [recall_at(one_tie, k).item() for k in (1, 2, 3)] == pytest.approx([1 / 4, 1 / 2, 1])


def average_precision_at_r_of(ranking):
    size = sum(ranking)  # R of Musgrave et al. (2020)
    hits = [place for place, hit in enumerate(ranking[:size], start=1) if hit]
    return sum(sum(ranking[:place]) / place for place in hits) / max(1, size)


def approximate(value):
    return pytest.approx(value, abs=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(1, 6),
    bits=st.integers(1, 4),
    labels=st.integers(1, 3),
    multi=st.booleans(),
)
def test_values_and_bounds_are_mean_least_and_greatest_over_all_orders(random_case, tied_orders, seed, **sizes):
    case = random_case(seed, queries=1, **sizes)
    counts, rankings = count_by_distance(*case), list(tied_orders(case, 0))
    every = [average_precision_of(ranking) for ranking in rankings]
    assert average_precision(counts).item() == approximate(mean(every))
    assert [bound.item() for bound in average_precision_bounds(counts)] == approximate([min(every), max(every)])
    assert average_precision_at_r(counts).item() == approximate(mean(map(average_precision_at_r_of, rankings)))


def test_the_closed_form_agrees_with_the_sum_over_places_in_a_large_database():
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(0, 9_000, (1, 17), generator=generator)
    relevant = (items * torch.rand(items.shape, generator=generator)).long()
    expected, before, found = 0.0, 0, 0
    for n, r in zip(items[0].tolist(), relevant[0].tolist(), strict=True):
        for i in range(1, n + 1):  # McSherry and Najork 2008, place by place
            expected += r / n * (found + 1 + (i - 1) * (r - 1) / max(1, n - 1)) / (before + i)
        before, found = before + n, found + r
    value = average_precision(DistanceCounts(items, relevant)).item()
    assert value == pytest.approx(expected / found, abs=1e-12)


@pytest.mark.parametrize(("relevant", "score"), [([[1, 4, 0]], 1), ([[0, 0, 0]], 0)])
def test_a_perfect_ranking_scores_exactly_1_and_a_query_without_a_relevant_item_0(relevant, score):
    counts = DistanceCounts(items=torch.tensor([[1, 4, 7]]), relevant=torch.tensor(relevant))
    lower, upper = average_precision_bounds(counts)
    assert average_precision(counts).item() == lower.item() == upper.item() == score
    assert average_precision_at_r(counts).item() == score


@pytest.mark.parametrize("multi", [False, True])
def test_figures_of_a_class_are_those_of_its_queries_alone(random_case, multi):
    case = random_case(3, queries=20, labels=4, multi=multi, unlabelled=0.3)
    queries, database, query_labels, labels = case
    found = figures_by_class(average_precision(count_by_distance(*case)), query_labels, labels, list("abcde")[:4])
    for number, one in enumerate(found):
        mine = query_labels[:, number] == 1 if multi else query_labels == number
        alone = count_by_distance(queries[mine], database, query_labels[mine], labels)
        assert one.map == pytest.approx(average_precision(alone).mean().item(), abs=1e-12)
        assert one.queries == mine.sum()
        assert one.database == (labels[:, number] if multi else labels == number).sum()


def test_a_class_without_a_query_has_no_figure_and_is_not_among_the_worst():
    labels = torch.tensor([0, 2])
    found = figures_by_class(torch.tensor([0.5, 0.25]), labels, torch.tensor([0, 1, 1]), ["ash", "cat", "dog"])
    assert found[1] == ("cat", None, 0, 2)
    assert [one.name for one in worst_classes(found)] == ["dog", "ash"]


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


@pytest.mark.parametrize(
    ("queries", "message"),
    [([0, 3], "`labels` must lie from 0 to C-1=2, but got 3"), ([0], "`labels` must have one row a sample, but got 1")],
)
def test_labels_of_other_classes_or_queries_are_refused(queries, message):
    with pytest.raises(ValueError, match=message):
        figures_by_class(torch.tensor([0.5, 0.25]), torch.tensor(queries), torch.tensor([0, 1]), ["ash", "cat", "dog"])
