import numpy as np
import pytest
import torch

from modeling_crh.report.centers_plot import (
    Branch,
    center_tables,
    class_order,
    cluster_order,
    mean_by_node,
    taxonomy_order,
)


def test_groups_stand_together():
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(2, (4, 64), generator=generator) * 2 - 1
    membership = torch.arange(20) % 4
    centers = groups[membership]
    flipped = torch.rand(centers.shape, generator=generator) < 0.05
    order = cluster_order(torch.where(flipped, -centers, centers))
    assert sorted(order) == list(range(20))
    assert (membership[order].diff() != 0).sum() == 3


def test_branches_are_those_of_the_highest_level_with_more_than_one():
    paths = [("ducks", "water", "birds"), ("owls", "land", "birds"), ("geese", "water", "birds"), ("birds",)]
    order, branches = taxonomy_order(paths)
    assert order == [3, 0, 2, 1]
    assert branches == [Branch("", 1), Branch("water", 2), Branch("land", 1)]


@pytest.mark.parametrize("paths", [[(), ()], [("birds",), ("birds",)]])
def test_a_taxonomy_that_parts_nothing_has_one_branch(paths):
    assert taxonomy_order(paths) == ([0, 1], [Branch("", 2)])


def test_the_tables_follow_the_taxonomy_where_there_is_one(make_content):
    content = make_content()
    assert class_order(content) == (cluster_order(content.centers_after), [])
    content = make_content(taxonomy=[["cloth"], ["leather"], ["cloth"]])
    assert class_order(content) == ([0, 2, 1], [Branch("cloth", 2), Branch("leather", 1)])


def test_few_classes_have_a_row_each(make_content):
    tables = center_tables(make_content(taxonomy=[["cloth"], ["leather"], ["cloth"]]))
    assert tables.names == ["coat", "shoe", "bag"]
    assert not tables.has_nodes
    assert np.isnan(np.diag(tables.before)).all()


def test_many_classes_of_a_taxonomy_are_drawn_as_what_they_lie_under(make_content):
    centers = torch.ones(42, 8, dtype=torch.int64)
    centers[1::2] = -1  # of other branches
    taxonomy = [[f"sub {row % 4}", f"top {row % 2}"] for row in range(41)] + [["alone", "top 1"]]
    tables = center_tables(
        make_content(centers_before=centers, centers_after=centers, label_names=["name"] * 42, taxonomy=taxonomy)
    )
    assert tables.names == ["sub 0", "sub 2", "sub 1", "sub 3", "alone"]
    assert tables.branches == [Branch("top 0", 2), Branch("top 1", 3)]
    assert tables.has_nodes
    expected = np.ones((5, 5))
    expected[:2, 2:] = expected[2:, :2] = -1
    expected[4, 4] = np.nan
    np.testing.assert_array_equal(tables.after, expected)


def test_means_by_node_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    table = generator.normal(size=(9, 9))
    nodes = [("a",)] * 4 + [("b",)] + [("c",)] * 4
    found = mean_by_node(table, nodes)
    for row, one in enumerate([("a",), ("b",), ("c",)]):
        for column, other in enumerate([("a",), ("b",), ("c",)]):
            cells = [table[i, j] for i in range(9) for j in range(9) if i != j and (nodes[i], nodes[j]) == (one, other)]
            np.testing.assert_allclose(found[row, column], np.mean(cells) if cells else np.nan)
