import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.codebook import center_distances
from modeling_crh.training.objectives.center_objectives import MDS
from modeling_crh.training.objectives.fixed_centers import gilbert_varshamov_distance


def loss_by_definition(objective, hash_logits, rows):
    """The formula of the class, one number at a time."""
    terms, gap = [], []
    for v, row in zip(hash_logits.tolist(), rows, strict=True):
        u = [math.tanh(a) for a in v]
        length = math.sqrt(sum(a * a for a in u) * len(u))
        cosines = [sum(a * b for a, b in zip(u, z, strict=True)) / length for z in objective.centers.tolist()]
        powers = [math.exp(math.sqrt(len(u)) * cosine) for cosine in cosines]
        for power, y in zip(powers, row, strict=True):
            p, t = power / sum(powers), y / sum(row)
            terms.append(-(t * math.log(p) + (1 - t) * math.log(1 - p)))
        gap += [(abs(a) - 1) ** 2 for a in u]
    return sum(terms) / len(terms) + objective.quantization_weight * sum(gap) / len(gap)


def test_the_loss_of_one_sample_is_worked_by_hand():
    objective = MDS(2, 4, quantization_weight=0)
    objective.centers = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1]], dtype=torch.int8)
    loss = objective(torch.ones(1, 4), torch.tensor([0]))  # cosines 1 and 0, of which sqrt(4) makes 2 and 0
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.parametrize("multi", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_that_of_the_definition(multi, seed):
    objective = MDS(4, 8, seed=seed, quantization_weight=0.3)
    hash_logits, labels = random_batch(seed, multi=multi)
    expected = loss_by_definition(objective, hash_logits, multi_hot_rows(labels))
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-4)


def test_the_names_of_the_classes_do_not_change_the_loss():
    objective = MDS(4, 8)
    hash_logits, labels = random_batch(1)
    before = objective(hash_logits, labels)
    objective.centers = objective.centers.flip(0)
    torch.testing.assert_close(objective(hash_logits, 3 - labels), before)


def test_logits_that_are_sure_of_another_class_have_a_finite_gradient():
    objective = MDS(2, 128)
    hash_logits = (50.0 * objective.centers[:1]).requires_grad_()
    loss = objective(hash_logits, torch.tensor([1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hash_logits.grad).all()


def test_centers_keep_the_distance_of_the_bound():
    assert center_distances(MDS(100, 32).centers).least >= gilbert_varshamov_distance(100, 32)
