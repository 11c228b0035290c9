import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.metrics import average_precision_bounds, convention_average_precision, count_by_distance

pytestmark = pytest.mark.usefixtures("either_ranking")


@pytest.fixture(scope="module")
def research_code(relevant_to):
    """What research code computes, one query at a time."""

    def compute(query_codes, database_codes, query_labels, database_labels, top_r, leave_one_out=False):
        scores = []
        for query in range(len(query_codes)):
            distance = (query_codes[query] != database_codes).sum(dim=1).numpy()
            relevant = relevant_to(query_labels[query], database_labels).numpy()
            if leave_one_out:
                distance, relevant = np.delete(distance, query), np.delete(relevant, query)
            places = np.flatnonzero(relevant[np.argsort(distance, kind="stable")][:top_r]) + 1
            scores.append(np.mean(np.arange(1, len(places) + 1) / places) if len(places) else 0.0)
        return scores

    return compute


@pytest.mark.parametrize(("labels", "expected"), [([0, 1, 0], 5 / 6), ([1, 0, 0], 7 / 12)])
def test_a_tie_keeps_the_order_of_the_database(labels, expected):
    database = torch.tensor([[1, 1], [1, 1], [-1, -1]])
    found = convention_average_precision(torch.ones(1, 2), database, torch.tensor([0]), torch.tensor(labels))
    assert found.tolist() == pytest.approx([expected])


def test_the_divisor_is_what_the_first_places_hold():
    database, labels = torch.tensor([[1, 1], [1, -1], [-1, -1]]), torch.tensor([0, 1, 0])
    found = convention_average_precision(torch.ones(1, 2), database, torch.tensor([0]), labels, top_r=2)
    assert found.tolist() == [1.0]


@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(1, 6),
    top_r=st.integers(1, 19),
    multi=st.booleans(),
    leave_one_out=st.booleans(),
    unlabelled=st.sampled_from([0, 0.3]),
)
def test_the_value_is_that_of_a_stable_sort_for_each_query(
    random_case, research_code, seed, top_r, leave_one_out, **fields
):
    queries, database, query_labels, labels = random_case(seed, items=20, labels=4, **fields)
    if leave_one_out:
        queries, query_labels = database, labels
    case = (queries, database, query_labels, labels)
    found = convention_average_precision(*case, top_r=top_r, leave_one_out=leave_one_out)
    assert found.tolist() == pytest.approx(research_code(*case, top_r, leave_one_out), abs=1e-12)


@pytest.mark.parametrize("bits", [64, 300, 512])
def test_long_codes_sort_as_short_ones_do(random_case, research_code, bits):
    case = random_case(3, items=200, bits=bits)
    assert convention_average_precision(*case).tolist() == pytest.approx(research_code(*case, 200), abs=1e-12)


def test_the_whole_ranking_lies_between_the_tie_aware_bounds(random_case):
    case = random_case(4)
    found = convention_average_precision(*case)
    lower, upper = average_precision_bounds(count_by_distance(*case))
    assert ((lower <= found + 1e-12) & (found <= upper + 1e-12)).all()
