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


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def _elements(page, tag):
    parser = _Elements()
    parser.feed(page)
    return [attributes for name, attributes in parser.found if name == tag]


def test_hits_and_misses_are_counted(make_content):
    page = render_page(make_content(), NO_PLOTS)
    assert "3 of 5 items shown are hits" in page
    assert re.findall(r"(\d of \d) hits", page) == ["2 of 3", "1 of 2"]
    assert [item.get("class") for item in _elements(page, "li")][2:] == [None, "miss", None, "miss", None]
    assert page.count("✓ 0 bits") == 1
    assert page.count("✗ 1 bit<") == page.count("✓ 1 bit<") == 2


def test_the_headline_is_map_with_its_bounds(make_content):
    page = render_page(make_content(), NO_PLOTS)
    assert '<p class="value">0.625</p>' in page
    assert "Between 0.500 and 0.750" in page
    assert '<p class="value">0.300</p>\n    <p>Share of relevant items among the 10 nearest.</p>' in page
    assert "8 bits" in page
    assert "1 byte for" in page
    assert '<td class="number">1,000</td>' in page


def test_the_classes_with_the_lowest_map_are_listed_lowest_first(make_content):
    classes = [ClassFigures("coat", 0.5, 2, 20), ClassFigures("bag", 0.25, 3, 30), ClassFigures("shoe", None, 0, 9)]
    listed = render_page(make_content(classes=classes), NO_PLOTS).partition("Classes with the lowest mAP")[2]
    rows = re.findall(r'auto">(\w+)</th><td class="number">([\d.]+)</td><td class="number">(\d+)</td>', listed)
    assert rows == [("bag", "0.250", "3"), ("coat", "0.500", "2")]
    assert "Classes with the lowest" not in render_page(make_content(), NO_PLOTS)


def test_any_text_is_escaped(make_content, picture):
    nasty = "<script>alert('a & \"b\"')</script>"
    results = [SearchResult(picture(), (nasty,), (Neighbour(picture(), (nasty, "b"), 0, True),))]
    content = make_content(
        title=nasty, summary={nasty: nasty}, figures={nasty: 1.0}, label_names=[nasty] * 3, results=results
    )
    page = render_page(content, NO_PLOTS)
    assert "<script" not in page
    assert _elements(page, "script") == []
    assert f"Hit: {nasty}, b" in [image["alt"] for image in _elements(page, "img")]


def test_the_page_asks_for_nothing_else(report):
    page = report.read_text(encoding="utf-8")
    images = _elements(page, "img")
    sources = [image["src"] for image in images] + [source["srcset"] for source in _elements(page, "source")]
    assert len(sources) == 2 + 5 + 3 * 4
    for source in sources:
        assert PIL.Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))).size
    assert all(source.startswith("data:image/") for source in sources)
    assert all(image["alt"] for image in images)
    assert not re.search(r"https?://|file:|url\(|@import|<link|<script|<iframe", page)


def test_a_phone_and_a_dark_screen_are_provided_for(report):
    page = report.read_text(encoding="utf-8")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in _elements(page, "meta")
    assert _elements(page, "html") == [{"lang": "en"}]
    assert len({source["media"] for source in _elements(page, "source")}) == 3
    assert "@media (prefers-color-scheme: dark)" in page


@pytest.mark.parametrize(("shape", "sharp", "size"), [((28, 28), True, (28, 28)), ((400, 800), False, (200, 100))])
def test_small_pictures_stay_sharp_and_large_ones_are_reduced(make_content, picture, shape, sharp, size):
    results = [SearchResult(picture(*shape), ("coat",), (Neighbour(picture(), (), 0, False),))]
    image = _elements(render_page(make_content(results=results), NO_PLOTS), "img")[0]
    assert ("sharp" in image["class"]) == sharp
    assert PIL.Image.open(io.BytesIO(base64.b64decode(image["src"].partition("base64,")[2]))).size == size


def test_what_is_missing_is_left_out(make_content):
    content = make_content(figures={}, history=[], summary={}, centers_after=make_content().centers_before)
    page = render_page(content, NO_PLOTS)
    assert "Mean average precision" not in page
    assert "All figures" not in page
    assert "No class moved, so both tables are the same." in page
    assert "The history holds neither losses nor evaluations." in page


def test_training_and_centers_are_put_into_words(make_content):
    page = render_page(make_content(), NO_PLOTS)
    assert "Loss went from 2 to 1. mAP on validation went from 0.400 to 0.600." in page
    assert re.search(r"at the start: \d of 3\. The closest two are now \w+ and \w+, \d of 8 bits apart\.", page)


def test_pcc_and_p_value_stand_below_the_centers(make_content):
    before, after = SemanticCorrelation(-0.0123, 0.5, 19_900, 999), SemanticCorrelation(0.4567, 0.001, 19_900, 999)
    semantics = [CenterSemantics("<taxonomy>", before, after), CenterSemantics("names", after, after)]
    page = render_page(make_content(semantics=semantics), NO_PLOTS)
    centers = page[page.index("Similarity of the class centers") : page.index("<h2>Training")]
    assert '<th scope="row">&lt;taxonomy&gt;</th><td class="number">\N{MINUS SIGN}0.012 → 0.457</td>' in centers
    assert "p 0.500 before, 0.001 after, over 19,900 pairs of classes" in centers
    assert centers.count('<th scope="row">') == 2


def test_a_correlation_of_nothing_has_no_sign(make_content):
    nothing = SemanticCorrelation(-0.0001, 0.5, 3, 99)
    page = render_page(make_content(semantics=[CenterSemantics("names", nothing, nothing)]), NO_PLOTS)
    assert '<td class="number">0.000 → 0.000</td>' in page


@pytest.mark.parametrize(
    ("taxonomy", "words"),
    [
        (
            [["cloth"], ["leather"], ["cloth"]],
            "the taxonomy of the classes; thin lines part, from the top, cloth, leather.",
        ),
        ([["cloth"]] * 3, "taxonomy of the classes."),
    ],
)
def test_the_branches_of_the_taxonomy_are_named(make_content, taxonomy, words):
    page = render_page(make_content(taxonomy=taxonomy), NO_PLOTS)
    assert words in page
    assert "puts classes together" not in page


def test_a_comparison_stands_beside_its_own_figures_and_searches(make_content):
    content = make_content()
    comparison = Comparison("moved <b>", "fixed", {"map": 0.25}, content.results)
    page = render_page(make_content(comparison=comparison), NO_PLOTS)
    assert "moved &lt;b&gt;; 0.250 with fixed" in page
    assert "fixed: 2 of 3 hits" in page
    assert "are hits with moved &lt;b&gt;, 3 with fixed." in page
    assert '<td class="number">0.6250</td><td class="number">0.2500</td>' in page


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
    content = make_content(label_names=["\ud800", "a\x00b", "$\\frac$"])
    assert write_report(content, tmp_path).stat().st_size


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
