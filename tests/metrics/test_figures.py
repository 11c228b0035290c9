import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.metrics import (
    average_precision,
    average_precision_at_r,
    average_precision_bounds,
    bit_balance,
    bit_correlation,
    convention_average_precision,
    count_by_distance,
    figures_with_counts,
    precision_at,
    precision_within_radius,
    recall_at,
    retrieval_figures,
)
from modeling_crh.metrics import figures as figures_module
from modeling_crh.metrics.figures import explain_figure


def test_every_figure_of_three_items_is_worked_by_hand():
    # The query finds a tie of a relevant and another item, then a relevant one.
    database, labels = torch.tensor([[1, 1], [1, 1], [-1, -1]]), torch.tensor([1, 0, 0])
    figures = retrieval_figures(torch.ones(1, 2), database, torch.tensor([0]), labels, top_k=[1, 3], top_r=[2])
    means = {"map": 17 / 24, "map_lower": 7 / 12, "map_upper": 5 / 6, "map_at_r": 3 / 8}  # of 1/1 / 2 and 1/2 / 2
    first = {"map_convention": 7 / 12, "map_convention_at_2": 1 / 2, "precision_within_radius_2": 2 / 3}
    places = {"precision_at_1": 1 / 2, "recall_at_1": 1 / 4, "precision_at_3": 2 / 3, "recall_at_3": 1}
    counts = {"queries": 1, "queries_without_relevant": 0, "database": 3}
    assert figures == pytest.approx(means | first | places | counts)


@pytest.mark.parametrize("multi", [False, True])
def test_figures_are_means_of_what_each_function_gives(random_case, multi):
    case = random_case(0, queries=30, multi=multi)
    counts = count_by_distance(*case)
    lower, upper = average_precision_bounds(counts)
    expected = {
        "map": average_precision(counts),
        "map_lower": lower,
        "map_upper": upper,
        "map_at_r": average_precision_at_r(counts),
        "map_convention": convention_average_precision(*case),
        "map_convention_at_5": convention_average_precision(*case, top_r=5),
        "precision_at_7": precision_at(counts, 7),
        "recall_at_7": recall_at(counts, 7),
        "precision_within_radius_1": precision_within_radius(counts, 1),
    }
    figures, found = figures_with_counts(*case, top_k=[7], top_r=[5], radius=1)
    means = {name: values.mean().item() for name, values in expected.items()}
    assert {name: figures[name] for name in means} == pytest.approx(means, abs=1e-12)
    assert torch.equal(found.relevant, counts.relevant)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_database_changes_no_figure_but_the_convention(random_case, seed):
    queries, database, query_labels, labels = random_case(seed)
    order = torch.randperm(len(database), generator=torch.Generator().manual_seed(seed))
    figures = retrieval_figures(queries, database, query_labels, labels)
    shuffled = retrieval_figures(queries, database[order], query_labels, labels[order])
    assert set(figures) == set(shuffled)
    assert {name for name in figures if figures[name] != shuffled[name]} <= {"map_convention"}


def test_queries_without_a_relevant_item_are_counted_and_score_0():
    codes = torch.ones(4, 4)
    figures = retrieval_figures(codes, codes, torch.tensor([0, 0, 7, 8]), torch.zeros(4), top_k=[1])
    assert figures["queries_without_relevant"] == 2
    assert figures["map"] == figures["map_upper"] == figures["map_convention"] == figures["precision_at_1"] == 0.5


def test_queries_and_items_without_a_label_score_0_and_are_no_hits():
    codes, labels = torch.ones(4, 4), torch.tensor([0, 0, -100, -100])
    figures = retrieval_figures(codes, codes, labels, labels, leave_one_out=True, top_k=[3])
    assert (figures["queries"], figures["queries_without_relevant"], figures["database"]) == (4, 2, 3)
    assert figures["precision_at_3"] == pytest.approx((1 / 3 + 1 / 3 + 0 + 0) / 4)
    assert figures["recall_at_3"] == 0.5


