import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.training.objectives.pair_objectives import DTSH


def loss_by_definition(objective, hash_logits, rows):
    """The formula of the class, one triplet at a time."""
    logits = hash_logits.tolist()
    similar = [[any(a and b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    theta = [[sum(a * b for a, b in zip(one, other, strict=True)) / 2 for other in logits] for one in logits]
    indices = range(len(rows))
    triplets = [
        math.log(1 + math.exp(-(theta[i][p] - theta[i][n] - objective.margin)))
        for i in indices
        for p in indices
        for n in indices
        if p != i and similar[i][p] and not similar[i][n]
    ]
    gap = [(a - (1 if a >= 0 else -1)) ** 2 for v in logits for a in v]
    return sum(triplets) / max(len(triplets), 1) + objective.quantization_weight * sum(gap) / len(gap)


def test_the_loss_of_three_samples_is_worked_by_hand():
    objective = DTSH(2, 2, margin=1)
    hash_logits = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])  # th is 1 of the similar, 0 of the others
    loss = objective(hash_logits, torch.tensor([0, 0, 1]))  # and the margin is 1: each triplet costs log 2
    assert loss.item() == pytest.approx(math.log(2))
    assert DTSH(2, 16).margin == 4


@pytest.mark.parametrize("multi", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_that_of_the_definition(multi, seed):
    objective = DTSH(4, 8, margin=1.5, quantization_weight=0.3)
    hash_logits, labels = random_batch(seed, multi=multi)
    expected = loss_by_definition(objective, hash_logits, multi_hot_rows(labels))
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-4)


def test_turning_a_bit_of_all_samples_leaves_the_loss_as_it_is():
    hash_logits, labels = random_batch(2)
    turned = hash_logits * torch.tensor([1, -1, 1, -1, 1, 1, -1, 1])
    torch.testing.assert_close(DTSH(4, 8)(turned, labels), DTSH(4, 8)(hash_logits, labels))


def test_of_more_pairs_than_allowed_some_are_drawn_and_their_loss_is_near_that_of_all():
    hash_logits, labels = random_batch(3, samples=256)  # 16,000 similar pairs
    torch.manual_seed(0)
    drawn = [DTSH(4, 8, max_pairs=500)(hash_logits, labels).item() for _ in range(20)]
    whole = DTSH(4, 8, max_pairs=256**2)(hash_logits, labels).item()
    assert len(set(drawn)) == 20
    assert sum(drawn) / 20 == pytest.approx(whole, rel=0.02)


def test_a_batch_without_a_triplet_is_only_made_binary():
    hash_logits, labels = random_batch(4, samples=2)
    labels[:] = torch.tensor([0, 1])
    expected = (hash_logits.abs() - 1).square().mean()
    torch.testing.assert_close(DTSH(4, 8)(hash_logits, labels), expected)


def test_a_bound_of_no_pairs_is_an_error():
    with pytest.raises(ValueError, match=r"`max_pairs` must be a whole number, 1 or larger, but got 0"):
        DTSH(4, 8, max_pairs=0)
