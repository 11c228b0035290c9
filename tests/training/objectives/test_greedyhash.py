import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import random_batch

from modeling_crh.training.objectives.center_objectives import GreedyHash


def loss_by_definition(objective, hash_logits, labels):
    """The formula of the class, one number at a time."""
    total, gap = 0.0, []
    weight = objective.classifier.weight.tolist()
    for v, label in zip(hash_logits.tolist(), labels.tolist(), strict=True):
        logits = [sum(w if a >= 0 else -w for w, a in zip(row, v, strict=True)) for row in weight]
        total += math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
        gap += [abs(abs(a) - 1) ** 3 for a in v]
    return total / len(labels) + objective.quantization_weight * sum(gap) / len(gap)


def test_the_loss_of_one_sample_is_worked_by_hand():
    objective = GreedyHash(2, 2)
    with torch.no_grad():
        objective.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    loss = objective(torch.tensor([[3.0, -0.0001]]), torch.tensor([0]))  # signs +1 and -1
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)) + 0.1 * (8 + 0.9997) / 2, rel=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_that_of_the_definition(seed):
    objective = GreedyHash(4, 8, seed=seed % 100, quantization_weight=0.3)
    hash_logits, labels = random_batch(seed)
    expected = loss_by_definition(objective, hash_logits, labels)
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_the_signs_is_that_of_the_logits():
    objective = GreedyHash(4, 8, quantization_weight=0)
    hash_logits, labels = random_batch(1)
    codes = hash_logits.sign().requires_grad_()
    torch.nn.functional.cross_entropy(codes @ objective.classifier.weight.T, labels).backward()
    hash_logits.requires_grad_()
    objective(hash_logits, labels).backward()
    torch.testing.assert_close(hash_logits.grad, codes.grad)


def test_without_the_second_part_only_signs_count():
    objective = GreedyHash(4, 8, quantization_weight=0)
    hash_logits, labels = random_batch(2)
    torch.testing.assert_close(objective(5 * hash_logits, labels), objective(hash_logits, labels))


def test_the_classifier_comes_from_the_seed_and_draws_nothing_from_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second, other = GreedyHash(4, 8, seed=1), GreedyHash(4, 8, seed=1), GreedyHash(4, 8, seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert first.classifier.bias is None
