"""Assign classes to few words that several classes may share, at the least total cost: a transportation problem.

First the prices of the words are found: with them, the word that is cheapest for a class is its word in the best
assignment, but for near ties. They maximise the dual problem, smoothed by a temperature that falls, by Newton's method
in W unknowns (the smoothing is the entropic one: Cominetti and San Martin, Mathematical Programming 67, 1994). Then
classes move along shortest paths from words that are overfull to words with room, until all fit (successive shortest
paths: Ahuja, Magnanti and Orlin, Network Flows, 1993, chapter 9), which makes the assignment exact.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_EPSILON = 1e-9  # costs that differ by less are equal; they are sums of some hundred numbers around 1
_SMALL = 2000  # classes from which prices are not first found for a part of them
_PART = 8
_MOST_STEPS = 12  # of Newton's method at a temperature; more are taken only where classes tie


def assign_shared(cost: Floats, room: Integers) -> Integers:
    """Choose a word for each class at the least total cost, with no more classes on a word than it has room for.

    Machines may differ in which of several best assignments they choose.

    Args:
        cost: Cost of each word for each class, `(W, C)`.
        room: Largest number of classes of each word, `(W,)`, together at least C.

    Example:
        >>> assign_shared(np.array([[0.0, 0.0, 0.0], [1.0, 3.0, 2.0]]), np.array([2, 2]))
        array([1, 0, 0])
    """
    if room.sum() < cost.shape[1]:
        raise ValueError(f"`room` must add up to at least C={cost.shape[1]}, but adds up to {room.sum()}.")
    if cost.shape[1] == 0:
        return np.zeros(0, np.int64)
    return _Balance(cost, room, find_prices(cost, room)[0]).solve()


def find_prices(
    cost: Floats, room: Integers, generator: np.random.Generator | None = None
) -> tuple[Floats, float, bool]:
    """Find prices, `(W,)` from 0 up, by which nearly as many classes choose each word as it has room for.

    A class chooses the word of the least cost and price. Words that are left with room cost nothing. Also return the
    last temperature at which Newton's method found prices, and whether it ended there by ties.

    Below a temperature, classes with equal costs all change their word at one price, and the method finds none.
    """
    generator = generator or np.random.default_rng(0)
    num_words, num_labels = cost.shape
    span = float(np.ptp(cost))
    prices, temperature, is_tied = np.zeros(num_words), span / 8, False
    if span < _EPSILON:
        return prices, np.inf, True
    if num_labels > _SMALL:
        part = generator.choice(num_labels, num_labels // _PART, replace=False)
        prices, found, is_tied = find_prices(np.ascontiguousarray(cost[:, part]), -(-room // _PART), generator)
        temperature = min(temperature, found)
    coldest = span * num_words / (8 * num_labels)  # where some classes of a word are between two words
    next_temperature = temperature
    while True:
        dual = _SmoothDual(cost, room, next_temperature)
        better = dual.maximise(prices, enough=max(1.0, 0.02 * num_labels / num_words))
        if better is None:
            return prices - prices.min(), temperature, True
        prices, temperature = better, next_temperature
        if is_tied or temperature <= coldest:
            return prices - prices.min(), temperature, is_tied
        next_temperature = max(coldest, temperature / 5)


@dataclass
class _SmoothDual:
    """The dual problem at a temperature: classes choose words by a softmax of their negative costs and prices."""

    cost: Floats
    room: Integers
    temperature: float

    def maximise(self, prices: Floats, enough: float) -> Floats | None:
        """Improve prices until words are overfull by less than `enough` classes; None if that takes too long."""
        value, excess, curvature = self.evaluate(prices)
        for _ in range(_MOST_STEPS):
            if np.abs(excess).sum() < enough:
                return prices
            ridge = (1e-9 * np.trace(curvature) / len(prices) + 1e-12) * np.eye(len(prices))
            step = np.linalg.solve(curvature + ridge, excess - excess.mean())
            step -= step.mean()
            size = 1.0
            while True:
                new = self.evaluate(prices + size * step)
                if new[0] >= value + 1e-4 * size * (excess @ step):
                    break
                size /= 2
                if size < 1e-3:
                    return None
            prices, (value, excess, curvature) = prices + size * step, new
        return None

    def evaluate(self, prices: Floats) -> tuple[float, Floats, Floats]:
        """Compute the value of the dual, its gradient `(W,)` and its negative second derivative `(W, W)`.

        The gradient is the number of classes above the room of each word. Room to spare is taken by classes that cost
        nothing on any word.
        """
        spare = self.room.sum() - self.cost.shape[1]
        share, soft = _softmax((self.cost + prices[:, None]) / -self.temperature)  # (W, C), (C,)
        nothing, soft_nothing = _softmax(prices[:, None] / -self.temperature)
        filled = share.sum(1)
        value = -self.temperature * (soft.sum() + spare * soft_nothing[0]) - self.room @ prices
        curvature = np.diag(filled) - share @ share.T + spare * (np.diag(nothing[:, 0]) - nothing @ nothing.T)
        return float(value), filled + spare * nothing[:, 0] - self.room, curvature / self.temperature


def _softmax(logits: Floats) -> tuple[Floats, Floats]:
    """Compute the softmax over the words, in place, and the logarithm of its denominators."""
    top = logits.max(0)
    logits -= top
    np.exp(logits, out=logits)
    total = logits.sum(0)
    logits /= total
    return logits, np.log(total) + top


class _Balance:
    """An assignment in which words may be overfull, and which is the best one for as many classes on each word.

    Attributes:
        members: Classes of each word.
        spare: Room to spare of each word, `(W,)`: as classes that cost nothing on any word.
        move_cost: Least change of the cost if a class moves from a word to another, `(W, W)`.
    """

    def __init__(self, cost: Floats, room: Integers, prices: Floats) -> None:
        self.cost, self.room, num_words = cost, room, len(room)
        chosen = (cost + prices[:, None]).argmin(0)
        self.members = [np.flatnonzero(chosen == word) for word in range(num_words)]
        self.spare = np.zeros(num_words, np.int64)
        left = int(room.sum()) - cost.shape[1]
        free = np.flatnonzero(prices <= prices.min() + _EPSILON)  # the words where spare room costs least
        for word in free.tolist():
            self.spare[word] = min(left, max(0, int(room[word]) - len(self.members[word])))
            left -= int(self.spare[word])
        self.spare[free[0]] += left
        self.move_cost = np.zeros((num_words, num_words))
        for word in range(num_words):
            self._compare(word)

    def solve(self) -> Integers:
        """Move classes until all words have room for theirs."""
        while True:
            excess = np.array([len(members) for members in self.members]) + self.spare - self.room
            if not (excess > 0).any():
                break
            distance, before = self._shortest_paths(excess > 0)
            path = [int(np.where(excess < 0, distance, np.inf).argmin())]
            while before[path[0]] >= 0:
                path.insert(0, before[path[0]])
            self._move(path, int(min(excess[path[0]], -excess[path[-1]])))
        chosen = np.empty(self.cost.shape[1], np.int64)
        for word, members in enumerate(self.members):
            chosen[members] = word
        return chosen

    def _compare(self, word: int) -> None:
        """Compute the least costs of a move from a word to each other."""
        members = self.members[word]
        costs = self.cost[:, members]  # (W, members)
        self.move_cost[word] = (costs - costs[word]).min(1) if len(members) else np.inf
        if self.spare[word]:
            self.move_cost[word] = np.minimum(self.move_cost[word], 0.0)
        self.move_cost[word, word] = 0.0

    def _shortest_paths(self, starts: NDArray[np.bool_]) -> tuple[Floats, Integers]:
        """Find the cheapest chains of moves to each word, and the word before it, or -1 (Bellman and Ford)."""
        distance, before = np.where(starts, 0.0, np.inf), np.full(len(starts), -1)
        for _ in range(len(starts)):
            through = distance[:, None] + self.move_cost  # (W, W)
            least = through.min(0)
            better = least < distance - _EPSILON
            if not better.any():
                break
            before[better] = through[:, better].argmin(0)
            distance[better] = least[better]
        return distance, before

    def _move(self, path: list[int], most: int) -> None:
        """Move up to `most` classes along a path, as many as cost the same at each of its moves."""
        moves = []
        for start, end in pairwise(path):
            members = self.members[start]
            least = self.move_cost[start, end] + _EPSILON
            tied = np.flatnonzero(self.cost[end, members] - self.cost[start, members] <= least)
            spare = self.spare[start] if least >= 0 else 0
            most = min(most, len(tied) + int(spare))
            moves.append((start, end, tied))
        arriving = []
        for start, end, tied in moves:
            going, rest = tied[:most], most - len(tied[:most])
            self.spare[start] -= rest
            self.spare[end] += rest
            arriving.append((end, self.members[start][going]))
            self.members[start] = np.delete(self.members[start], going)
        for end, classes in arriving:
            self.members[end] = np.append(self.members[end], classes)
        for word in path:
            self._compare(word)
