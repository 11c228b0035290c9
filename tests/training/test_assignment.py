from itertools import pairwise, permutations, product
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.codebook import draw_assignment, draw_centers, draw_codebook
from modeling_crh.codes import binarize
from modeling_crh.losses import NO_LABEL
from modeling_crh.training import assignment
from modeling_crh.training.assignment import (
    ClassStatistics,
    assign_greedy,
    assignment_cost,
    check_method,
    reassign,
)

seeds = st.integers(0, 2**32 - 1)


def samples(seed, size=40, num_labels=5, num_bits=12, multi=False):
    """Seeded hash logits and labels, some of them missing."""
    generator = torch.Generator().manual_seed(seed)
    hash_logits = torch.randn(size, num_bits, generator=generator)
    if multi:
        return hash_logits, torch.randint(2, (size, num_labels), generator=generator)
    labels = torch.randint(-1, num_labels, (size,), generator=generator)
    return hash_logits, torch.where(labels < 0, NO_LABEL, labels)


def statistics_of(*batches, num_labels=5, num_bits=12, soft=False):
    statistics = ClassStatistics.zeros(num_labels, num_bits, soft)
    for hash_logits, labels in batches:
        statistics.update(hash_logits, labels)
    return statistics


def start(seed, num_heads=3, codebook_size=10, head_dim=4, num_labels=5):
    generator = np.random.default_rng(seed)
    codebook = draw_codebook(num_heads, codebook_size, head_dim, generator)
    return codebook, draw_assignment(num_heads, num_labels, codebook_size, generator)


def run(method, codebook, assignment, statistics, seed=0):
    return reassign(codebook, assignment, statistics, method, np.random.default_rng(seed))


def small_problem(seed, num_labels, spare, head_dim=4):
    """Sums of signs of some classes, many of them tied, and different words."""
    generator = np.random.default_rng(seed)
    sums = torch.from_numpy(generator.integers(-3, 4, (num_labels, head_dim)).astype(np.float64))
    return sums, draw_codebook(1, num_labels + spare, head_dim, generator)[0], generator.permutation(num_labels)


def greedy_by_definition(cost, order):
    words, free = [None] * len(cost), list(range(cost.shape[1]))
    for label in order:
        words[label] = min(free, key=lambda word: (cost[label][word], word))
        free.remove(words[label])
    return words


def test_statistics_of_three_samples_are_worked_by_hand():
    statistics = ClassStatistics.zeros(2, 3)
    hash_logits = torch.tensor([[0.5, -1.0, 0.0], [2.0, 3.0, -4.0], [-1.0, -1.0, -1.0]])
    statistics.update(hash_logits, torch.tensor([1, 1, NO_LABEL]))
    assert statistics.sums.tolist() == [[0, 0, 0], [2, 0, 0]]
    assert statistics.weights.tolist() == [0, 2]
    assert statistics.means().tolist() == [[0, 0, 0], [1, 0, 0]]


def test_a_sample_shares_its_weight_among_its_labels():
    statistics = ClassStatistics.zeros(3, 2)
    statistics.update(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1, 1, 0], [0, 1, 0]]))
    assert statistics.weights.tolist() == [0.5, 1.5, 0]
    assert statistics.means().tolist() == [[1, -1], [1, pytest.approx(1 / 3)], [0, 0]]


