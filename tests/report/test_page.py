import base64
import importlib
import io
import os
import re
import sys
from html.parser import HTMLParser

import PIL.Image
import pytest

from modeling_crh.metrics import CenterSemantics, ClassFigures, SemanticCorrelation
from modeling_crh.report import Comparison, Neighbour, SearchResult, report_page, write_report
from modeling_crh.report.report_page import Plot, render_page

NO_PLOTS = {name: Plot(b"", b"", b"", b"") for name in ("precision_recall", "centers", "training")}


@pytest.fixture
def page(make_content):
    """The page of the small report with any field changed, without plots."""
    return lambda **changes: render_page(make_content(**changes), NO_PLOTS)


def elements(page, tag):
    """Attributes of every element of that kind."""
    found, parser = [], HTMLParser()
    parser.handle_starttag = lambda name, attributes: found.append(dict(attributes)) if name == tag else None
    parser.feed(page)
    return found


def opened(source):
    return PIL.Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


def test_hits_are_counted_and_figures_training_and_centers_are_put_into_words(page):
    shown = page()
    assert "3 of 5 items shown are hits" in shown
    assert re.findall(r"(\d of \d) hits", shown) == ["2 of 3", "1 of 2"]
    assert [item.get("class") for item in elements(shown, "li")][2:] == [None, "miss", None, "miss", None]
    assert shown.count("✓ 0 bits") == 1
    assert shown.count("✗ 1 bit<") == shown.count("✓ 1 bit<") == 2
    assert '<p class="value">0.625</p>' in shown
    assert "Between 0.500 and 0.750" in shown
    assert '<p class="value">0.300</p>\n    <p>Share of relevant items among the 10 nearest.</p>' in shown
    assert "8 bits" in shown
    assert "1 byte for" in shown
    assert '<td class="number">1,000</td>' in shown
    assert "Loss went from 2 to 1. mAP on validation went from 0.400 to 0.600." in shown
    assert re.search(r"at the start: \d of 3\. The closest two are now \w+ and \w+, \d of 8 bits apart\.", shown)


def test_the_classes_with_the_lowest_map_are_listed_lowest_first(page):
    classes = [ClassFigures("coat", 0.5, 2, 20), ClassFigures("bag", 0.25, 3, 30), ClassFigures("shoe", None, 0, 9)]
    listed = page(classes=classes).partition("Classes with the lowest mAP")[2]
    rows = re.findall(r'auto">(\w+)</th><td class="number">([\d.]+)</td><td class="number">(\d+)</td>', listed)
    assert rows == [("bag", "0.250", "3"), ("coat", "0.500", "2")]
    assert "Classes with the lowest" not in page()


def test_any_text_is_escaped(page, picture):
    nasty = "<script>alert('a & \"b\"')</script>"
    results = [SearchResult(picture(), (nasty,), (Neighbour(picture(), (nasty, "b"), 0, True),))]
    texts = {"title": nasty, "summary": {nasty: nasty}, "figures": {nasty: 1.0}, "label_names": [nasty] * 3}
    shown = page(**texts, results=results)
    assert "<script" not in shown
    assert f"Hit: {nasty}, b" in [image["alt"] for image in elements(shown, "img")]


def test_the_page_asks_for_nothing_else_and_a_phone_and_a_dark_screen_are_provided_for(report):
    page = report.read_text(encoding="utf-8")
    images, others = elements(page, "img"), elements(page, "source")
    sources = [image["src"] for image in images] + [source["srcset"] for source in others]
    assert len(sources) == 2 + 5 + 3 * 4
    assert all(source.startswith("data:image/") and opened(source).size for source in sources)
    assert all(image["alt"] for image in images)
    assert not re.search(r"https?://|file:|url\(|@import|<link|<script|<iframe", page)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in elements(page, "meta")
    assert elements(page, "html") == [{"lang": "en"}]
    assert len({source["media"] for source in others}) == 3
    assert "@media (prefers-color-scheme: dark)" in page


