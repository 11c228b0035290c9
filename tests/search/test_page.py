import re

import numpy as np
import PIL.Image
import pytest
import torch

from modeling_crh.search import HammingIndex
from modeling_crh.search.queries import QuerySource
from modeling_crh.search.results import check_replaced, find_results, write_duplicates, write_groups, write_page

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def search(paths, labels=None, query="0000", image=None, **options):
    index = HammingIndex(np.zeros((len(paths), 2), np.uint8), paths=paths, labels=labels, **options)
    source = QuerySource(query, "code" if image is None else "image", image)
    return index, find_results(index, [source], torch.full((1, 16), -1.0))


@pytest.fixture
def page(tmp_path):
    """Write a page of results; gives its text and what was left out of it."""

    def write(index, results, **options):
        faults = write_page(tmp_path / "page.html", index, results, **options)
        return (tmp_path / "page.html").read_text(), faults

    return write


def test_all_text_is_escaped_and_no_script_may_run(page):
    text, _ = page(*search([EVIL], [[EVIL, "b"]], query=EVIL, model=EVIL, revision=EVIL))
    assert text.count("&lt;script&gt;") >= 6
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert not re.search(r"(src|href)=\"(?!data:image/)|<script|<img|@import|url\(", text)


def test_without_a_root_no_picture_of_the_database_is_opened(tmp_path, page):
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    text, faults = page(*search([str(tmp_path / "a.png")]))
    assert faults == {}
    assert "<img" not in text
    assert str(tmp_path / "a.png") in text


def test_pictures_come_from_the_root_alone_and_the_rest_is_counted(tmp_path, page):
    root = tmp_path / "root"
    root.mkdir()
    for file in (root / "a.png", tmp_path / "b.png"):
        PIL.Image.new("RGB", (4, 4)).save(file)
    (root / "link.png").symlink_to(tmp_path / "b.png")
    paths = ["a.png", "../b.png", "link.png", str(tmp_path / "b.png"), "gone.png"]
    text, faults = page(*search(paths, image=root / "a.png"), image_root=root)
    assert faults == {"outside of the image root": 3, "not there": 1}
    assert text.count("<img") == 2  # the query and one item
    assert text.count("outside of the image root") == 3


def test_items_without_a_path_or_label_have_their_id(tmp_path, page):
    index = HammingIndex(np.zeros((1, 2), np.uint8), ids=["item 7"])
    results = find_results(index, [QuerySource("0001", "code", None)], torch.tensor([[-1.0] * 15 + [1.0]]))
    text, _ = page(index, results, image_root=tmp_path)
    for words in ("id item 7", "no label", ">1 bit<"):
        assert words in text


def test_half_a_surrogate_pair_is_written_somehow(page):
    assert "bad ? name" in page(*search(["a"], query="bad \udc80 name"))[0]


@pytest.mark.parametrize("content", [b"sku,photo\n1,a.png\n", b"<!doctype html><title>My shop</title>", b"\x00\x01"])
def test_a_file_of_something_else_is_not_replaced(content, tmp_path):
    file = tmp_path / "mine"
    file.write_bytes(content)
    for name in ("html", "out"):
        with pytest.raises(ValueError, match=f"`{name}` must be a new file, or an older .*mine' is another file"):
            check_replaced(name, file)
    assert file.read_bytes() == content


def test_what_was_written_before_is_replaced(tmp_path):
    index = HammingIndex(np.zeros((2, 2), np.uint8))
    (tmp_path / "g.csv").touch()
    for _ in range(2):
        write_page(tmp_path / "p.html", index, [])
        write_groups(tmp_path / "g.csv", [[{"id": 0, "label": None, "path": None}]])
        write_duplicates(tmp_path / "d.csv", [])
