import io

import numpy as np
import PIL.Image
import pytest

from modeling_crh.report import Neighbour, SearchResult
from modeling_crh.report.canvas import LIGHT
from modeling_crh.report.plots import COLUMN, GAP, TILE, draw_contact_sheet


def _pixels_of(results):
    return np.asarray(PIL.Image.open(io.BytesIO(draw_contact_sheet(results, LIGHT))).convert("RGB"))


@pytest.mark.parametrize(("relevant", "color"), [(True, LIGHT.hit), (False, LIGHT.miss)])
def test_hits_have_a_green_frame_and_misses_a_red_one(relevant, color):
    gray = np.full((8, 8, 3), 128, np.uint8)
    pixels = _pixels_of([SearchResult(gray, ("coat",), (Neighbour(gray, ("coat",), 1, relevant),))])
    left = 2 * (14 + COLUMN + GAP)  # files have two pixels for one
    frame = pixels[28 : 28 + 2 * TILE, left - 1 : left + 2].reshape(-1, 3)
    share = (frame == [int(color[place : place + 2], 16) for place in (1, 3, 5)]).all(axis=1).mean()
    assert share > 0.9 if relevant else 0.4 < share < 0.8  # a miss is dashed


@pytest.mark.filterwarnings("error")
def test_pictures_of_any_shape_and_rows_of_any_length_are_drawn(picture):
    shapes = [(1, 1), (300, 20), (20, 300), (64, 64)]
    neighbours = tuple(Neighbour(picture(*shape), (), row, False) for row, shape in enumerate(shapes))
    results = [SearchResult(picture(), ("$a$", "b\nc"), neighbours[:count]) for count in (1, 4)]
    assert _pixels_of(results).shape[1] == 2 * (5 * COLUMN + GAP + 14)
