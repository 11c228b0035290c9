import numpy as np
import pytest
import torch

from modeling_crh.report.canvas import DARK
from modeling_crh.report.centers_plot import (
    Branch,
    class_order,
    cluster_order,
    color_limit,
    draw_centers,
    taxonomy_order,
)


@pytest.mark.parametrize(("similarity", "limit"), [(0.0, 1.0), (0.3, 0.3), (-0.31, 0.4), (1.0, 1.0)])
def test_the_scale_ends_at_the_next_tenth(similarity, limit):
    assert color_limit([np.eye(2), np.array([[1.0, similarity], [similarity, 1.0]])]) == pytest.approx(limit)


def test_groups_stand_together():
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(2, (4, 64), generator=generator) * 2 - 1
    membership = torch.arange(20) % 4
    centers = groups[membership]
    flipped = torch.rand(centers.shape, generator=generator) < 0.05
    order = cluster_order(torch.where(flipped, -centers, centers))
    assert sorted(order) == list(range(20))
    assert (membership[order].diff() != 0).sum() == 3


@pytest.mark.parametrize("num_labels", [1, 2, 41])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.filterwarnings("error")
def test_any_number_of_classes_is_drawn(make_content, num_labels, narrow):
    generator = torch.Generator().manual_seed(1)
    centers = torch.randint(2, (num_labels, 8), generator=generator) * 2 - 1
    names = [f"$\\frac{number}$" for number in range(num_labels)]
    content = make_content(centers_before=centers, centers_after=centers, label_names=names)
    assert draw_centers(content, DARK, narrow=narrow).startswith(b"\x89PNG")


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


@pytest.mark.parametrize("num_labels", [1, 2, 41])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.filterwarnings("error")
def test_a_taxonomy_changes_what_is_drawn(make_content, num_labels, narrow):
    generator = torch.Generator().manual_seed(1)
    centers = torch.randint(2, (num_labels, 8), generator=generator) * 2 - 1
    fields = {"centers_before": centers, "centers_after": centers, "label_names": ["name"] * num_labels}
    taxonomy = [[f"sub {row % 7}", f"$\\frac{row % 3}$"] for row in range(num_labels)]
    drawn = draw_centers(make_content(**fields, taxonomy=taxonomy), DARK, narrow=narrow)
    assert drawn.startswith(b"\x89PNG")
    assert (drawn != draw_centers(make_content(**fields), DARK, narrow=narrow)) == (num_labels > 1)
