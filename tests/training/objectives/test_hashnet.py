import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.training.objectives.pair_objectives import HashNet, share_a_label


def loss_by_definition(objective, hash_logits, rows):
    """The formula of the class, one pair at a time, with the weights as they are defined."""
    codes = [[math.tanh(objective.beta * a) for a in v] for v in hash_logits.tolist()]
    terms = {0: [], 1: []}
    for i, one in enumerate(codes):
        for j, other in enumerate(codes):
            if i != j:
                s = int(any(a and b for a, b in zip(rows[i], rows[j], strict=True)))
                product = objective.alpha * sum(a * b for a, b in zip(one, other, strict=True))
                terms[s].append(math.log(1 + math.exp(product)) - s * product)
    pairs = len(terms[0]) + len(terms[1])
    return sum(pairs / len(kind) * term for kind in terms.values() for term in kind) / pairs


def test_the_loss_of_two_samples_is_worked_by_hand():
    objective = HashNet(2, 2, alpha=1)
    hash_logits = torch.tensor([[100.0, 100.0], [100.0, -100.0]])
    assert objective(hash_logits, torch.tensor([0, 1])).item() == pytest.approx(math.log(2))
    hash_logits[1, 1] = 100.0
    assert objective(hash_logits, torch.tensor([0, 1])).item() == pytest.approx(math.log(1 + math.exp(2)))
    assert objective(hash_logits, torch.tensor([1, 1])).item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.parametrize("multi", [False, True])
@given(seed=st.integers(0, 2**32 - 1), progress=st.floats(0, 1))
def test_the_loss_is_that_of_the_definition(multi, seed, progress):
    objective = HashNet(4, 8)
    objective.set_progress(progress)
    hash_logits, labels = random_batch(seed, multi=multi)
    expected = loss_by_definition(objective, hash_logits, multi_hot_rows(labels))
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-4)


def test_beta_grows_from_one_to_its_last_value():
    objective = HashNet(4, 8)
    betas = []
    for progress in (0, 0.25, 0.5, 1):
        objective.set_progress(progress)
        betas.append(objective.beta)
    assert betas == pytest.approx([1, math.sqrt(25.75), math.sqrt(50.5), 10])
    assert HashNet(4, 40).alpha == 0.25


def test_samples_of_several_labels_are_similar_where_they_share_one():
    rows = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    assert share_a_label(rows).tolist() == [[True, True, False], [True, True, True], [False, True, True]]


def test_turning_a_bit_of_all_samples_leaves_the_loss_as_it_is():
    hash_logits, labels = random_batch(2)
    turned = hash_logits * torch.tensor([1, -1, 1, -1, 1, 1, -1, 1])
    torch.testing.assert_close(HashNet(4, 8)(turned, labels), HashNet(4, 8)(hash_logits, labels))


def test_a_beta_that_shrinks_is_an_error():
    with pytest.raises(ValueError, match=r"`final_beta` must be at least 1, which beta starts from, but got 0\.5"):
        HashNet(4, 8, final_beta=0.5)
