import numpy as np
import pytest
import torch

from modeling_crh.report.canvas import DARK
from modeling_crh.report.centers_plot import color_limit, draw_centers


@pytest.mark.parametrize(("similarity", "limit"), [(0.0, 1.0), (0.3, 0.3), (-0.31, 0.4), (1.0, 1.0)])
def test_the_scale_ends_at_the_next_tenth(similarity, limit):
    assert color_limit(
        [np.full((2, 2), np.nan), np.array([[np.nan, similarity], [similarity, np.nan]])]
    ) == pytest.approx(limit)


@pytest.mark.parametrize("num_labels", [1, 2, 41])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.filterwarnings("error")
def test_any_number_of_classes_is_drawn(make_content, num_labels, narrow):
    generator = torch.Generator().manual_seed(1)
    centers = torch.randint(2, (num_labels, 8), generator=generator) * 2 - 1
    names = [f"$\\frac{number}$" for number in range(num_labels)]
    content = make_content(centers_before=centers, centers_after=centers, label_names=names)
    assert draw_centers(content, DARK, narrow=narrow).startswith(b"\x89PNG")


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
