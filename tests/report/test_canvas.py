import io

import matplotlib
import PIL.Image
import pytest

from modeling_crh.report.canvas import DARK, LIGHT, draw_png, shorten
from modeling_crh.report.report_page import TEMPLATES


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("coat", "coat"),
        ("a coat of many colours", "a coat of…"),
        ("two\nlines\x00\ud800", "two lines"),
        ("", ""),
    ],
)
def test_a_label_becomes_one_line_that_fits(text, line):
    assert shorten(text, 11) == line


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_a_figure_has_twice_the_pixels_and_the_color_of_its_palette(palette):
    image = PIL.Image.open(io.BytesIO(draw_png(lambda figure: None, (40, 30), palette)))
    assert image.size == (80, 60)
    assert "#{:02x}{:02x}{:02x}".format(*image.convert("RGB").getpixel((5, 5))) == palette.surface


def test_the_settings_of_the_user_neither_matter_nor_change():
    plain = draw_png(lambda figure: figure.text(0.1, 0.5, "$x$"), (60, 30), LIGHT)
    with matplotlib.rc_context({"font.size": 30, "text.color": "red"}):
        assert draw_png(lambda figure: figure.text(0.1, 0.5, "$x$"), (60, 30), LIGHT) == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_the_page_has_the_colors_of_the_plots(palette):
    stylesheet = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    names = {"card": palette.surface, "ink": palette.ink, "muted": palette.muted, "line": palette.line}
    names |= {"accent": palette.accent, "hit": palette.hit, "miss": palette.miss}
    assert [name for name, color in names.items() if f"--{name}: {color};" not in stylesheet] == []
