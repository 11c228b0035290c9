import pytest
import torch
from tiny_runs import random_batch

from modeling_crh.losses import NO_LABEL
from modeling_crh.training.objectives import OBJECTIVES

ALL = sorted(OBJECTIVES)
SINGLE = [name for name in ALL if not OBJECTIVES[name].has_multi_label]


def loss_and_gradient(objective, hash_logits, labels):
    leaf = hash_logits.clone().requires_grad_()
    loss = objective(leaf, labels)
    loss.backward()
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("name", ALL)
def test_samples_without_a_label_change_neither_loss_nor_gradient(name):
    objective = OBJECTIVES[name](4, 8)
    hash_logits, labels = random_batch(0)
    labels[[0, 3, 5]] = NO_LABEL
    rest = [1, 2, 4]
    expected, expected_gradient = loss_and_gradient(objective, hash_logits[rest], labels[rest])
    loss, gradient = loss_and_gradient(objective, hash_logits, labels)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient[rest], expected_gradient)
    assert not gradient[[0, 3, 5]].any()


@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_any_label_has_a_loss_of_zero_and_no_gradient(name):
    loss, gradient = loss_and_gradient(OBJECTIVES[name](4, 8), random_batch(1)[0], torch.full((6,), NO_LABEL))
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_a_batch_does_not_change_its_loss(name):
    objective = OBJECTIVES[name](4, 8)
    hash_logits, labels = random_batch(3)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(objective(hash_logits[order], labels[order]), objective(hash_logits, labels))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("size", "samples"), [(0.0, 6), (1e-3, 6), (30.0, 6), (1.0, 1)])
def test_half_precision_logits_have_a_finite_float32_loss(name, size, samples):
    hash_logits, labels = random_batch(4, samples)
    loss, gradient = loss_and_gradient(OBJECTIVES[name](4, 8), (size * hash_logits).to(torch.bfloat16), labels)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ALL)
def test_many_classes_at_few_bits_are_no_trouble(name):
    objective = OBJECTIVES[name](1611, 16)
    assert torch.isfinite(objective(*random_batch(6, samples=256, num_labels=1611, num_bits=16)))
    assert objective.centers is None or len(objective.centers.unique(dim=0)) == 1611


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 3, 4, 0]), r"`labels` must lie from 0 to C-1=3, but got 4"),
        (torch.zeros(6), r"must be integers, but got torch\.float32"),
        (torch.zeros(6, 5), r"with C=4, but got shape \(6, 5\)"),
        (torch.tensor([0, 1]), r"`labels` must have one row a sample, but got 2 for 6 samples"),
    ],
)
def test_labels_without_a_loss_are_an_error(labels, message):
    with pytest.raises(ValueError, match=message):
        OBJECTIVES["mds"](4, 8)(random_batch(7)[0], labels)


@pytest.mark.parametrize("name", SINGLE)
def test_several_labels_are_an_error_where_the_method_has_no_loss_for_them(name):
    with pytest.raises(ValueError, match=rf"`labels` must be \(N,\) for {name}, which has no multi-label loss"):
        OBJECTIVES[name](4, 8)(*random_batch(8, multi=True))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dtsh", {"num_labels": 1}, r"`num_labels` must be a whole number, 2 or larger, but got 1"),
        ("dtsh", {"num_bits": 0}, r"`num_bits` must be a whole number, 1 or larger, but got 0"),
        ("dtsh", {"seed": -1}, r"`seed` must be a whole number, 0 or larger, but got -1"),
        ("dtsh", {"max_pairs": 0}, r"`max_pairs` must be a whole number, 1 or larger, but got 0"),
        ("hashnet", {"final_beta": 0.5}, r"`final_beta` must be at least 1, which beta starts from, but got 0\.5"),
        ("orthohash", {"scale": 0}, r"`scale` must be a number above 0, but got 0"),
        ("shc", {"classifier_epochs": 0}, r"`classifier_epochs` must be a number above 0, but got 0"),
    ],
)
def test_arguments_that_break_a_rule_are_an_error(name, settings, message):
    with pytest.raises(ValueError, match=message):
        OBJECTIVES[name](**{"num_labels": 4, "num_bits": 8} | settings)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        (name, setting, value)
        for name in ALL
        for setting in sorted(OBJECTIVES[name].setting_names())
        for value in (-1, "1", True)
    ],
)
def test_a_setting_that_is_no_number_from_zero_up_is_an_error(name, setting, value):
    with pytest.raises(ValueError, match=rf"`{setting}` must be a (whole )?number.* but got {value!r}"):
        OBJECTIVES[name](4, 8, **{setting: value})