@pytest.mark.parametrize(("shape", "sharp", "size"), [((28, 28), True, (28, 28)), ((400, 800), False, (200, 100))])
def test_small_pictures_stay_sharp_and_large_ones_are_reduced(page, picture, shape, sharp, size):
    results = [SearchResult(picture(*shape), ("coat",), (Neighbour(picture(), (), 0, False),))]
    image = elements(page(results=results), "img")[0]
    assert ("sharp" in image["class"], opened(image["src"]).size) == (sharp, size)


def test_what_is_missing_is_left_out(page, make_content):
    shown = page(figures={}, history=[], summary={}, centers_after=make_content().centers_before)
    assert "Mean average precision" not in shown
    assert "All figures" not in shown
    assert "No class moved, so both tables are the same." in shown
    assert "The history holds neither losses nor evaluations." in shown


def test_pcc_and_p_value_stand_below_the_centers(page):
    before, after = SemanticCorrelation(-0.0123, 0.5, 19_900, 999), SemanticCorrelation(0.4567, 0.001, 19_900, 999)
    nothing = SemanticCorrelation(-0.0001, 0.5, 3, 99)
    shown = page(semantics=[CenterSemantics("<taxonomy>", before, after), CenterSemantics("names", nothing, nothing)])
    centers = shown[shown.index("Similarity of the class centers") : shown.index("<h2>Training")]
    assert '<th scope="row">&lt;taxonomy&gt;</th><td class="number">\N{MINUS SIGN}0.012 → 0.457</td>' in centers
    assert "p 0.500 before, 0.001 after, over 19,900 pairs of classes" in centers
    assert '<th scope="row">names</th><td class="number">0.000 → 0.000</td>' in centers  # without a sign
    assert centers.count('<th scope="row">') == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cloth", "leather"), "the taxonomy of the classes; thin lines part, from the top, cloth, leather."),
        (("cloth", "cloth"), "taxonomy of the classes."),
    ],
)
def test_the_branches_of_the_taxonomy_are_named(page, names, words):
    shown = page(taxonomy=[[names[0]], [names[1]], [names[0]]])
    assert words in shown
    assert "puts classes together" not in shown


def test_a_comparison_stands_beside_its_own_figures_and_searches(page, make_content):
    shown = page(comparison=Comparison("moved <b>", "fixed", {"map": 0.25}, make_content().results))
    assert "moved &lt;b&gt;; 0.250 with fixed" in shown
    assert "fixed: 2 of 3 hits" in shown
    assert "are hits with moved &lt;b&gt;, 3 with fixed." in shown
    assert '<td class="number">0.6250</td><td class="number">0.2500</td>' in shown


def test_the_folder_holds_the_page_and_pictures_that_open(report, make_content, tmp_path):
    names = ["centers.png", "contact_sheet.png", "precision_recall.png", "report.html", "training.png"]
    assert report.name == "report.html"
    assert sorted(os.listdir(report.parent)) == names
    for path in report.parent.glob("*.png"):
        with PIL.Image.open(path) as image:
            image.load()
            assert min(image.size) > 100
    assert write_report(make_content(), tmp_path).read_bytes() == report.read_bytes()


def test_a_label_that_is_no_unicode_is_written(make_content, tmp_path):
    assert write_report(make_content(label_names=["\ud800", "a\x00b", "$\\frac$"]), tmp_path).stat().st_size


@pytest.mark.parametrize("broken", ["draw_contact_sheet", "os.replace"])
def test_an_interruption_leaves_the_former_report(make_content, tmp_path, monkeypatch, broken):
    def interrupt(*args):
        raise KeyboardInterrupt

    (tmp_path / "report.html").write_text("former")
    owner, name = (os, "replace") if broken == "os.replace" else (report_page, broken)
    monkeypatch.setattr(report_page, "draw_plots", lambda content: NO_PLOTS)
    monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(make_content(), tmp_path)
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "former"


@pytest.mark.parametrize("name", ["matplotlib", "jinja2"])
def test_a_missing_library_is_one_sentence(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "modeling_crh.report")
    with pytest.raises(ModuleNotFoundError, match=rf"needs {name}; run `pip install 'modeling-crh\[report\]'`"):
        importlib.import_module("modeling_crh.report")
