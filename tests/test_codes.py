import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modeling_crh.codes import binarize, hamming_distance, pack_codes, unpack_codes

bit_tables = st.tuples(st.integers(0, 9), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.uint8, (shape[0], 8 * shape[1]), elements=st.integers(0, 1))
)
pairs_of_packed = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 16)).flatmap(
    lambda shape: st.tuples(arrays(np.uint8, (shape[0], shape[2])), arrays(np.uint8, (shape[1], shape[2])))
)


def codes_of(bits):
    return torch.from_numpy(bits.astype(np.int8) * 2 - 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_codes_are_the_signs_of_logits_of_any_shape_and_zero_of_either_sign_counts_as_plus_one(dtype):
    codes = binarize(torch.tensor([[[0.0, -0.0, 1e-5, -1e-5, float("inf"), -float("inf")]]], dtype=dtype))
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[[1, 1, 1, -1, 1, -1]]]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.float32])
def test_a_byte_holds_the_first_entry_in_its_high_bit(dtype):
    codes = torch.tensor([[1, -1, -1, -1, -1, -1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1]], dtype=dtype)
    assert pack_codes(codes).tolist() == [[128 + 1, 2]]


@given(bits=bit_tables)
def test_packing_is_that_of_numpy_however_codes_lie_in_memory_and_unpacking_undoes_it(bits):
    codes = codes_of(bits)
    every_other = torch.stack([codes, -codes], dim=2).flatten(1)[:, ::2]
    for same in (codes, codes.T.contiguous().T, every_other):
        packed = pack_codes(same)
        assert packed.dtype == torch.uint8
        assert np.array_equal(packed.numpy(), np.packbits(bits, axis=1))
    assert torch.equal(unpack_codes(packed), codes)


def test_distances_are_worked_by_hand():
    query = torch.tensor([[1, 1, 1], [-1, 1, -1]])
    database = torch.tensor([[1, 1, 1], [-1, -1, -1]])
    assert hamming_distance(query, database).tolist() == [[0, 3], [2, 1]]


@given(pair=pairs_of_packed)
def test_distances_are_the_popcount_of_xor(pair):
    expected = np.bitwise_count(pair[0][:, None] ^ pair[1][None]).sum(-1, dtype=np.int64)
    query, database = (unpack_codes(torch.from_numpy(packed)) for packed in pair)
    assert np.array_equal(hamming_distance(query, database).numpy(), expected)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (binarize, [torch.tensor([1.0, float("nan")])], "`hash_logits` must not hold NaN"),
        (pack_codes, [torch.ones(2, 12)], r"K a multiple of 8, but got shape \(2, 12\)"),
        (pack_codes, [torch.ones(8)], r"must be \(N, K\) .* but got shape \(8,\)"),
        (pack_codes, [torch.zeros(1, 8)], r"`codes` must hold only -1 and \+1; pass hash logits through `binarize`"),
        (pack_codes, [torch.full((1, 8), float("nan"))], r"`codes` must hold only -1 and \+1"),
        (unpack_codes, [torch.ones(1, 8, dtype=torch.int8)], r"`packed` must be \(N, B\) uint8, but got torch\.int8"),
        (unpack_codes, [torch.ones(8, dtype=torch.uint8)], r"but got torch\.uint8 of shape \(8,\)"),
        (hamming_distance, [torch.ones(1, 8), torch.ones(1, 16)], r"same K, but got \(1, 8\) and \(1, 16\)"),
        (hamming_distance, [torch.ones(1, 8), torch.zeros(2, 8)], r"`database_codes` must hold only -1 and \+1"),
        (hamming_distance, [torch.full((1, 8), float("nan")), torch.ones(2, 8)], r"`query_codes` must hold only -1"),
        (hamming_distance, [torch.ones(1, 8).bool(), torch.ones(1, 8)], r"`query_codes` must hold only -1 and \+1"),
        (hamming_distance, [torch.ones(1, 8).byte(), torch.ones(1, 8)], "packed codes through `unpack_codes`"),
        (hamming_distance, [torch.full((1, 8), -128).char(), torch.ones(1, 8)], r"only -1 and \+1"),
        (pack_codes, [torch.ones(1, 8, dtype=torch.complex64)], r"`codes` must hold only -1 and \+1"),
        (binarize, [np.ones(3)], r"`hash_logits` must be a torch\.Tensor, but got ndarray"),
        (binarize, [torch.tensor([True])], r"`hash_logits` must be floating point, but got torch\.bool"),
        (pack_codes, [[[1] * 8]], r"`codes` must be a torch\.Tensor, but got list"),
        (unpack_codes, [np.ones((1, 8), np.uint8)], r"`packed` must be a torch\.Tensor, but got ndarray"),
        (hamming_distance, [torch.ones(1, 8), None], r"`database_codes` must be a torch\.Tensor, but got NoneType"),
    ],
)
def test_what_is_no_code_is_an_error(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
