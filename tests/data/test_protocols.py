import re

import pytest

from modeling_crh.data import benchmarks
from modeling_crh.data.benchmarks import BENCHMARKS, PROTOCOLS, find_protocol
from modeling_crh.data.splits import OFFICIAL, Protocol


def table():
    """Rows of the table in the module's docstring: benchmark, protocol, training, queries, database."""
    benchmark = ""
    for line in re.findall(r"^\|.*\|$", benchmarks.__doc__, re.MULTILINE)[2:]:
        name, protocol, *sizes = (cell.strip() for cell in line.strip("|").split("|"))
        benchmark = name or benchmark
        yield benchmark, protocol, *(int(size.replace(",", "")) for size in sizes[:3])


def test_the_table_says_what_the_protocols_are():
    images = {benchmark: train + query for benchmark, protocol, train, query, _ in table() if protocol == "official"}
    for benchmark, name, train, query, database in table():
        protocol = find_protocol(benchmark, name)
        if name == "official":
            assert (protocol, database) == (OFFICIAL, train)
            continue
        assert (protocol.num_train, protocol.num_query) == (train, query)
        assert protocol.train_in_database == (name == "sampled")
        assert database == images[benchmark] - query - (0 if protocol.train_in_database else train)


def test_the_table_has_a_row_for_every_protocol():
    rows = [(benchmark, protocol) for benchmark, protocol, *_ in table()]
    assert rows == [(benchmark, name) for benchmark in PROTOCOLS for name in ["official", *PROTOCOLS[benchmark]]]
    assert set(PROTOCOLS) <= set(BENCHMARKS)


def test_a_benchmark_without_sizes_has_its_official_division():
    assert find_protocol("something new", "official") == OFFICIAL


@pytest.mark.parametrize(
    ("benchmark", "name", "message"),
    [
        ("cifar10", "easy", "`protocol` of cifar10 must be one of official, sampled, disjoint, but got 'easy'"),
        ("nabirds", "sampled", "`protocol` of nabirds must be one of official, disjoint, but got 'sampled'"),
        ("something new", "disjoint", "`protocol` of something new must be one of official, but got 'disjoint'"),
    ],
)
def test_a_protocol_that_a_benchmark_has_not_is_an_error(benchmark, name, message):
    with pytest.raises(ValueError, match=message):
        find_protocol(benchmark, name)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_query": 0}, "`num_query` must be 1 or larger, but got 0"),
        ({"num_query": 5, "num_train": -1}, "`num_train` must be 1 or larger, but got -1"),
        ({"num_query": 5, "train_in_database": False}, "`num_train` must be given where the database does not hold"),
    ],
)
def test_sizes_that_leave_a_split_empty_are_an_error(sizes, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**sizes)
