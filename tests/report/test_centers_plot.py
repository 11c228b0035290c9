import numpy as np
import pytest
import torch

from modeling_crh.report.canvas import DARK
from modeling_crh.report.centers_plot import cluster_order, color_limit, draw_centers, similarities


def test_similarity_is_worked_by_hand():
    centers = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, -1]], dtype=torch.int8)
    assert similarities(centers).tolist() == [[1, 0.5, -1], [0.5, 1, -0.5], [-1, -0.5, 1]]


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
