import io
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
import torch

from modeling_crh.metrics import PrecisionRecallCurve
from modeling_crh.report import Neighbour, SearchResult
from modeling_crh.report.plots import (
    COLUMN,
    DARK,
    GAP,
    LIGHT,
    TILE,
    draw_contact_sheet,
    draw_png,
    draw_precision_recall,
    draw_training,
    shorten,
)
from modeling_crh.runtime import html


def pixels_of(png):
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize(
    ("text", "line"),
    [("coat", "coat"), ("a coat of many colours", "a coat of…"), ("two\nlines\x00\ud800", "two lines"), ("", "")],
)
def test_a_label_becomes_one_line_that_fits(text, line):
    assert shorten(text, 11) == line


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_a_figure_has_twice_the_pixels_and_the_colors_of_its_palette_and_of_the_page(palette):
    pixels = pixels_of(draw_png(lambda figure: None, (40, 30), palette))
    assert pixels.shape == (60, 80, 3)
    assert "#{:02x}{:02x}{:02x}".format(*pixels[5, 5]) == palette.surface
    stylesheet = Path(html.__file__).with_name("templates").joinpath("document.css").read_text(encoding="utf-8")
    names = {"card": palette.surface, "ink": palette.ink, "muted": palette.muted, "line": palette.line}
    names |= {"accent": palette.accent, "hit": palette.hit, "miss": palette.miss}
    assert [name for name, color in names.items() if f"--{name}: {color};" not in stylesheet] == []


def test_the_settings_of_the_user_neither_matter_nor_change():
    plain = draw_png(lambda figure: figure.text(0.1, 0.5, "$x$"), (60, 30), LIGHT)
    with matplotlib.rc_context({"font.size": 30, "text.color": "red"}):
        assert draw_png(lambda figure: figure.text(0.1, 0.5, "$x$"), (60, 30), LIGHT) == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"train_runtime": 3.0}],
        [{"loss": 1.0, "epoch": 0.1}],
        [{"eval_map": 0.5, "eval_map_lower": 0.4, "epoch": 1.0}],
        [{"eval_loss": float("nan"), "epoch": 1.0}, {"loss": 0.0, "epoch": 1.0}],
        [{"loss": 1.0, "epoch": float(epoch)} for epoch in range(1, 301)],
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")  # of matplotlib
def test_any_history_is_drawn_and_so_is_a_curve_that_finds_nothing(history):
    zeros = torch.zeros(2, dtype=torch.float64)
    curve = PrecisionRecallCurve(torch.arange(2), zeros, zeros)
    for png in (draw_training(history, LIGHT, narrow=False), draw_precision_recall(curve, LIGHT, narrow=True)):
        assert png.startswith(b"\x89PNG")


@pytest.mark.parametrize(("relevant", "color"), [(True, LIGHT.hit), (False, LIGHT.miss)])
def test_hits_have_a_green_frame_and_misses_a_red_one(relevant, color):
    gray = np.full((8, 8, 3), 128, np.uint8)
    results = [SearchResult(gray, ("coat",), (Neighbour(gray, ("coat",), 1, relevant),))]
    pixels = pixels_of(draw_contact_sheet(results, LIGHT))
    left = 2 * (14 + COLUMN + GAP)  # files have two pixels for one
    frame = pixels[28 : 28 + 2 * TILE, left - 1 : left + 2].reshape(-1, 3)
    share = (frame == [int(color[place : place + 2], 16) for place in (1, 3, 5)]).all(axis=1).mean()
    assert share > 0.9 if relevant else 0.4 < share < 0.8  # a miss is dashed


@pytest.mark.filterwarnings("error::UserWarning")  # of matplotlib
def test_pictures_of_any_shape_and_rows_of_any_length_are_drawn(picture):
    shapes = [(1, 1), (300, 20), (20, 300), (64, 64)]
    neighbours = tuple(Neighbour(picture(*shape), (), row, False) for row, shape in enumerate(shapes))
    results = [SearchResult(picture(), ("$a$", "b\nc"), neighbours[:count]) for count in (1, 4)]
    assert pixels_of(draw_contact_sheet(results, LIGHT)).shape[1] == 2 * (5 * COLUMN + GAP + 14)
