import itertools

import numpy as np
import pytest
import torch

from modeling_crh.codebook import center_distances
from modeling_crh.training.objectives.hash_centers import (
    balanced_centers,
    bernoulli_centers,
    fit_semantic_centers,
    gilbert_varshamov_distance,
    hadamard_centers,
    spread_centers,
)

KINDS = [balanced_centers, bernoulli_centers, spread_centers]


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


def families(num_labels, size=5, seed=0):
    """Similarity of classes that come in families: near 1 within one, near -1 between two."""
    family = torch.arange(num_labels) // size
    noise = torch.rand(num_labels, num_labels, generator=torch.Generator().manual_seed(seed)) * 0.2
    similarity = torch.where(family.unsqueeze(0) == family.unsqueeze(1), 0.9, -0.9) + (noise + noise.T) / 4
    return similarity.fill_diagonal_(1)


def misfit(centers, similarity):
    """|S - Z Z^T / K|^2, one pair at a time."""
    rows, num_bits = centers.tolist(), centers.shape[1]
    products = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    pairs = itertools.product(range(len(rows)), repeat=2)
    return sum((similarity[i, j].item() - products[i][j] / num_bits) ** 2 for i, j in pairs)


def test_no_choice_of_words_is_better_where_all_can_be_tried():
    similarity = torch.tensor([[1.0, 0.9, -0.9], [0.9, 1.0, -0.8], [-0.9, -0.8, 1.0]])
    distance = center_distances(spread_centers(3, 4)).least
    words = torch.tensor(list(itertools.product([-1, 1], repeat=4)))
    choices = [words[list(choice)] for choice in itertools.permutations(range(16), 3)]
    least = min(misfit(one, similarity) for one in choices if center_distances(one).least >= distance)
    assert misfit(fit_semantic_centers(similarity, 4), similarity) == pytest.approx(least)


@pytest.mark.parametrize(("num_labels", "num_bits"), [(20, 16), (100, 16), (100, 64), (300, 32)])
def test_centers_keep_the_distance_and_fit_better_than_random_ones(num_labels, num_bits):
    similarity = families(num_labels)
    centers = fit_semantic_centers(similarity, num_bits)
    assert (centers.shape, centers.dtype) == ((num_labels, num_bits), torch.int8)
    assert center_distances(centers).least >= gilbert_varshamov_distance(num_labels, num_bits)
    products = centers.double() @ centers.double().T / num_bits
    random = spread_centers(num_labels, num_bits).double()
    assert (similarity - products).square().sum() < (similarity - random @ random.T / num_bits).square().sum()
    pairs = ~torch.eye(num_labels, dtype=torch.bool)
    assert np.corrcoef(products[pairs], similarity[pairs])[0, 1] > 0.2


def test_no_single_bit_could_be_turned_to_advantage():
    similarity = families(12, size=4)
    centers = fit_semantic_centers(similarity, 8)
    before, distance = misfit(centers, similarity), gilbert_varshamov_distance(12, 8)
    for i, k in itertools.product(range(12), range(8)):
        turned = centers.clone()
        turned[i, k] *= -1
        assert misfit(turned, similarity) > before - 1e-6 or center_distances(turned).least < distance


@pytest.mark.parametrize(
    ("draw", "given", "message"),
    [
        (fit_semantic_centers, torch.zeros(3, 4), r"`similarity` must be \(C, C\), but got shape \(3, 4\)"),
        (fit_semantic_centers, torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "`similarity` must be symmetric, but is not"),
        (fit_semantic_centers, torch.eye(257), "a word for each of C=257 classes, but 8 bits make 256"),
        *((draw, 257, "`num_bits` must make a word for each of C=257 classes, but 8 bits make 256") for draw in KINDS),
    ],
)
def test_too_many_classes_or_a_similarity_of_none_are_an_error(draw, given, message):
    with pytest.raises(ValueError, match=message):
        draw(given, 8)
