import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.losses import NO_LABEL, bit_loss, center_cosine, crh_loss, default_scale, pair_loss

SETTINGS = {"scale": 5.0, "margin": 0.2, "quantization_weight": 0.1}


def case(seed, **sizes):
    """Seeded hash logits, labels (with `multi`, at least one a row) and centers."""
    centers = random_batch(seed + 1, samples=sizes.get("num_labels", 4), num_bits=sizes.get("num_bits", 8))[0]
    return *random_batch(seed, **sizes), torch.where(centers >= 0, 1, -1).to(torch.int8)


def loss_by_definition(hash_logits, rows, centers, scale, margin, quantization_weight):
    """Eqs. 1 to 4 for multi-hot rows, one number at a time."""
    cross_entropy, quantization = 0.0, 0.0
    for v, y in zip(hash_logits.tolist(), rows, strict=True):
        logits = []
        for z, own in zip(centers.tolist(), y, strict=True):
            norms = math.sqrt(sum(a * a for a in v)) * math.sqrt(sum(b * b for b in z))
            cosine = sum(a * b for a, b in zip(v, z, strict=True)) / norms
            logits.append(scale * (cosine - margin * own))
        total = sum(math.exp(logit) for logit in logits)
        for logit, own in zip(logits, y, strict=True):
            cross_entropy -= own / sum(y) * math.log(math.exp(logit) / total) / len(rows)
        quantization += sum((abs(math.tanh(a)) - 1) ** 2 for a in v) / len(v) / len(rows)
    return cross_entropy + quantization_weight * quantization


def loss_and_gradient(hash_logits, labels, centers):
    leaf = hash_logits.clone().requires_grad_()
    loss = crh_loss(leaf, labels, centers, **SETTINGS)
    loss.backward()
    return loss.detach(), leaf.grad


def test_the_loss_of_one_sample_is_worked_by_hand():
    centers = torch.tensor([[1, 1], [1, -1]])
    hash_logits = torch.tensor([[2.0, 0.0]])  # as near to one center as to the other: cosine sqrt(1/2)
    found = crh_loss(hash_logits, torch.tensor([0]), centers, scale=3.0, margin=0.2, quantization_weight=0.1)
    cross_entropy = math.log(1 + math.exp(3.0 * 0.2))
    quantization = ((math.tanh(2) - 1) ** 2 + 1) / 2
    assert found.item() == pytest.approx(cross_entropy + 0.1 * quantization, rel=1e-6)


def test_the_data_sets_of_the_paper_have_its_scales_and_two_classes_that_of_three():
    for num_labels, scale in {100: 6.498, 196: 7.457, 555: 8.934, 80: 6.179}.items():
        assert default_scale(num_labels) == pytest.approx(scale, abs=5e-4)
    assert default_scale(2) == default_scale(3) == pytest.approx(math.sqrt(2) * math.log(2))
    assert default_scale(4) > default_scale(3)


@pytest.mark.parametrize("multi", [False, True])
@given(seed=st.integers(0, 2**32 - 2), num_labels=st.integers(2, 6), num_bits=st.sampled_from([8, 16]))
def test_the_loss_is_that_of_the_definition(multi, seed, num_labels, num_bits):
    hash_logits, labels, centers = case(seed, num_labels=num_labels, num_bits=num_bits, multi=multi)
    expected = loss_by_definition(hash_logits, multi_hot_rows(labels, num_labels), centers, **SETTINGS)
    assert crh_loss(hash_logits, labels, centers, **SETTINGS).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("multi", [False, True])
def test_the_loss_of_the_bits_is_that_of_a_logistic_regression_on_the_mean_of_the_own_centers(multi):
    hash_logits, labels, centers = case(11, multi=multi)
    expected = 0.0
    for v, y in zip(hash_logits.tolist(), multi_hot_rows(labels), strict=True):
        for bit, value in enumerate(v):
            share = sum(own * (z[bit] > 0) for own, z in zip(y, centers.tolist(), strict=True)) / sum(y)
            expected += share * math.log1p(math.exp(-value)) + (1 - share) * math.log1p(math.exp(value))
    expected /= hash_logits.numel()
    assert bit_loss(hash_logits, labels, centers).item() == pytest.approx(expected, rel=1e-5)
    found = crh_loss(hash_logits, labels, centers, **SETTINGS, bit_weight=0.5)
    assert (found - crh_loss(hash_logits, labels, centers, **SETTINGS)).item() == pytest.approx(expected / 2, rel=1e-4)


