from fractions import Fraction
from itertools import pairwise, permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_rankings import average_precision_of

from modeling_crh.codes import pack_codes
from modeling_crh.metrics import asymmetric, asymmetric_average_precision, average_precision, count_by_distance


def scores_of(logits, codes):
    values = [Fraction(value) for value in logits.tolist()]
    return [sum(value * bit for value, bit in zip(values, row, strict=True)) for row in codes.tolist()]


def logits_like(codes, seed, steps=None):
    """Logits with the signs of codes: of so many sizes that many scores tie, or of any size."""
    generator = torch.Generator().manual_seed(seed)
    if steps is None:
        return codes * torch.randn(codes.shape, generator=generator).abs()
    return codes * torch.randint(steps + 1, codes.shape, generator=generator) / 4


def test_one_query_is_worked_by_hand():
    # v . b is 3.5, 2.5, 2.5 (its bits are the same) and -3.5: AP is (1/2 + 2/4) / 2 or (1/3 + 2/4) / 2.
    database = torch.tensor([[1, 1], [1, -1], [1, -1], [-1, -1]])
    labels = torch.tensor([1, 0, 1, 0])
    found = asymmetric_average_precision(torch.tensor([[3.0, 0.5]]), database, torch.tensor([0]), labels)
    assert found.item() == pytest.approx((1 / 2 + 5 / 12) / 2, abs=1e-15)


def test_sums_of_other_logits_tie_where_they_are_equal():
    # v . b is 1.5 for both items: -1 + 0.5 + 0.5 + 1.5 and 1 - 0.5 - 0.5 + 1.5; their sum, 3.5, is no power of two.
    database = torch.tensor([[1, 1, -1, -1], [-1, -1, 1, -1]])
    logits = torch.tensor([[-1.0, 0.5, -0.5, -1.5]])
    found = asymmetric_average_precision(logits, database, torch.tensor([1]), torch.tensor([0, 1]))
    assert found.item() == pytest.approx(0.75, abs=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(1, 6),
    bits=st.integers(1, 4),
    steps=st.sampled_from([0, 1, 2, 8, None]),
    multi=st.booleans(),
    unlabelled=st.sampled_from([0.0, 0.3]),
)
def test_it_is_the_mean_over_all_orders_that_agree_with_the_scores(
    random_case, relevant_to, seed, items, steps, **fields
):
    codes, database, query_labels, labels = random_case(seed, queries=2, items=items, **fields)
    logits = logits_like(codes, seed, steps)
    expected = []
    for query in range(2):
        scores, hits = scores_of(logits[query], database), relevant_to(query_labels[query], labels).tolist()
        orders = [
            [hits[item] for item in order]
            for order in permutations(range(items))
            if all(scores[one] >= scores[two] for one, two in pairwise(order))
        ]
        expected.append(sum(map(average_precision_of, orders)) / len(orders))
    found = asymmetric_average_precision(logits, database, query_labels, labels)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 70), multi=st.booleans(), scale=st.floats(1e-30, 1e30))
def test_logits_that_are_codes_give_the_hamming_figure(random_case, seed, bits, multi, scale):
    case = random_case(seed, bits=bits, multi=multi, unlabelled=0.1)
    found = asymmetric_average_precision(scale * case[0].double(), *case[1:])
    torch.testing.assert_close(found, average_precision(count_by_distance(*case)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("multi", [False, True])
def test_neither_the_order_of_the_database_nor_blocks_nor_packing_change_a_bit_of_it(random_case, monkeypatch, multi):
    codes, database, query_labels, labels = random_case(0, items=300, bits=16, multi=multi)
    logits = logits_like(codes, 0)
    found = asymmetric_average_precision(logits, database, query_labels, labels)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert torch.equal(asymmetric_average_precision(logits, database[order], query_labels, labels[order]), found)
    assert torch.equal(asymmetric_average_precision(logits, pack_codes(database), query_labels, labels), found)
    monkeypatch.setattr(asymmetric, "ITEMS_AT_ONCE", 7)
    monkeypatch.setattr(asymmetric, "PAIRS_AT_ONCE", 2 * 300)
    assert torch.equal(asymmetric_average_precision(logits, database, query_labels, labels), found)


CODES, LOGITS, LABELS = torch.ones(3, 8), torch.ones(2, 8), (torch.zeros(2).long(), torch.zeros(3).long())


@pytest.mark.parametrize(
    ("logits", "codes", "message"),
    [
        (LOGITS.long(), CODES, r"`query_logits` must be \(Q, K\) floating point .* but got torch.int64 of shape"),
        (LOGITS[0], CODES, r"`query_logits` must be \(Q, K\) floating point .* of shape \(8,\)"),
        (LOGITS / 0, CODES, r"`query_logits` must be finite, but some are not"),
        (LOGITS, CODES[:, :7], r"`database_codes` must have the K=8 bits of `query_logits`, .* of shape \(3, 7\)"),
        (LOGITS, CODES.to(torch.uint8), r"the K=8 bits .* but got torch.uint8 of shape \(3, 8\)"),
        (LOGITS, CODES[:0], r"`database_codes` must be \(N, K\) with at least one row"),
        (LOGITS, 0 * CODES, r"`database_codes` must hold only -1 and \+1"),
        (LOGITS, CODES[:2], r"`database_labels` must be \(2,\) class numbers"),
    ],
)
def test_wrong_arguments_are_an_error(logits, codes, message):
    with pytest.raises(ValueError, match=message):
        asymmetric_average_precision(logits, codes, *LABELS)


@pytest.mark.parametrize("scale", [1e308, 3e38, 1e-320])
def test_logits_as_large_or_small_as_floats_can_be_rank_like_others(random_case, scale):
    queries, *rest = random_case(5, bits=70)
    logits = logits_like(queries, 5).double()
    expected = asymmetric_average_precision(queries.double(), *rest)
    assert torch.equal(asymmetric_average_precision(scale * queries.double(), *rest), expected)
    assert torch.equal(
        asymmetric_average_precision(logits / logits.abs().max() * 2.0**1000, *rest),
        asymmetric_average_precision(logits / logits.abs().max(), *rest),
    )
