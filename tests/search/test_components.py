import numpy as np
from scipy.sparse.csgraph import connected_components

from modeling_crh.search import duplicates as components


def test_connections_in_many_portions_are_those_of_the_whole_graph(monkeypatch):
    monkeypatch.setattr(components, "_MOST_WAITING", 20)
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 200, (2, 150))
    graph = np.zeros((200, 200))
    graph[one, other] = 1
    found = components.Components(200)
    for start in range(0, 150, 7):
        found.connect(one[start : start + 7], other[start : start + 7])
    labels, expected = found.settle(), connected_components(graph, directed=False)[1]
    np.testing.assert_array_equal(labels[:, None] == labels, expected[:, None] == expected)


def test_without_connections_each_is_its_own():
    assert components.Components(3).settle().tolist() == [0, 1, 2]
