import re
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.codebook import (
    center_distances,
    choose_head_dim,
    compose_centers,
    draw_assignment,
    draw_centers,
    draw_codebook,
)

ALL_NUM_BITS = range(8, 129, 8)
seeds = st.integers(0, 2**32 - 1)

GOLDEN_CODEBOOK = [
    [[-1, 1, 1], [1, 1, 1], [-1, 1, -1], [1, 1, -1]],
    [[-1, 1, -1], [-1, -1, -1], [1, -1, -1], [-1, 1, 1]],
]
GOLDEN_ASSIGNMENT = [[0, 2, 1], [0, 2, 1]]


def head_dim_by_definition(num_bits, codebook_size):
    fitting = [d for d in range(1, num_bits + 1) if num_bits % d == 0 and 2**d >= codebook_size]
    powers = [d for d in fitting if d in (1, 2, 4, 8, 16, 32, 64, 128)]
    return min(powers or fitting)


@pytest.mark.parametrize(
    ("num_bits", "codebook_size", "head_dim"),
    [
        *((16, 200, 8), (32, 392, 16), (64, 1110, 16), (64, 160, 8)),  # data sets of the paper
        *((24, 200, 8), (48, 200, 8), (64, 256, 8), (64, 257, 16), (8, 2, 1), (8, 1, 1)),
        *((24, 392, 12), (24, 5000, 24), (40, 1110, 20), (48, 70_000, 24), (56, 392, 14)),  # no power of two divides K
        *((10**12, 200, 8), (10**12, 2**13, 16)),
        (8 * 1_000_003, 2**9, 1_000_003),  # 16 does not divide it, and it has no other divisor of 9 or more
    ],
)
def test_head_dims_are_worked_by_hand(num_bits, codebook_size, head_dim):
    assert choose_head_dim(num_bits, codebook_size) == head_dim


@pytest.mark.parametrize("num_bits", ALL_NUM_BITS)
def test_head_dims_follow_the_rule_for_every_number_of_bits(num_bits):
    for codebook_size in [*range(2, 260), *(2**d + more for d in range(9, 18) for more in (-1, 0, 1))]:
        if 2**num_bits >= codebook_size:
            assert choose_head_dim(num_bits, codebook_size) == head_dim_by_definition(num_bits, codebook_size)


@pytest.mark.parametrize(("num_bits", "codebook_size"), [(8, 257), (8, 65_536), (8, 65_537), (16, 65_537)])
def test_too_few_bits_name_the_least_number_that_would_do(num_bits, codebook_size):
    with pytest.raises(ValueError, match="`num_bits` must be at least") as error:
        choose_head_dim(num_bits, codebook_size)
    enough = int(re.search(r"at least (\d+)", str(error.value))[1])
    assert 2 ** choose_head_dim(enough, codebook_size) >= codebook_size
    for fewer in range(8, enough, 8):
        with pytest.raises(ValueError, match=f"at least {enough}"):
            choose_head_dim(fewer, codebook_size)


@given(seed=seeds, head_dim=st.integers(1, 12), num_heads=st.integers(1, 3), data=st.data())
def test_the_words_of_a_head_are_distinct(seed, head_dim, num_heads, data):
    codebook_size = data.draw(st.integers(1, min(2**head_dim, 64)))  # every word there is, where that is the largest
    codebook = draw_codebook(num_heads, codebook_size, head_dim, np.random.default_rng(seed))
    assert codebook.dtype == torch.int8
    assert codebook.shape == (num_heads, codebook_size, head_dim)
    assert set(codebook.unique().tolist()) <= {-1, 1}
    for words in codebook:
        assert len(words.unique(dim=0)) == codebook_size


def test_every_word_is_as_likely_as_any_other():
    codebook = draw_codebook(4000, 2, 2, np.random.default_rng(0))
    numbers = ((codebook > 0).int() * torch.tensor([2, 1])).sum(-1)  # (4000, 2), entries from 0 to 3
    assert (numbers.flatten().bincount() - 2000).abs().max() < 160  # five standard deviations


@given(seed=seeds, num_labels=st.integers(1, 20), spare=st.integers(0, 20))
def test_every_class_starts_with_a_word_of_its_own(seed, num_labels, spare):
    assignment = draw_assignment(3, num_labels, num_labels + spare, np.random.default_rng(seed))
    assert assignment.dtype == torch.int64
    assert assignment.shape == (3, num_labels)
    assert assignment.min() >= 0
    assert assignment.max() < num_labels + spare
    assert all(len(words.unique()) == num_labels for words in assignment)


def test_the_same_seed_gives_the_same_centers_on_every_machine():
    codebook, assignment = draw_centers(2, 4, 3, 3, seed=0)
    assert codebook.tolist() == GOLDEN_CODEBOOK
    assert assignment.tolist() == GOLDEN_ASSIGNMENT
    assert not torch.equal(draw_centers(2, 4, 3, 3, seed=1)[0], codebook)


@pytest.mark.parametrize("seed", range(5))
def test_more_draws_never_bring_the_closest_centers_closer(seed):
    least = [
        center_distances(compose_centers(*draw_centers(2, 12, 8, 6, draws=draws, seed=seed))).least
        for draws in (1, 2, 10, 40)
    ]
    assert least == sorted(least)
    assert least[-1] > 1


def test_center_distances_are_worked_by_hand():
    centers = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, 1, -1]])  # 1, 3 and 2 bits apart
    assert center_distances(centers) == (1, 2.0)


@given(seed=seeds, num_labels=st.integers(2, 12), num_bits=st.integers(1, 20), block=st.integers(1, 13))
def test_center_distances_are_those_of_all_pairs_whatever_the_block(seed, num_labels, num_bits, block):
    drawn = np.random.default_rng(seed).integers(0, 2, (num_labels, num_bits))
    centers = torch.from_numpy(2 * drawn - 1)
    distances = [int((a != b).sum()) for a, b in combinations(centers, 2)]
    found = center_distances(centers, block=block)
    assert found.least == min(distances)
    assert found.mean == pytest.approx(sum(distances) / len(distances))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_codebook(1, 5, 2, np.random.default_rng(0)), r"at most 2\^d=4 for d=2 bits a head, but got 5"),
        (lambda: draw_centers(1, 4, 2, 2, draws=0), "`draws` must be at least 1, but got 0"),
        (lambda: center_distances(torch.ones(1, 4)), "must hold at least two centers, but got 1"),
    ],
)
def test_what_cannot_be_drawn_or_compared_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
