"""Losses of the rivals: worked by hand, by their formulas one number at a time, and what does not change them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import multi_hot_rows, random_batch

from modeling_crh.training.objectives import OBJECTIVES

CSQ, OrthoHash, MDS, GreedyHash, HashNet, DTSH = (
    OBJECTIVES[name] for name in ("csq", "orthohash", "mds", "greedyhash", "hashnet", "dtsh")
)


def mean(values):
    return sum(values) / len(values)


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def log_softmax(logits):
    log_sum = math.log(sum(math.exp(logit) for logit in logits))
    return [logit - log_sum for logit in logits]


def cosines(v, centers):
    return [dot(v, z) / math.sqrt(dot(v, v) * len(v)) for z in centers.tolist()]


def csq_by_definition(objective, logits, rows):
    central, gap = [], []
    for v, row in zip(logits, rows, strict=True):
        for k, logit in enumerate(v):
            u, votes = math.tanh(logit), sum(own * objective.centers[c, k].item() for c, own in enumerate(row))
            z = objective.tie_word[k].item() if votes == 0 else math.copysign(1, votes)
            p, t = (u + 1) / 2, (z + 1) / 2
            central.append(-(t * math.log(p) + (1 - t) * math.log(1 - p)))
            gap.append((abs(u) - 1) ** 2)
    return mean(central) + objective.quantization_weight * mean(gap)


def orthohash_by_definition(objective, logits, rows):
    losses = []
    for v, row in zip(logits, rows, strict=True):
        near = cosines(v, objective.centers)
        log_p = log_softmax([objective.scale * (c - objective.margin * y) for c, y in zip(near, row, strict=True)])
        losses.append(-dot(log_p, row) / sum(row))
    return mean(losses)


def mds_by_definition(objective, logits, rows):
    terms, gap = [], []
    for v, row in zip(logits, rows, strict=True):
        u = [math.tanh(a) for a in v]
        log_p = log_softmax([math.sqrt(len(u)) * cosine for cosine in cosines(u, objective.centers)])
        for log, y in zip(log_p, row, strict=True):
            t = y / sum(row)
            terms.append(-(t * log + (1 - t) * math.log(1 - math.exp(log))))
        gap += [(abs(a) - 1) ** 2 for a in u]
    return mean(terms) + objective.quantization_weight * mean(gap)


def greedyhash_by_definition(objective, logits, rows):
    losses, gap, weight = [], [], objective.classifier.weight.tolist()
    for v, row in zip(logits, rows, strict=True):
        signs = [1 if a >= 0 else -1 for a in v]
        losses.append(-dot(log_softmax([dot(w, signs) for w in weight]), row))
        gap += [abs(abs(a) - 1) ** 3 for a in v]
    return mean(losses) + objective.quantization_weight * mean(gap)


def similar(rows):
    return [[dot(one, other) > 0 for other in rows] for one in rows]


def hashnet_by_definition(objective, logits, rows):
    codes = [[math.tanh(objective.beta * a) for a in v] for v in logits]
    terms = {False: [], True: []}
    for i, row in enumerate(similar(rows)):
        for j, s in enumerate(row):
            if i != j:
                product = objective.alpha * dot(codes[i], codes[j])
                terms[s].append(math.log(1 + math.exp(product)) - s * product)
    pairs = sum(len(kind) for kind in terms.values())
    return sum(pairs / len(kind) * term for kind in terms.values() for term in kind) / pairs


def dtsh_by_definition(objective, logits, rows):
    theta = [[dot(one, other) / 2 for other in logits] for one in logits]
    alike, indices = similar(rows), range(len(rows))
    triplets = [
        math.log(1 + math.exp(-(theta[i][p] - theta[i][n] - objective.margin)))
        for i in indices
        for p in indices
        for n in indices
        if p != i and alike[i][p] and not alike[i][n]
    ]
    gap = mean([(a - (1 if a >= 0 else -1)) ** 2 for v in logits for a in v])
    return sum(triplets) / max(len(triplets), 1) + objective.quantization_weight * gap


@pytest.mark.parametrize(
    ("rival", "settings", "definition"),
    [
        (CSQ, {"quantization_weight": 0.3}, csq_by_definition),
        (OrthoHash, {"scale": 5, "margin": 0.3}, orthohash_by_definition),
        (MDS, {"quantization_weight": 0.3}, mds_by_definition),
        (GreedyHash, {"quantization_weight": 0.3}, greedyhash_by_definition),
        (HashNet, {}, hashnet_by_definition),
        (DTSH, {"margin": 1.5, "quantization_weight": 0.3}, dtsh_by_definition),
    ],
)
@given(seed=st.integers(0, 2**32 - 1), progress=st.floats(0, 1), multi=st.booleans())
def test_the_loss_is_that_of_the_definition(rival, settings, definition, seed, progress, multi):
    objective = rival(4, 8, seed=seed % 100, **settings)
    objective.set_progress(progress)
    hash_logits, labels = random_batch(seed, multi=multi and rival.has_multi_label)
    expected = definition(objective, hash_logits.tolist(), multi_hot_rows(labels))
    assert objective(hash_logits, labels).item() == pytest.approx(expected, rel=1e-4)


def with_centers(objective, rows):
    objective.centers = torch.tensor(rows, dtype=torch.int8)
    return objective


def with_classifier(objective, rows):
    with torch.no_grad():
        objective.classifier.weight.copy_(torch.tensor(rows))
    return objective


HALF = math.atanh(0.5)
BY_HAND = {
    "csq": (
        lambda: with_centers(CSQ(2, 2, quantization_weight=0.5), [[1, -1], [1, 1]]),
        ([[HALF, HALF]], [0], (-math.log(0.75) - math.log(0.25)) / 2 + 0.5 * 0.25),
    ),
    "orthohash, as near to one center as to the other": (
        lambda: with_centers(OrthoHash(2, 2), [[1, 1], [1, -1]]),
        ([[2.0, 0.0]], [0], math.log(1 + math.exp(8 * 0.2))),
    ),
    "mds, cosines 1 and 0, of which sqrt(4) makes 2 and 0": (
        lambda: with_centers(MDS(2, 4, quantization_weight=0), [[1, 1, 1, 1], [1, 1, -1, -1]]),
        ([[1.0] * 4], [0], math.log(1 + math.exp(-2))),
    ),
    "greedyhash, signs +1 and -1": (
        lambda: with_classifier(GreedyHash(2, 2), [[1.0, 0.0], [0.0, 1.0]]),
        ([[3.0, -0.0001]], [0], math.log(1 + math.exp(-2)) + 0.1 * (8 + 0.9997) / 2),
    ),
    "hashnet, a pair of two classes": (
        lambda: HashNet(2, 2, alpha=1),
        ([[100.0, 100.0], [100.0, -100.0]], [0, 1], math.log(2)),
    ),
    "hashnet, a pair of one class": (
        lambda: HashNet(2, 2, alpha=1),
        ([[100.0, 100.0], [100.0, 100.0]], [1, 1], math.log(1 + math.exp(-2))),
    ),
    "dtsh, th is 1 of the similar and 0 of the others, so each triplet costs log 2": (
        lambda: DTSH(2, 2, margin=1),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]], [0, 0, 1], math.log(2)),
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_loss_is_worked_by_hand(case):
    make, (logits, labels, expected) = BY_HAND[case]
    assert make()(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(expected, rel=1e-5)


def test_the_target_of_several_labels_is_their_majority_and_the_fixed_word_where_there_is_none():
    objective = with_centers(CSQ(3, 4), [[1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, 1]])
    objective.tie_word = torch.tensor([-1, 1, -1, -1], dtype=torch.int8)
    assert objective.targets(torch.tensor([[1, 1, 0], [1, 1, 1]])).tolist() == [[1, 1, -1, -1], [1, -1, -1, 1]]


def test_methods_take_the_centers_that_their_papers_say():
    assert (CSQ(16, 8).centers.int() @ CSQ(16, 8).centers.int().T).abs().sum() == 16 * 16  # 8 with itself, -8 with one
    assert (CSQ(17, 8).centers.sum(1) == 0).all()
    centers = OrthoHash(8, 8).centers.int()
    assert torch.equal(centers @ centers.T, 8 * torch.eye(8, dtype=torch.int32))
    assert len(OrthoHash(200, 8).centers.unique(dim=0)) == 200
    assert OrthoHash.model_fields == {"hash_head_batch_norm": True}


def test_logits_that_are_sure_of_another_class_have_a_finite_gradient():
    objective = MDS(2, 128)
    hash_logits = (50.0 * objective.centers[:1]).requires_grad_()
    loss = objective(hash_logits, torch.tensor([1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hash_logits.grad).all()


def test_the_gradient_of_the_signs_is_that_of_the_logits_and_only_signs_count():
    objective = GreedyHash(4, 8, quantization_weight=0)
    hash_logits, labels = random_batch(1)
    codes = hash_logits.sign().requires_grad_()
    torch.nn.functional.cross_entropy(codes @ objective.classifier.weight.T, labels).backward()
    hash_logits.requires_grad_()
    objective(hash_logits, labels).backward()
    torch.testing.assert_close(hash_logits.grad, codes.grad)
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


def test_beta_grows_from_one_to_its_last_value():
    objective = HashNet(4, 8)
    betas = []
    for progress in (0, 0.25, 0.5, 1):
        objective.set_progress(progress)
        betas.append(objective.beta)
    assert betas == pytest.approx([1, math.sqrt(25.75), math.sqrt(50.5), 10])
    assert (HashNet(4, 40).alpha, DTSH(2, 16).margin) == (0.25, 4)


def test_of_more_pairs_than_allowed_some_are_drawn_and_their_loss_is_near_that_of_all():
    hash_logits, labels = random_batch(3, samples=256)  # 16,000 similar pairs
    torch.manual_seed(0)
    drawn = [DTSH(4, 8, max_pairs=500)(hash_logits, labels).item() for _ in range(20)]
    whole = DTSH(4, 8, max_pairs=256**2)(hash_logits, labels).item()
    assert len(set(drawn)) == 20
    assert mean(drawn) == pytest.approx(whole, rel=0.02)


def test_a_batch_without_a_triplet_is_only_made_binary():
    hash_logits, _ = random_batch(4, samples=2)
    expected = (hash_logits.abs() - 1).square().mean()
    torch.testing.assert_close(DTSH(4, 8)(hash_logits, torch.tensor([0, 1])), expected)