@pytest.mark.parametrize("multi", [False, True])
def test_the_loss_of_the_pairs_is_a_logistic_regression_of_who_shares_a_label(multi):
    hash_logits, labels, centers = case(11, multi=multi)
    terms = {True: [], False: []}
    rows = list(zip(hash_logits.tolist(), multi_hot_rows(labels), strict=True))
    for (v, y), (w, z) in permutations(rows, 2):
        product = 10 / len(v) * sum(math.tanh(a) * math.tanh(b) for a, b in zip(v, w, strict=True))
        is_similar = any(own and other for own, other in zip(y, z, strict=True))
        terms[is_similar].append(math.log1p(math.exp(-product if is_similar else product)))
    expected = sum(sum(kind) / len(kind) for kind in terms.values())
    assert pair_loss(hash_logits, labels).item() == pytest.approx(expected, rel=1e-5)
    found = crh_loss(hash_logits, labels, centers, **SETTINGS, pair_weight=0.5)
    assert (found - crh_loss(hash_logits, labels, centers, **SETTINGS)).item() == pytest.approx(expected / 2, rel=1e-4)
    assert pair_loss(hash_logits[:1], labels[:1]).item() == 0


def test_the_length_of_the_logits_changes_no_cosine():
    hash_logits, _, centers = case(3)
    torch.testing.assert_close(center_cosine(hash_logits * 37, centers), center_cosine(hash_logits, centers))
    assert center_cosine(centers.float(), centers).diagonal().tolist() == pytest.approx([1] * 4)


def test_logits_of_zero_have_a_finite_loss_and_gradient():
    hash_logits, labels, centers = case(4)
    loss, gradient = loss_and_gradient(torch.zeros_like(hash_logits), labels, centers)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("multi", [False, True])
def test_samples_without_a_label_change_neither_loss_nor_gradient(multi):
    hash_logits, labels, centers = case(5, multi=multi)
    unlabelled = [0, 3, 5]
    labels[unlabelled] = 0 if multi else NO_LABEL
    rest = [1, 2, 4]
    expected_loss, expected_gradient = loss_and_gradient(hash_logits[rest], labels[rest], centers)
    loss, gradient = loss_and_gradient(hash_logits, labels, centers)
    assert torch.equal(loss, expected_loss)
    assert torch.equal(gradient[rest], expected_gradient)
    assert not gradient[unlabelled].any()


@pytest.mark.parametrize("labels", [torch.full((6,), NO_LABEL), torch.zeros(6, 4)])
def test_a_batch_without_any_label_has_a_loss_of_zero_and_no_gradient(labels):
    hash_logits, _, centers = case(6)
    loss, gradient = loss_and_gradient(hash_logits, labels, centers)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(hash_logits))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])  # the square of the last overflows float16
@pytest.mark.parametrize("multi", [False, True])
def test_half_precision_logits_have_a_finite_float32_loss(dtype, size, multi):
    hash_logits, labels, centers = case(7, multi=multi)
    loss, gradient = loss_and_gradient((size * hash_logits).to(dtype), labels, centers)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    expected = crh_loss((size * hash_logits).to(dtype).float(), labels, centers, **SETTINGS)
    assert torch.equal(loss, expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 3, 4, 0]), "`labels` must lie from 0 to C-1=3, but got 4"),
        (torch.tensor([0, 1]), "`labels` must have one row a sample, but got 2 for 6 samples"),
        (torch.zeros(5, 4), "`labels` must have one row a sample, but got 5 for 6 samples"),
    ],
)
def test_labels_without_a_loss_are_an_error(labels, message):
    hash_logits, _, centers = case(8)
    with pytest.raises(ValueError, match=message):
        crh_loss(hash_logits, labels, centers, **SETTINGS)


def test_cosines_are_of_float32_under_autocast_too():
    generator = torch.Generator().manual_seed(0)
    logits, centers = torch.randn(5, 64, generator=generator), torch.randn(9, 64, generator=generator).sign()
    with torch.autocast("cpu", torch.bfloat16):
        found = center_cosine(logits.bfloat16(), centers)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, center_cosine(logits.bfloat16(), centers), rtol=0, atol=0)
