import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.metrics import (
    DistanceCounts,
    average_precision,
    average_precision_at_r,
    average_precision_bounds,
    count_by_distance,
    figures_by_class,
    worst_classes,
)


def average_precision_of(ranking):
    hits = [place for place, hit in enumerate(ranking, start=1) if hit]
    return sum(number / place for number, place in enumerate(hits, start=1)) / max(1, len(hits))


def test_one_tie_is_worked_by_hand():
    # Two tied items, one of them relevant, then a relevant one: AP is (1/1 + 2/3) / 2 or (1/2 + 2/3) / 2.
    counts = DistanceCounts(items=torch.tensor([[2, 1]]), relevant=torch.tensor([[1, 1]]))
    lower, upper = average_precision_bounds(counts)
    assert average_precision(counts).item() == pytest.approx((5 / 6 + 7 / 12) / 2, abs=1e-15)
    assert lower.item() == pytest.approx(7 / 12, abs=1e-15)
    assert upper.item() == pytest.approx(5 / 6, abs=1e-15)


@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(1, 6),
    bits=st.integers(1, 4),
    labels=st.integers(1, 3),
    multi=st.booleans(),
)
def test_value_and_bounds_are_mean_least_and_greatest_over_all_orders(
    random_case, tied_orders, seed, items, bits, labels, multi
):
    case = random_case(seed, queries=1, items=items, bits=bits, labels=labels, multi=multi)
    every = [average_precision_of(ranking) for ranking in tied_orders(case, 0)]
    counts = count_by_distance(*case)
    lower, upper = average_precision_bounds(counts)
    assert average_precision(counts).item() == pytest.approx(sum(every) / len(every), abs=1e-12)
    assert lower.item() == pytest.approx(min(every), abs=1e-12)
    assert upper.item() == pytest.approx(max(every), abs=1e-12)


def average_precision_at_r_of(ranking):
    size = sum(ranking)  # R of Musgrave et al. (2020)
    hits = [place for place, hit in enumerate(ranking[:size], start=1) if hit]
    return sum(sum(ranking[:place]) / place for place in hits) / max(1, size)


@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(1, 6),
    bits=st.integers(1, 4),
    labels=st.integers(1, 3),
    multi=st.booleans(),
)
def test_average_precision_at_r_is_its_mean_over_all_orders_of_the_ties(
    random_case, tied_orders, seed, items, bits, labels, multi
):
    case = random_case(seed, queries=1, items=items, bits=bits, labels=labels, multi=multi)
    every = [average_precision_at_r_of(ranking) for ranking in tied_orders(case, 0)]
    found = average_precision_at_r(count_by_distance(*case)).item()
    assert found == pytest.approx(sum(every) / len(every), abs=1e-12)


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


@pytest.mark.parametrize(
    ("queries", "message"),
    [([0, 3], "`labels` must lie from 0 to C-1=2, but got 3"), ([0], "`labels` must have one row a sample, but got 1")],
)
def test_labels_of_other_classes_or_queries_are_refused(queries, message):
    with pytest.raises(ValueError, match=message):
        figures_by_class(torch.tensor([0.5, 0.25]), torch.tensor(queries), torch.tensor([0, 1]), ["ash", "cat", "dog"])
