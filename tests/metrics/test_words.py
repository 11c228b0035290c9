import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.codes import hamming_distance
from modeling_crh.metrics import count_by_distance
from modeling_crh.metrics.counting import check_codes, pack_words


def test_a_word_holds_64_bits_and_the_last_is_filled_up():
    words = pack_words(torch.tensor([[1] * 65, [-1] * 65]))
    assert words.shape == (2, 2)
    assert [bin(word).count("1") for word in words.ravel().tolist()] == [64, 0, 1, 0]


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([1, 7, 8, 63, 64, 65, 128, 255, 256, 300, 512]))
def test_xor_and_popcount_agree_with_the_product_at_any_number_of_bits(seed, bits):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2, (9, bits), generator=generator) * 2 - 1
    found = count_by_distance(codes[:4], codes, torch.zeros(4), torch.zeros(9)).items
    assert found.tolist() == [
        row.bincount(minlength=bits + 1).tolist() for row in hamming_distance(codes[:4], codes).int()
    ]


@pytest.mark.parametrize("bits", [512, 70_000])
def test_opposite_codes_differ_in_all_bits(bits):
    codes = torch.ones(1, bits)
    assert count_by_distance(codes, -codes, torch.zeros(1), torch.zeros(1)).items[0, bits] == 1


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.ones(4), r"`codes` must be \(N, K\) with at least one row and one bit, but got shape \(4,\)"),
        (torch.ones(0, 8), r"at least one row and one bit, but got shape \(0, 8\)"),
        (torch.ones(8, 0), r"at least one row and one bit, but got shape \(8, 0\)"),
        (torch.tensor([[1, 0]]), r"`codes` must hold only -1 and \+1"),
        (torch.tensor([[1.0, float("nan")]]), r"`codes` must hold only -1 and \+1"),
        (torch.tensor([[129]], dtype=torch.uint8), r"`codes` must hold only -1 and \+1"),
        (torch.tensor([[True]]), r"`codes` must hold only -1 and \+1"),
        ([[1, -1]], r"`codes` must be a torch\.Tensor, but got list"),
    ],
)
def test_anything_but_a_table_of_signs_is_an_error(codes, message):
    with pytest.raises(ValueError, match=message):
        check_codes("codes", codes)
