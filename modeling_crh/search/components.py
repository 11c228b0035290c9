"""Components: which things are connected, as connections come in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_MOST_WAITING = 1 << 21


class Components:
    """Components of a graph that grows.

    Args:
        size: Number of things; each is a component of its own at first.

    Example:
        >>> components = Components(4)
        >>> components.connect(np.array([0, 3]), np.array([2, 2]))
        >>> components.settle().tolist()
        [0, 1, 0, 0]
    """

    def __init__(self, size: int) -> None:
        self._labels = np.arange(size, dtype=np.int64)
        self._waiting: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._num_waiting = 0

    def connect(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Connect `(E,)` things with as many others; `settle` knows of it."""
        self._waiting.append((one, other))
        self._num_waiting += len(one)
        if self._num_waiting > _MOST_WAITING:  # so that memory does not grow with the number of connections
            self.settle()

    def settle(self) -> NDArray[np.int64]:
        """Number of the component of each thing, `(size,)`."""
        if self._num_waiting:
            one, other = (self._labels[np.concatenate(side)] for side in zip(*self._waiting, strict=True))
            size = int(self._labels.max()) + 1
            graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(size, size))
            joined = connected_components(graph, directed=False)[1]
            self._labels = joined.astype(np.int64)[self._labels]
        self._waiting, self._num_waiting = [], 0
        return self._labels
