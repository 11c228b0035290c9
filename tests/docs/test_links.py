"""Every link of README.md and docs/ leads somewhere; links to other sites are looked at, but not followed."""

import pydoc
import re
from urllib.parse import urlsplit

import pytest
from doc_pages import IDS, PAGES, ROOT, prose

LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)")
REFERENCE = ROOT / "docs" / "reference"


def anchors(page):
    """The names that headings have on GitHub, if they are those of the site too."""
    titles = [re.sub(r"[`*]", "", line).lower() for line in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)]
    on_github = {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
    on_the_site = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip()) for title in titles}
    return on_github & on_the_site


def problem(page, target):
    """What is wrong with a link of a page; None if nothing is."""
    parts = urlsplit(target)
    if parts.scheme:
        return None if parts.scheme == "https" and "." in parts.netloc else "is no address of a site"
    path = (page.parent / parts.path).resolve() if parts.path else page
    if not path.is_relative_to(ROOT) or not path.exists():
        return "leads to no file"
    if page.is_relative_to(ROOT / "docs") and not path.is_relative_to(ROOT / "docs"):
        return "leads out of the site"
    if not parts.fragment:
        return None
    is_name = path.parent == REFERENCE and parts.fragment.startswith("modeling_crh")
    found = pydoc.locate(parts.fragment) is not None if is_name else parts.fragment in anchors(path)
    return None if found else "leads to no heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_links_of_a_page_lead_somewhere(page):
    found = [(target, problem(page, target)) for target in LINK.findall(prose(page))]
    assert not [link for link in found if link[1] is not None]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("none.md", "leads to no file"),
        ("../README.md", "leads out of the site"),
        ("data.md#no-such-heading", "leads to no heading"),
        ("reference/data.md#modeling_crh.data.no_such_name", "leads to no heading"),
        ("http:/arxiv.org", "is no address of a site"),
        ("reference/data.md#modeling_crh.data.load_splits", None),
        ("data.md#labels", None),
    ],
)
def test_a_broken_link_is_found(target, reason):
    assert problem(ROOT / "docs" / "index.md", target) == reason
