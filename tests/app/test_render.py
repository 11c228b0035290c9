import re

import numpy as np
import pytest

from modeling_crh.app.finder import Answer, Item
from modeling_crh.app.search_page import milliseconds, render, render_answer
from modeling_crh.runtime.html import Thumbnail

CODE = np.array([0b11110000, 0], np.uint8)
EVIL = "\"'><img src=x onerror=alert(1)>${alert(1)}{{alert(1)}}`"


def answer(distances, **fields):
    item = {"position": 5, "name": "5.png", "label": "boot", "picture": Thumbnail("data:image/png;base64,AAAA")}
    hits = [(Item(**(item | fields), code=CODE), distance) for distance in distances]
    return Answer(Item("Your image", "", Thumbnail(), CODE, encoding=12.3), hits, 0.0456)


@pytest.mark.parametrize(
    ("distances", "k", "radius", "found"),
    [
        ([0, 1, 3], 3, 16, "The 3 nearest of 60"),
        ([0, 1, 3], 5, 4, "All 3 within 4 bits"),
        ([0], 5, 1, "One alone within 1 bit"),
        ([2], 1, 16, "The nearest of 60"),
        ([], 5, 0, "Nothing lies within 0 bits"),
    ],
)
def test_it_says_how_much_was_found(distances, k, radius, found):
    page = render_answer(answer(distances), 60, k, radius, 16)
    assert f'<h2><span role="status">{found}</span></h2>' in page
    assert page.count("data-position") == len(distances)
    assert "encoded in <b>12 ms</b>" in page
    assert "searched in <b>0.046 ms</b>" in page


def test_distances_are_in_bits():
    page = render_answer(answer([0, 1, 2]), 60, 3, 16, 16)
    assert re.findall(r'class="distance">([^<]+)<', page) == ["0 bits", "1 bit", "2 bits"]


def test_without_a_picture_a_tile_says_what_it_is():
    page = render_answer(answer([0], picture=Thumbnail(), label=""), 60, 1, 16, 16)
    assert "<img" not in page
    assert "<b>no label</b><span>5.png</span>" in page


@pytest.mark.parametrize("picture", [Thumbnail(), Thumbnail(uri=f"data:{EVIL}")])
def test_what_an_index_says_is_text_and_no_markup(picture):
    evil = answer([1], name=EVIL, label=EVIL, picture=picture)
    query = Item(EVIL, "", picture, CODE, position=5)
    pages = [
        render_answer(evil, 60, 1, 16, 16),
        render_answer(Answer(query, evil.hits, 1.0), 60, 1, 16, 16),
        render("gallery", items=[item for item, _ in evil.hits]),
        render("message", text=EVIL),
    ]
    for page in pages:
        assert "<img src=x" not in page
        assert "'&gt;&lt;img src=x" in page or "&#39;&gt;&lt;img src=x" in page


def test_milliseconds_have_two_digits_that_count():
    assert [milliseconds(value) for value in (0.00123, 0.5, 9.94, 10, 1234.5)] == [
        "0.0012 ms",
        "0.5 ms",
        "9.9 ms",
        "10 ms",
        "1,234 ms",
    ]
