import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.training.objectives.center_objectives import OrthoHash


def loss_by_definition(objective, hash_logits, rows):
    """The formula of the class, one number at a time."""
    total = 0.0
    for v, row in zip(hash_logits.tolist(), rows, strict=True):
        length = math.sqrt(sum(a * a for a in v) * len(v))
        cosines = [sum(a * b for a, b in zip(v, z, strict=True)) / length for z in objective.centers.tolist()]
        logits = [objective.scale * (cosine - objective.margin * y) for cosine, y in zip(cosines, row, strict=True)]
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        total -= sum(y / sum(row) * (logit - log_sum) for logit, y in zip(logits, row, strict=True))
    return total / len(rows)


def test_the_loss_of_one_sample_is_worked_by_hand():
    objective = OrthoHash(2, 2)
    objective.centers = torch.tensor([[1, 1], [1, -1]], dtype=torch.int8)
    loss = objective(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))  # as near to one center as to the other
    assert loss.item() == pytest.approx(math.log(1 + math.exp(8 * 0.2)))


@pytest.mark.parametrize("multi", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_that_of_the_definition(multi, seed):
    objective = OrthoHash(4, 8, seed=seed, scale=5, margin=0.3)
    hash_logits, labels = random_batch(seed, multi=multi)
    expected = loss_by_definition(objective, hash_logits, multi_hot_rows(labels))
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_the_length_of_the_logits_does_not_change_the_loss():
    objective = OrthoHash(4, 8)
    hash_logits, labels = random_batch(2)
    torch.testing.assert_close(objective(37 * hash_logits, labels), objective(hash_logits, labels))


def test_it_asks_for_a_batch_norm_and_for_orthogonal_centers():
    assert OrthoHash.model_fields == {"hash_head_batch_norm": True}
    centers = OrthoHash(8, 8).centers.int()
    assert torch.equal(centers @ centers.T, 8 * torch.eye(8, dtype=torch.int32))
    assert len(OrthoHash(200, 8).centers.unique(dim=0)) == 200


def test_a_scale_of_zero_is_an_error():
    with pytest.raises(ValueError, match=r"`scale` must be a number above 0, but got 0"):
        OrthoHash(4, 8, scale=0)
