import dataclasses
import re
from urllib.parse import urlsplit

import gradio as gr
import httpx
import numpy as np
import pytest
from app.talk import ask, dependencies

from modeling_crh.app.finder import Answer, Item
from modeling_crh.app.search_page import bit_pattern, build_page, render, render_answer
from modeling_crh.app.server import serving
from modeling_crh.runtime.html import Thumbnail
from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex

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
    assert ("Ordered by distance in bits." in page) == bool(distances)
    assert f'<h2><span role="status">{found}</span></h2>' in page
    shown = [f"{distance} bit{'' if distance == 1 else 's'}" for distance in distances]
    assert re.findall(r'class="distance">([^<]+)<', page) == shown
    assert "encoded in <b>12 ms</b>" in page
    assert "searched in <b>0.046 ms</b>" in page


def test_it_says_when_hits_are_ordered_by_logits():
    by_logits = dataclasses.replace(answer([0, 1]), by_logits=True)
    assert "Ordered by the hash logits of the query." in render_answer(by_logits, 60, 2, 16, 16)


def test_without_a_picture_a_tile_says_what_it_is():
    page = render_answer(answer([0], picture=Thumbnail(), label=""), 60, 1, 16, 16)
    assert "<img" not in page
    assert "<b>no label</b><span>5.png</span>" in page


@pytest.mark.parametrize("picture", [Thumbnail(), Thumbnail(uri=f"data:{EVIL}")])
def test_what_an_index_says_is_text_and_no_markup(picture):
    evil = answer([1], name=EVIL, label=EVIL, picture=picture)
    asked = Answer(Item(EVIL, "", picture, CODE, position=5), evil.hits, 1.0)
    pages = [render_answer(one, 60, 1, 16, 16) for one in (evil, asked)]
    for page in (*pages, render("gallery", items=[evil.hits[0][0]]), render("message", text=EVIL)):
        assert "<img src=x" not in page
        assert "'&gt;&lt;img src=x" in page or "&#39;&gt;&lt;img src=x" in page


STATES = {"one": (1, 0), "zero": (0, 0), "other-one": (1, 1), "other-zero": (0, 1)}


def read_back(svg):
    """Bits, and whether they are marked, from the squares of a drawing."""
    width = int(re.search(r'viewBox="0 0 (\d+) ', svg)[1])
    cells = {}
    for name, path in re.findall(r'<path class="([\w-]+)" d="([^"]+)"', svg):
        for left, top in re.findall(r"M(\d+) (\d+)", path):
            cells[int(top) // 8, int(left) // 8] = STATES[name]
    columns = (width + 1) // 8
    assert sorted(cells) == [(number // columns, number % columns) for number in range(len(cells))]
    found = np.array([cells[place] for place in sorted(cells)])
    return found[:, 0], found[:, 1]


@pytest.mark.parametrize("num_bits", [8, 16, 24, 32, 48, 64, 128, 256, 1024])
def test_every_bit_is_drawn_and_marked_where_it_differs(num_bits):
    generator = np.random.default_rng(num_bits)
    code, query = generator.integers(0, 256, (2, num_bits // 8), np.uint8)
    bits, marked = read_back(bit_pattern(code, query))
    assert np.array_equal(bits, np.unpackbits(code))
    assert np.array_equal(marked, np.unpackbits(code ^ query))
    assert not read_back(bit_pattern(code))[1].any()


def test_it_says_in_words_what_it_shows():
    code = np.array([0b11000000, 0], np.uint8)
    assert 'aria-label="Code of 16 bits: c000"' in bit_pattern(code)
    assert 'aria-label="No bit differs"' in bit_pattern(code, code)
    assert 'aria-label="1 bit differs: 2"' in bit_pattern(code, np.array([0b10000000, 0], np.uint8))
    assert 'aria-label="2 bits differ: 1, 16"' in bit_pattern(code, np.array([0b01000000, 1], np.uint8))


def test_a_page_can_be_built_of_one_item_and_of_a_table(index, checkpoint, tmp_path):
    HammingIndex(index.packed[:1], model=checkpoint).save(tmp_path / "index")
    LanceIndex.create(tmp_path / "items.lance", index.packed, model=checkpoint)
    for name in ("index", "items.lance"):
        assert isinstance(build_page(tmp_path / name, checkpoint), gr.Blocks)


def test_pictures_come_from_one_place(index_path, checkpoint, image_root):
    with pytest.raises(ValueError, match="`image_root` must be left out with `pictures`, but both are given"):
        build_page(index_path, checkpoint, image_root=image_root, pictures="pictures.bin")


@pytest.mark.parametrize("host", ["300.1.1.1", "192.0.2.1"])
def test_an_address_of_another_machine_is_refused(host):
    message = f"`host` must be an address of this machine, but got '{host}'"
    with pytest.raises(ValueError, match=message), serving(gr.Blocks(), host):
        pass


def test_it_listens_to_this_machine_alone_and_at_a_free_port(address):
    assert address.startswith("http://127.0.0.1:")
    port = urlsplit(address).port
    with pytest.raises(ValueError, match=f"`port` must be free, but got {port}"), serving(gr.Blocks(), None, port):
        pass


def test_words_are_asked_for_where_a_model_of_texts_is_given(index_path, checkpoint, text_model, address):
    with serving(build_page(index_path, checkpoint, text_model=text_model)) as found:
        assert "The 5 nearest of 60" in str(ask(found, "by_text", ["a dog ran", 5, 64])["output"]["data"])
        assert "Type words, choose an image, or one of the database" in httpx.get(f"{found}config").text
    assert "by_text" not in dependencies(address)
    assert "Type words" not in httpx.get(f"{address}config").text
