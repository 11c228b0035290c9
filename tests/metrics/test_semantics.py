import itertools
import math

import numpy as np
import pytest
import torch

from modeling_crh.metrics import center_correlation, center_similarity, tree_similarity

CENTERS = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, -1]], dtype=torch.int8)
REFERENCE = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])


def random_case(seed, num_labels=12, num_bits=16):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randint(2, (num_labels, num_bits), generator=generator) * 2 - 1
    noise = torch.randn(num_labels, num_labels, generator=generator, dtype=torch.float64)
    return centers, center_similarity(centers) + (noise + noise.T) / 4


def slow_pcc(centers, reference):
    pairs = list(itertools.combinations(range(len(centers)), 2))
    one = [sum(a * b for a, b in zip(centers[i], centers[j], strict=True)) / len(centers[i]) for i, j in pairs]
    other = [reference[i][j] for i, j in pairs]
    return float(np.corrcoef(one, other)[0, 1])


def test_similarity_and_pcc_of_three_classes_are_worked_by_hand():
    assert center_similarity(CENTERS).tolist() == [[1, 0.5, -1], [0.5, 1, -0.5], [-1, -0.5, 1]]
    # Pairs 01, 02, 12: centers 1/2, -1, -1/2, reference 0.9, 0, 0.
    # Less their means: 5/6, -4/6, -1/6 and 0.6, -0.3, -0.3.
    expected = (0.5 + 0.2 + 0.05) / math.sqrt(42 / 36 * 0.54)
    result = center_correlation(CENTERS, REFERENCE, num_permutations=10)
    assert result.pcc == pytest.approx(expected, abs=1e-7)
    assert (result.num_pairs, result.num_permutations) == (3, 10)


def test_a_tree_is_worked_by_hand():
    paths = [["dogs", "animals"], ["dogs", "animals"], ["cats", "animals"], ["animals"], ["things"]]
    assert tree_similarity(paths)[0].tolist() == pytest.approx([1, 4 / 6, 2 / 6, 2 / 5, 0])
    assert tree_similarity([["others", "birds"], ["others", "cars"]])[0, 1] == 0  # known by all that lies above
    assert tree_similarity([[], [], ["birds"]]).tolist() == torch.eye(3).tolist()  # nothing above, nothing shared


@pytest.mark.parametrize("seed", range(5))
def test_pcc_equals_a_loop_over_pairs(seed):
    centers, reference = random_case(seed)
    expected = slow_pcc(centers.tolist(), reference.tolist())
    assert center_correlation(centers, reference, num_permutations=1).pcc == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_p_value_approaches_that_of_all_permutations(seed):
    centers, reference = random_case(seed, num_labels=5, num_bits=8)
    observed = slow_pcc(centers.tolist(), reference.tolist())
    orders = list(itertools.permutations(range(5)))
    all_pcc = [slow_pcc(centers[list(order)].tolist(), reference.tolist()) for order in orders]
    exact = sum(pcc >= observed - 1e-9 for pcc in all_pcc) / len(orders)
    drawn = center_correlation(centers, reference, num_permutations=20_000).p_value
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


def test_orders_that_correlate_equally_count():
    square = torch.tensor([[1, 1], [1, -1], [-1, -1], [-1, 1]])  # 8 of 24 orders map it to itself
    result = center_correlation(square, center_similarity(square), num_permutations=20_000)
    assert result.pcc == pytest.approx(1)
    assert result.p_value == pytest.approx(8 / 24, abs=0.015)


def test_p_value_is_never_below_its_least():
    centers, reference = random_case(0, num_labels=30)
    assert center_correlation(centers, reference, num_permutations=99).p_value == 1 / 100
    assert center_correlation(centers, -reference, num_permutations=99).p_value == 1


def test_the_size_of_a_block_does_not_matter(monkeypatch):
    centers, reference = random_case(4)
    expected = center_correlation(centers, reference, num_permutations=50)
    monkeypatch.setattr("modeling_crh.metrics.semantics.BLOCK_ENTRIES", 1)
    assert center_correlation(centers, reference, num_permutations=50) == expected


def test_scale_shift_and_diagonal_of_the_reference_do_not_matter():
    centers, reference = random_case(1)
    other = (7 * reference - 100).fill_diagonal_(5)
    expected = center_correlation(centers, reference)
    result = center_correlation(centers, other)
    assert result.pcc == pytest.approx(expected.pcc, abs=1e-9)
    assert result.p_value == expected.p_value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"centers": CENTERS.float() / 2}, "`centers` must hold only -1 and"),
        ({"centers": CENTERS[:2]}, "`centers` must hold at least 3 centers to correlate pairs of them, but got 2"),
        ({"centers": CENTERS[[0, 0, 0]]}, "`centers` must tell some pairs .* similarity 1"),
        ({"reference": [[1.0]]}, "`reference` must be a torch.Tensor, but got list"),
        ({"reference": REFERENCE[:2]}, r"`reference` must be \(C, C\) for C=3 centers, but got shape \(2, 3\)"),
        ({"reference": REFERENCE / 0}, "`reference` must hold only finite real numbers"),
        ({"reference": REFERENCE.to(torch.complex64)}, "`reference` must hold only finite real numbers"),
        ({"reference": REFERENCE.triu()}, "`reference` must be symmetric, but two of its entries differ by 0.9"),
        ({"reference": torch.eye(3)}, "`reference` must tell some pairs .* similarity 0"),
        ({"reference": torch.ones(3, 3) / 3}, "`reference` must tell some pairs .* similarity 0.3333"),
        ({"num_permutations": 0}, "`num_permutations` must be a whole number, 1 or larger, but got 0"),
        ({"num_permutations": 9.5}, "`num_permutations` must be a whole number, 1 or larger, but got 9.5"),
        ({"seed": -1}, "`seed` must be a whole number"),
    ],
)
def test_what_cannot_be_correlated_is_an_error(changes, message):
    arguments = {"centers": CENTERS, "reference": REFERENCE} | changes
    with pytest.raises(ValueError, match=message):
        center_correlation(**arguments)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "`paths` must hold a list of ancestors for at least one class, but is empty"),
        ({"dog": ["animal"]}, "for each class, but class 0 has 'dog'"),
        ([["animal"], 3], "for each class, but class 1 has 3"),
    ],
)
def test_paths_that_are_none_are_an_error(paths, message):
    with pytest.raises(ValueError, match=message):
        tree_similarity(paths)
