import numpy as np
import pytest
import torch

from modeling_crh.report import Neighbour, SearchResult


def test_hits_are_the_relevant_neighbours(make_content):
    assert [result.hits for result in make_content().results] == [2, 1]


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((4, 4), np.uint8), r"\(4, 4\) of uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\) of uint8"),
        (np.zeros((4, 4, 3)), r"\(4, 4, 3\) of float64"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\) of uint8"),
    ],
)
def test_an_image_that_is_not_rgb_bytes_is_an_error(image, got):
    with pytest.raises(ValueError, match=rf"`image` must be \(H, W, 3\) uint8, but got shape {got}"):
        Neighbour(image, ("coat",), 0, True)


@pytest.mark.parametrize(
    ("distances", "message"),
    [([-1], "`distance` must be 0 or more"), ([], "`neighbours` must hold at least"), ([2, 1], "item, nearest first")],
)
def test_neighbours_out_of_order_or_missing_are_an_error(picture, distances, message):
    with pytest.raises(ValueError, match=message):
        SearchResult(picture(), (), tuple(Neighbour(picture(), (), distance, False) for distance in distances))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"centers_before": torch.zeros(3, 8)}, "`centers_before` must hold only -1 and"),
        ({"centers_after": torch.ones(8)}, r"`centers_after` must be \(N, K\)"),
        ({"centers_after": torch.ones(3, 4)}, r"shape of `centers_before`, \(3, 8\), but got \(3, 4\)"),
        ({"label_names": ["coat"]}, "`label_names` must hold C=3 names, but got 1"),
        ({"taxonomy": [["cloth"]]}, r"`taxonomy` must hold C=3 lists of names, but got \[\['cloth'\]\]"),
        ({"taxonomy": ["cloth"] * 3}, r"`taxonomy` must hold C=3 lists of names, but got \['cloth', "),
        ({"results": []}, "`results` must hold at least one search"),
        ({"centers_before": torch.ones(3, 16), "centers_after": torch.ones(3, 16)}, "from 0 to K=16, but got 9 points"),
    ],
)
def test_content_that_does_not_belong_together_is_an_error(make_content, changes, message):
    with pytest.raises(ValueError, match=message):
        make_content(**changes)
