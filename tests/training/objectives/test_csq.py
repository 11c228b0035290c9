import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.training.objectives.center_objectives import CSQ


def loss_by_definition(objective, hash_logits, rows):
    """The formula of the class, one number at a time."""
    central, gap = [], []
    for v, row in zip(hash_logits.tolist(), rows, strict=True):
        for k, logit in enumerate(v):
            u, votes = math.tanh(logit), sum(own * objective.centers[c, k].item() for c, own in enumerate(row))
            z = objective.tie_word[k].item() if votes == 0 else math.copysign(1, votes)
            p, t = (u + 1) / 2, (z + 1) / 2
            central.append(-(t * math.log(p) + (1 - t) * math.log(1 - p)))
            gap.append((abs(u) - 1) ** 2)
    return sum(central) / len(central) + objective.quantization_weight * sum(gap) / len(gap)


def test_the_loss_of_one_sample_is_worked_by_hand():
    objective = CSQ(2, 2, quantization_weight=0.5)
    objective.centers = torch.tensor([[1, -1], [1, 1]], dtype=torch.int8)
    loss = objective(torch.tensor([[math.atanh(0.5), math.atanh(0.5)]]), torch.tensor([0]))
    assert loss.item() == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2 + 0.5 * 0.25)


def test_the_target_of_several_labels_is_their_majority_and_the_fixed_word_where_there_is_none():
    objective = CSQ(3, 4)
    objective.centers = torch.tensor([[1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, 1]], dtype=torch.int8)
    objective.tie_word = torch.tensor([-1, 1, -1, -1], dtype=torch.int8)
    assert objective.targets(torch.tensor([[1, 1, 0], [1, 1, 1]])).tolist() == [[1, 1, -1, -1], [1, -1, -1, 1]]


@pytest.mark.parametrize("multi", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_that_of_the_definition(multi, seed):
    objective = CSQ(4, 8, seed=seed, quantization_weight=0.3)
    hash_logits, labels = random_batch(seed, multi=multi)
    expected = loss_by_definition(objective, hash_logits, multi_hot_rows(labels))
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_turning_a_bit_of_logits_and_centers_leaves_the_loss_as_it_is():
    objective = CSQ(4, 8)
    hash_logits, labels = random_batch(1)
    before = objective(hash_logits, labels)
    turn = torch.tensor([1, -1, 1, -1, 1, 1, -1, 1])
    objective.centers *= turn
    torch.testing.assert_close(objective(hash_logits * turn, labels), before)


def test_the_least_loss_is_that_of_the_centers():
    objective = CSQ(4, 8)
    labels = torch.arange(4)
    assert objective(30.0 * objective.centers, labels).item() == pytest.approx(0, abs=1e-6)


def test_centers_are_hadamard_rows_where_there_are_enough():
    assert (CSQ(16, 8).centers.int() @ CSQ(16, 8).centers.int().T).abs().sum() == 16 * 16  # 8 with itself, -8 with one
    assert (CSQ(17, 8).centers.sum(1) == 0).all()