def test_soft_statistics_average_tanh():
    hash_logits, labels = samples(0)
    statistics = statistics_of((hash_logits, labels), soft=True)
    for label in range(5):
        expected = hash_logits[labels == label].tanh().mean(0)
        torch.testing.assert_close(statistics.means()[label].float(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_take_logits_of_any_precision_with_a_gradient(dtype):
    hash_logits, labels = samples(1)
    statistics = statistics_of((hash_logits.to(dtype).requires_grad_(), labels.to(torch.int16)))
    assert torch.equal(statistics.sums, statistics_of((hash_logits, labels)).sums)


@given(seed=seeds, multi=st.booleans(), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_statistics_depend_on_neither_order_nor_batches_bit_for_bit(seed, multi, cuts):
    hash_logits, labels = samples(seed, multi=multi)
    whole = statistics_of((hash_logits, labels))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    bounds = [0, *sorted(cuts), 40]
    parts = [order[first:last] for first, last in pairwise(bounds)]
    split = statistics_of(*((hash_logits[part], labels[part]) for part in parts))
    assert torch.equal(split.sums, whole.sums)
    assert torch.equal(split.weights, whole.weights)


@pytest.mark.parametrize("multi", [False, True])
def test_the_cost_is_the_weighted_mean_squared_distance_to_the_codes_of_a_class(multi):
    hash_logits, labels = samples(2, size=15, num_labels=3, num_bits=4, multi=multi)
    words = draw_codebook(1, 7, 4, np.random.default_rng(0))[0]
    cost = assignment_cost(statistics_of((hash_logits, labels), num_labels=3, num_bits=4).means(), words)
    codes, rows = binarize(hash_logits).tolist(), labels.tolist()
    for label in range(3):
        share = [row[label] / max(sum(row), 1) if multi else float(row == label) for row in rows]
        for word in range(7):
            squares = [sum((b - z) ** 2 for b, z in zip(code, words[word].tolist(), strict=True)) for code in codes]
            expected = sum(w * square for w, square in zip(share, squares, strict=True)) / sum(share)
            assert cost[label, word] == pytest.approx(expected, rel=1e-6)


@given(seed=seeds, num_labels=st.integers(1, 9), spare=st.integers(0, 7), entries=st.sampled_from([1, 20, 2**20]))
def test_greedy_is_that_of_the_definition_in_blocks_of_any_size(seed, num_labels, spare, entries):
    sums, words, order = small_problem(seed, num_labels, spare)
    before = sums.clone()
    with mock.patch.object(assignment, "GREEDY_ENTRIES", entries):
        chosen = assign_greedy(sums, words, order)
        fractions = assign_greedy(sums + 0.25, words, order)  # in float64
    assert chosen.tolist() == greedy_by_definition(assignment_cost(sums, words), order)
    assert fractions.tolist() == greedy_by_definition(assignment_cost(sums + 0.25, words), order)
    assert torch.equal(sums, before)


def test_sums_of_very_many_samples_are_still_told_apart():
    words = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [-1, 1, 1, 1]])
    sums = torch.tensor([[2.0**40, 0, 0, 1], [2.0**40, 0, 0, -1]], dtype=torch.float64)
    assert assign_greedy(sums, words, np.array([1, 0])).tolist() == [0, 1]


@given(seed=seeds)
def test_hungarian_costs_the_least_of_all_assignments(seed):
    sums, words, _ = small_problem(seed, num_labels=4, spare=2)
    new = reassign(words.unsqueeze(0), torch.arange(4).unsqueeze(0), ClassStatistics(sums, torch.ones(4)))[0].tolist()
    cost = assignment_cost(sums, words)
    assert len(set(new)) == 4
    assert cost[range(4), new].sum() == min(cost[range(4), way].sum() for way in permutations(range(6), 4))


@given(seed=seeds, method=st.sampled_from(["greedy", "hungarian"]), unseen=st.sets(st.integers(0, 4)))
def test_every_class_has_a_word_of_its_own_in_every_head_and_unseen_ones_keep_theirs(seed, method, unseen):
    codebook, assignment = start(seed, codebook_size=6)
    hash_logits, labels = samples(seed)
    seen = torch.tensor([label not in unseen for label in labels.tolist()])
    before = assignment.clone()
    new = run(method, codebook, assignment, statistics_of((hash_logits[seen], labels[seen])))
    assert torch.equal(assignment, before)
    assert torch.equal(new[:, sorted(unseen)], assignment[:, sorted(unseen)])
    assert all(len(words.unique()) == 5 for words in new)


@pytest.mark.parametrize("few_places", [0, 8])  # by the transportation solver, and by Hungarian to places
def test_shared_words_are_held_by_no_more_classes_than_they_have_room_for_and_unseen_ones_keep_theirs(
    few_places, monkeypatch
):
    monkeypatch.setattr("modeling_crh.training.assignment.FEW_PLACES", few_places)
    codebook, assignment = draw_centers(6, 4, 2, 5, capacity=2)
    assert all(held.bincount().max() <= 2 for held in assignment)
    hash_logits, labels = samples(1)
    seen = labels != 3
    new = reassign(codebook, assignment, statistics_of((hash_logits[seen], labels[seen])), capacity=2)
    assert torch.equal(new[:, 3], assignment[:, 3])
    means = statistics_of((hash_logits[seen], labels[seen])).means().split(2, dim=1)
    for head in range(6):
        assert new[head].bincount().max() <= 2
        cost = assignment_cost(means[head], codebook[head])
        ways = [way for way in product(range(4), repeat=5) if way[3] == new[head, 3] and max(map(way.count, way)) <= 2]
        least = min(sum(cost[label, word] for label, word in enumerate(way)) for way in ways)
        assert cost[range(5), new[head]].sum() == pytest.approx(least)


def test_classes_whose_codes_are_words_get_these_words():
    codebook, assignment = start(2)
    wanted = draw_assignment(3, 5, 10, np.random.default_rng(9))
    codes = torch.cat([words[wanted[head]] for head, words in enumerate(codebook)], dim=1).float()  # (5, 12)
    for method in ("greedy", "hungarian"):
        assert torch.equal(run(method, codebook, assignment, statistics_of((codes, torch.arange(5)))), wanted)


def test_greedy_visits_the_classes_in_an_order_drawn_for_each_head():
    codebook, assignment = start(4)
    statistics = statistics_of(samples(4))
    generator = np.random.default_rng(5)
    expected = [
        greedy_by_definition(assignment_cost(means, words), generator.permutation(5))
        for means, words in zip(statistics.means().split(4, dim=1), codebook, strict=True)
    ]
    assert run("greedy", codebook, assignment, statistics, seed=5).tolist() == expected


class Elsewhere(torch.Tensor):
    """A tensor that NumPy cannot read before it is moved to the CPU, as one on a GPU."""

    def numpy(self):
        raise TypeError("it lies elsewhere")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize(("method", "capacity"), [("hungarian", 1), ("greedy", 1), ("hungarian", 3)])
def test_statistics_may_lie_on_another_device(method, capacity):
    codebook, old = start(0)
    here = statistics_of(samples(0))
    there = ClassStatistics(here.sums.as_subclass(Elsewhere), here.weights.as_subclass(Elsewhere))
    new = [
        reassign(codebook, old, statistics, method, np.random.default_rng(0), capacity=capacity)
        for statistics in (here, there)
    ]
    assert torch.equal(*new)


def test_hungarian_draws_nothing():
    problem, generator = (*start(5), statistics_of(samples(5))), np.random.default_rng(0)
    assert torch.equal(reassign(*problem, "hungarian", generator), reassign(*problem))
    assert generator.random() == np.random.default_rng(0).random()


def test_a_table_that_fits_into_memory_is_no_error():
    check_method("greedy", 200_000, 100_000)


def count(hash_logits, labels):
    ClassStatistics.zeros(5, 12).update(hash_logits, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: run("auction", *start(0), ClassStatistics.zeros(5, 12)),
            "'hungarian' or 'greedy', but got 'auction",
        ),
        (
            lambda: reassign(*start(0), ClassStatistics.zeros(5, 12), "greedy"),
            "`generator` must be given with `met",
        ),
        (lambda: check_method("greedy", 16, 100, 8), r"'hungarian' or 'none' where `codebook` is 'shared', but got 'g"),
        (
            lambda: check_method("hungarian", 200_000, 100_000),
            r"greedy' for 100,000 .* 200,000 words .* take 149 GB",
        ),
        (lambda: count(torch.ones(2, 12), torch.tensor([0, 5])), "`labels` must lie from 0 to C-1=4, but got 5"),
        (lambda: count(torch.ones(2, 12), torch.full((2, 5), 0.5)), "must hold only 0 and 1"),
        (lambda: count(torch.ones(2, 12), torch.tensor([0])), "must have one row a sample, but got 1 for 2 samples"),
        (lambda: count(torch.full((1, 12), float("nan")), torch.tensor([0])), "must not hold NaN"),
    ],
)
def test_what_cannot_be_counted_or_assigned_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
