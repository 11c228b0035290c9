import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from modeling_crh.training import transport
from modeling_crh.training.transport import assign_shared, find_prices


def class_costs(seed, num_labels, head_dim, samples):
    """Costs of all words for classes whose codes lean to some; without `samples` means are no multiples of anything."""
    generator = np.random.default_rng(seed)
    words = np.array([[1 if word >> bit & 1 else -1 for bit in range(head_dim)] for word in range(2**head_dim)])
    leaning = np.tanh(generator.normal(0.7, 1, size=(num_labels, head_dim)))
    if samples:
        leaning = np.where(generator.random((samples, num_labels, head_dim)) < (1 + leaning) / 2, 1, -1).mean(0)
    return 2 * head_dim - 2 * words @ leaning.T  # (W, C)


def total(cost, chosen):
    return cost[chosen, np.arange(cost.shape[1])].sum()


def least_total(cost, room):
    """The least total cost, by Hungarian on as many copies of each word as it has room for."""
    copies = np.repeat(np.arange(len(room)), room)
    classes, chosen = linear_sum_assignment(cost[copies].T)
    return cost[copies[chosen], classes].sum()


def test_two_of_three_classes_that_want_a_word_with_room_for_two_get_it():
    cost = np.array([[0.0, 0.0, 0.0, 5.0], [1.0, 3.0, 2.0, 0.0]])
    assert assign_shared(cost, np.array([2, 2])).tolist() == [1, 0, 0, 1]
    assert assign_shared(cost, np.array([3, 2])).tolist() == [0, 0, 0, 1]
    assert assign_shared(cost[:, :0], np.array([1, 1])).tolist() == []  # no class needs no word
    equal = assign_shared(np.zeros((4, 10)), np.array([1, 2, 3, 4]))
    assert np.bincount(equal).tolist() == [1, 2, 3, 4]  # equal costs fill the words in any way that fits


@given(
    seed=st.integers(0, 1000),
    num_labels=st.integers(1, 60),
    head_dim=st.integers(1, 4),
    samples=st.sampled_from([0, 1, 3]),
    spare=st.integers(0, 20),
)
def test_the_total_cost_is_that_of_hungarian_on_copies_of_the_words(seed, num_labels, head_dim, samples, spare):
    cost = class_costs(seed, num_labels, head_dim, samples)
    generator = np.random.default_rng(seed)
    room = np.bincount(generator.integers(0, 2**head_dim, size=num_labels + spare), minlength=2**head_dim)
    chosen = assign_shared(cost, room)
    assert (np.bincount(chosen, minlength=len(room)) <= room).all()
    assert total(cost, chosen) == pytest.approx(least_total(cost, room), abs=1e-6)


@pytest.mark.parametrize("samples", [0, 7])
def test_many_classes_cost_no_more_than_the_prices_prove(samples, monkeypatch):
    monkeypatch.setattr(transport, "_SMALL", 200)  # prices are first found for a part
    cost = class_costs(0, 1200, 4, samples)
    room = np.full(16, 96)
    chosen = assign_shared(cost, room)
    assert (np.bincount(chosen, minlength=16) <= 96).all()
    assert total(cost, chosen) == pytest.approx(least_total(cost, room), abs=1e-6)
    prices = find_prices(cost, room)[0]
    bound = (cost + prices[:, None]).min(0).sum() - room @ prices  # of the dual problem, below every assignment
    assert bound <= total(cost, chosen) + 1e-6
    assert bound == pytest.approx(total(cost, chosen), rel=0.01)


def test_too_little_room_is_an_error():
    with pytest.raises(ValueError, match="`room` must add up to at least C=3, but adds up to 2"):
        assign_shared(np.zeros((2, 3)), np.array([1, 1]))
