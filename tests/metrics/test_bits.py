import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.metrics import bit_balance, bit_correlation
from modeling_crh.metrics import figures as bits


def signs(seed, rows, num_bits):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(2, (rows, num_bits), generator=generator) * 2 - 1).to(torch.int8)


def test_balance_is_the_mean_over_bits_of_their_absolute_mean():
    codes = torch.tensor([[1, -1, 1], [1, -1, -1], [1, 1, 1], [1, 1, 1]])
    assert bit_balance(codes) == pytest.approx((1 + 0 + 1 / 2) / 3)


def test_balance_counts_more_rows_than_a_byte_holds():
    assert bit_balance(torch.ones(1000, 2, dtype=torch.int8)) == 1


@given(seed=st.integers(0, 2**32 - 1), num_bits=st.integers(2, 8))
def test_correlation_is_the_mean_of_what_corrcoef_gives_above_the_diagonal(seed, num_bits):
    codes = torch.cat([signs(seed, 20, num_bits), torch.ones(1, num_bits), -torch.ones(1, num_bits)])  # none constant
    pairs = torch.triu_indices(num_bits, num_bits, offset=1)
    expected = torch.corrcoef(codes.double().T)[pairs[0], pairs[1]].abs().mean()
    assert bit_correlation(codes) == pytest.approx(expected.item(), abs=1e-12)


def test_correlation_does_not_depend_on_the_blocks(monkeypatch):
    codes = signs(0, 50, 6)
    whole = bit_correlation(codes)
    monkeypatch.setattr(bits, "ROWS_PER_PRODUCT", 7)
    assert bit_correlation(codes) == whole


def test_equal_and_opposite_bits_correlate_fully():
    column = signs(1, 30, 1)
    assert bit_correlation(torch.cat([column, column, -column], dim=1)) == pytest.approx(1, abs=1e-12)


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
