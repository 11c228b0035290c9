import importlib
import os
import sys

import PIL.Image
import pytest

from modeling_crh.report import report_page as write
from modeling_crh.report import write_report

NAMES = ["centers.png", "contact_sheet.png", "precision_recall.png", "report.html", "training.png"]


def test_the_folder_holds_the_page_and_pictures_that_open(report):
    assert report.name == "report.html"
    assert sorted(os.listdir(report.parent)) == NAMES
    for path in report.parent.glob("*.png"):
        with PIL.Image.open(path) as image:
            image.load()
            assert min(image.size) > 100


def test_the_same_content_gives_the_same_page(make_content, report, tmp_path):
    assert write_report(make_content(), tmp_path).read_bytes() == report.read_bytes()


def test_a_label_that_is_no_unicode_is_written(make_content, tmp_path):
    content = make_content(label_names=["\ud800", "a\x00b", "$\\frac$"])
    assert write_report(content, tmp_path).stat().st_size


@pytest.mark.parametrize("broken", ["draw_contact_sheet", "os.replace"])
def test_an_interruption_leaves_the_former_report(make_content, tmp_path, monkeypatch, broken):
    def interrupt(*args):
        raise KeyboardInterrupt

    (tmp_path / "report.html").write_text("former")
    owner, name = (write.os, "replace") if broken == "os.replace" else (write, broken)
    monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(make_content(), tmp_path)
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "former"


def test_a_folder_that_is_a_file_is_an_error(make_content, tmp_path):
    path = tmp_path / "report"
    path.write_text("")
    with pytest.raises(ValueError, match=r"`folder` must be a folder, but .*report is a file"):
        write_report(make_content(), path)


@pytest.mark.parametrize("name", ["matplotlib", "jinja2"])
def test_a_missing_library_is_one_sentence(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "modeling_crh.report")
    with pytest.raises(ModuleNotFoundError, match=rf"needs {name}; run `pip install 'modeling-crh\[report\]'`"):
        importlib.import_module("modeling_crh.report")