def test_a_query_left_out_of_its_own_ranking_does_not_find_itself():
    codes, labels = torch.tensor([[1, 1], [1, -1], [-1, 1]]), torch.tensor([0, 1, 2])
    figures = retrieval_figures(codes, codes, labels, labels, leave_one_out=True, top_k=[2])
    assert (figures["map"], figures["database"], figures["queries_without_relevant"]) == (0, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": [10, 41]}, r"`top_k` must be a whole number from 1 to N=40, but got 41"),
        ({"top_r": [0]}, r"`top_r` must be a whole number from 1 to N=40, but got 0"),
        ({"top_r": [-1]}, r"`top_r` must be a whole number from 1 to N=40, but got -1"),
        ({"top_r": [41]}, r"`top_r` must be a whole number from 1 to N=40, but got 41"),
        ({"top_k": 5}, r"`top_k` must be a list of whole numbers, but got 5"),
        ({"top_k": None}, r"`top_k` must be a list of whole numbers, but got None"),
        ({"top_r": "12"}, r"`top_r` must be a list of whole numbers, but got '12'"),
        ({"top_k": ("1",)}, r"`top_k` must be a whole number from 1 to N=40, but got '1'"),
        ({"top_k": (True,)}, r"`top_k` must be a whole number from 1 to N=40, but got True"),
        ({"radius": 1.5}, r"`radius` must be a whole number, 0 or larger, but got 1\.5"),
        ({"radius": -1}, r"`radius` must be a whole number, 0 or larger, but got -1"),
        ({"leave_one_out": True}, r"`leave_one_out` must be False unless"),
    ],
)
def test_arguments_out_of_range_are_an_error(random_case, arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieval_figures(*random_case(0), **arguments)


def test_whole_numbers_of_numpy_are_places_too(random_case):
    found, expected = ({"top_k": [kind(3)], "radius": kind(1)} for kind in (np.int64, int))
    assert retrieval_figures(*random_case(0), **found) == retrieval_figures(*random_case(0), **expected)


def test_a_figure_has_words_and_one_of_ours_a_meaning(random_case):
    words = {
        "map": "mAP",
        "precision_at_10": "Precision@10",
        "precision_within_radius_2": "Precision within radius 2",
        "map_convention_at_1000": "mAP@1000 by convention",
        "my_own_figure": "my own figure",
    }
    assert {name: explain_figure(name)[0] for name in words} == words
    figures = retrieval_figures(*random_case(0), top_k=[2], top_r=[2], radius=1)
    assert [name for name in figures if not explain_figure(name)[1]] == []


def signs(seed, rows, num_bits):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(2, (rows, num_bits), generator=generator) * 2 - 1).to(torch.int8)


def test_balance_is_the_mean_over_bits_of_their_absolute_mean():
    codes = torch.tensor([[1, -1, 1], [1, -1, -1], [1, 1, 1], [1, 1, 1]])
    assert bit_balance(codes) == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert bit_balance(torch.ones(1000, 2, dtype=torch.int8)) == 1  # more rows than a byte holds


@given(seed=st.integers(0, 2**32 - 1), num_bits=st.integers(2, 8))
def test_correlation_is_the_mean_of_what_corrcoef_gives_above_the_diagonal(seed, num_bits):
    codes = torch.cat([signs(seed, 20, num_bits), torch.ones(1, num_bits), -torch.ones(1, num_bits)])  # none constant
    pairs = torch.triu_indices(num_bits, num_bits, offset=1)
    expected = torch.corrcoef(codes.double().T)[pairs[0], pairs[1]].abs().mean()
    assert bit_correlation(codes) == pytest.approx(expected.item(), abs=1e-12)


def test_correlation_does_not_depend_on_the_blocks(monkeypatch):
    codes = signs(0, 50, 6)
    whole = bit_correlation(codes)
    monkeypatch.setattr(figures_module, "ROWS_PER_PRODUCT", 7)
    assert bit_correlation(codes) == whole


def test_a_pair_with_a_constant_bit_counts_1():
    balanced = torch.tensor([[1, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1]])
    assert bit_correlation(balanced) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("figure", "argument", "message"),
    [
        (bit_balance, torch.zeros(2, 2), r"`codes` must hold only -1 and \+1"),
        (bit_correlation, torch.ones(3), r"`codes` must be \(N, K\) .* but got shape \(3,\)"),
        (bit_correlation, torch.ones(3, 1), r"`codes` must have at least 2 bits to correlate, but has 1"),
    ],
)
def test_codes_without_such_a_figure_are_an_error(figure, argument, message):
    with pytest.raises(ValueError, match=message):
        figure(argument)
