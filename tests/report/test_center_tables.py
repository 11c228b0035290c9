import io

import numpy as np
import PIL.Image
import pytest
import torch

from modeling_crh.report.centers_plot import (
    Branch,
    center_tables,
    cluster_order,
    color_limit,
    draw_centers,
    mean_by_node,
    taxonomy_order,
)
from modeling_crh.report.plots import DARK, LIGHT


def test_groups_stand_together():
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(2, (4, 64), generator=generator) * 2 - 1
    membership = torch.arange(20) % 4
    centers = groups[membership]
    flipped = torch.rand(centers.shape, generator=generator) < 0.05
    order = cluster_order(torch.where(flipped, -centers, centers))
    assert sorted(order) == list(range(20))
    assert (membership[order].diff() != 0).sum() == 3


@pytest.mark.parametrize(
    ("paths", "order", "branches"),
    [
        (
            [("ducks", "water", "birds"), ("owls", "land", "birds"), ("geese", "water", "birds"), ("birds",)],
            [3, 0, 2, 1],
            [Branch("", 1), Branch("water", 2), Branch("land", 1)],
        ),
        ([(), ()], [0, 1], [Branch("", 2)]),
        ([("birds",), ("birds",)], [0, 1], [Branch("", 2)]),
    ],
)
def test_branches_are_those_of_the_highest_level_with_more_than_one(paths, order, branches):
    assert taxonomy_order(paths) == (order, branches)


def test_few_classes_have_a_row_each_in_the_order_of_the_taxonomy_where_there_is_one(make_content):
    content = make_content()
    tables = center_tables(content)
    assert tables.names == [content.label_names[row] for row in cluster_order(content.centers_after)]
    assert tables.branches == []
    tables = center_tables(make_content(taxonomy=[["cloth"], ["leather"], ["cloth"]]))
    assert tables.names == ["coat", "shoe", "bag"]
    assert tables.branches == [Branch("cloth", 2), Branch("leather", 1)]
    assert not tables.has_nodes
    assert np.isnan(np.diag(tables.before)).all()


def test_many_classes_of_a_taxonomy_are_drawn_as_what_they_lie_under(make_content):
    centers = torch.ones(42, 8, dtype=torch.int64)
    centers[1::2] = -1  # of other branches
    taxonomy = [[f"sub {row % 4}", f"top {row % 2}"] for row in range(41)] + [["alone", "top 1"]]
    fields = {"centers_before": centers, "centers_after": centers, "label_names": ["name"] * 42, "taxonomy": taxonomy}
    tables = center_tables(make_content(**fields))
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


@pytest.mark.parametrize(("similarity", "limit"), [(0.0, 1.0), (0.3, 0.3), (-0.31, 0.4), (1.0, 1.0)])
def test_the_scale_ends_at_the_next_tenth(similarity, limit):
    tables = [np.full((2, 2), np.nan), np.array([[np.nan, similarity], [similarity, np.nan]])]
    assert color_limit(tables) == pytest.approx(limit)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_equal_centers_are_red_opposite_ones_blue_and_the_diagonal_is_blank(make_content, palette):
    centers = torch.ones(3, 8)
    centers[2] = -1
    content = make_content(centers_before=centers, centers_after=centers, taxonomy=[["x"]] * 3)
    image = PIL.Image.open(io.BytesIO(draw_centers(center_tables(content), palette, narrow=False))).convert("RGB")
    pixels = np.asarray(image).reshape(-1, 3).astype(int)
    red, blue = (pixels - [180, 4, 38], pixels - [59, 76, 192])
    assert (np.abs(red).max(1) <= 2).sum() > (np.abs(blue).max(1) <= 2).sum() / 4 > 1000
    grays = pixels[(np.ptp(pixels, axis=1) < 4) & (pixels.max(1) < 200) & (pixels.max(1) > 60)]
    assert len(grays) < 20_000  # letters, but no cell


@pytest.mark.parametrize(("num_labels", "narrow"), [(1, False), (2, True), (41, False), (41, True)])
@pytest.mark.filterwarnings("error::UserWarning")  # of matplotlib
def test_any_number_of_classes_is_drawn_and_a_taxonomy_changes_what_is_drawn(make_content, num_labels, narrow):
    generator = torch.Generator().manual_seed(1)
    centers = torch.randint(2, (num_labels, 8), generator=generator) * 2 - 1
    names = [f"$\\frac{number}$" for number in range(num_labels)]
    fields = {"centers_before": centers, "centers_after": centers, "label_names": names}
    taxonomy = [[f"sub {row % 7}", f"$\\frac{row % 3}$"] for row in range(num_labels)]
    drawn, other = (
        draw_centers(center_tables(make_content(**fields, taxonomy=paths)), DARK, narrow=narrow)
        for paths in (None, taxonomy)
    )
    assert drawn.startswith(b"\x89PNG")
    assert (drawn != other) == (num_labels > 1)
