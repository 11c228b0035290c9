import pytest
import torch

from modeling_crh.codebook import center_distances
from modeling_crh.training.objectives.fixed_centers import (
    balanced_centers,
    bernoulli_centers,
    gilbert_varshamov_distance,
    hadamard_centers,
    hadamard_matrix,
    spread_centers,
)

KINDS = [balanced_centers, bernoulli_centers, spread_centers]


def test_the_hadamard_matrix_of_order_four_is_worked_by_hand():
    assert hadamard_matrix(4).tolist() == [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]


@pytest.mark.parametrize("order", [1, 2, 16, 64])
def test_rows_of_a_hadamard_matrix_are_orthogonal(order):
    matrix = hadamard_matrix(order).int()
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order, dtype=torch.int32))


@pytest.mark.parametrize("num_labels", [2, 16, 17, 32])
def test_hadamard_centers_differ_in_half_of_the_bits_or_in_all(num_labels):
    centers = hadamard_centers(num_labels, 16, seed=3).int()
    agreements = (centers @ centers.T)[~torch.eye(num_labels, dtype=torch.bool)]
    assert centers.shape == (num_labels, 16)
    assert set(agreements.tolist()) <= ({0} if num_labels <= 16 else {0, -16})


@pytest.mark.parametrize(("num_labels", "num_bits"), [(33, 16), (3, 24), (100, 48)])
def test_where_there_are_too_few_hadamard_rows_there_are_none(num_labels, num_bits):
    assert hadamard_centers(num_labels, num_bits) is None


@pytest.mark.parametrize(
    ("num_labels", "distances"), [(100, [4, 10, 24]), (196, [4, 10, 23]), (555, [3, 9, 21]), (80, [5, 11, 24])]
)
def test_the_benchmarks_have_the_distances_of_the_bound(num_labels, distances):
    assert [gilbert_varshamov_distance(num_labels, num_bits) for num_bits in (16, 32, 64)] == distances


@pytest.mark.parametrize("num_labels", [80, 100, 196, 555, 1611])
@pytest.mark.parametrize("num_bits", [16, 24, 32, 48, 64])
def test_spread_centers_keep_the_distance_of_the_bound(num_labels, num_bits):
    centers = spread_centers(num_labels, num_bits)
    assert center_distances(centers).least >= gilbert_varshamov_distance(num_labels, num_bits)


def test_spread_centers_fall_back_to_the_largest_distance_there_is():
    assert center_distances(spread_centers(128, 8)).least == 2  # all words with an even number of ones, or with an odd
    assert gilbert_varshamov_distance(129, 8) == 2
    assert center_distances(spread_centers(129, 8)).least == 1


def test_balanced_centers_have_as_many_ones_as_others():
    assert (balanced_centers(1611, 16).sum(1) == 0).all()
    assert (balanced_centers(100, 8).sum(1) == 0).sum() == 70  # there are no more such words of 8 bits


@pytest.mark.parametrize("draw", KINDS)
@pytest.mark.parametrize(("num_labels", "num_bits"), [(2, 8), (256, 8), (1611, 16), (1611, 64)])
def test_centers_are_different_words(draw, num_labels, num_bits):
    centers = draw(num_labels, num_bits)
    assert (centers.shape, centers.dtype) == ((num_labels, num_bits), torch.int8)
    assert (centers.abs() == 1).all()
    assert len(centers.unique(dim=0)) == num_labels


@pytest.mark.parametrize("draw", [*KINDS, hadamard_centers])
def test_the_same_seed_gives_the_same_centers_and_another_gives_others(draw):
    assert torch.equal(draw(10, 16, 5), draw(10, 16, 5))
    assert not torch.equal(draw(10, 16, 5), draw(10, 16, 6))


@pytest.mark.parametrize("draw", KINDS)
def test_more_classes_than_words_are_an_error(draw):
    with pytest.raises(ValueError, match=r"`num_bits` must make a word for each of C=257 classes, but 8 bits make 256"):
        draw(257, 8)


def test_an_order_that_is_no_power_of_two_is_an_error():
    with pytest.raises(ValueError, match=r"`order` must be a power of two, but got 12"):
        hadamard_matrix(12)
