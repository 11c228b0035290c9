"""Tests of what turns npm packages into drawings of emoji: `emoji_packages`, `emoji_names` and `emoji_render`."""

import os
import sys

import emoji_packages
import numpy as np
import pytest
from builders.npm_packages import write_package
from emoji_names import EXCEPTIONS, Drawing, Emoji, code_points, known_names, match_icons
from emoji_packages import PACKAGES, VENDORS, IconSet, download_packages, package_path, read_icon_set, read_json
from emoji_render import check_svg, render_icon

NOTO = "@iconify-json/noto"
SIZES = {"left": 0, "top": 0, "width": 16, "height": 16}
CAT, CAT_FACE, POINTING, WINDOW = "1f408", "1f431", "1f449", "1fa9f"


def emoji_of(character, name, *, unicode_name="", short_names=()):
    return Emoji(code_points(character), name, name, "Animals", "animal", unicode_name, tuple(short_names))


EMOJI = [
    emoji_of("🐈", "cat", unicode_name="CAT"),
    emoji_of("🐱", "cat face", unicode_name="CAT FACE", short_names=["cat", "puss"]),
    emoji_of("👉", "backhand index pointing right", unicode_name="WHITE RIGHT POINTING BACKHAND INDEX"),
    emoji_of("🪟", "window"),
    emoji_of("🐩", "a", unicode_name="PET"),
    emoji_of("🐕", "b", unicode_name="PET"),
]


def set_of(*icons, vendor="noto", aliases=None, characters=None):
    return IconSet(vendor, {}, {name: {"body": "<g/>"} for name in icons}, aliases or {}, characters or {}, {})


def fake_npm(tmp_path, monkeypatch, code):
    """Put a program called npm in front of all others, which runs this Python code with the package as `package`."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\npackage = sys.argv[2]\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_an_icon_set_has_no_hidden_icons_and_no_aliases_of_them(tmp_path):
    icons = {"cat": {"body": "<g/>"}, "old": {"body": "<g/>", "hidden": True}}
    aliases = {"puss": {"parent": "cat"}, "older": {"parent": "old"}}
    files = {"icons.json": {"icons": icons, "aliases": aliases, "width": 36}, "info.json": {"name": "Noto"}}
    write_package(tmp_path, NOTO, files | {"chars.json": {CAT: "cat"}})
    icon_set = read_icon_set(tmp_path, "noto")
    assert (list(icon_set.icons), icon_set.aliases) == (["cat"], {"puss": {"parent": "cat"}})
    assert (icon_set.sizes, icon_set.characters) == (SIZES | {"width": 36}, {CAT: "cat"})


@pytest.mark.parametrize("icons", [[], {}, {"icons": []}, {"icons": {"cat": 1}}])
def test_a_package_that_is_no_icon_set_is_an_error_that_names_it(tmp_path, icons):
    write_package(tmp_path, NOTO, {"icons.json": icons, "info.json": {}, "chars.json": {}})
    with pytest.raises(ValueError, match=r"iconify-json-noto-.*\.tgz must be an icon set"):
        read_icon_set(tmp_path, "noto")


@pytest.mark.parametrize(
    ("files", "kept", "message"),
    [
        ({}, None, "a sound icons.json"),
        ({"icons.json": b"no json"}, None, "a sound icons.json"),
        ({"icons.json": b"[" + b"1," * 50 + b"1]"}, None, "must be a file of at most 64 bytes, but has 103"),
        ({"icons.json": bytes(range(60))}, 100, r"must be a package with a sound icons\.json"),
        ({}, 0, r"must be a package with a sound icons\.json"),
    ],
)
def test_a_missing_damaged_or_huge_file_is_an_error(tmp_path, monkeypatch, files, kept, message):
    monkeypatch.setattr(emoji_packages, "MAX_MEMBER_BYTES", 64)
    with pytest.raises(ValueError, match=r"`packages_dir` must hold iconify-json-noto-.*\.tgz"):
        read_json(tmp_path, NOTO, "icons.json")
    write_package(tmp_path, NOTO, files)
    path = package_path(tmp_path, NOTO)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path, NOTO, "icons.json")


def test_every_package_is_fetched_in_its_version(tmp_path, monkeypatch):
    code = "name, _, version = package.removeprefix('@').replace('/', '-').rpartition('@')\n"
    fake_npm(tmp_path, monkeypatch, code + "Path(sys.argv[-1], f'{name}-{version}.tgz').touch()")
    download_packages(tmp_path)
    assert all(package_path(tmp_path, name).is_file() for name in PACKAGES)
    assert (tmp_path / f"iconify-json-noto-{VENDORS['noto']}.tgz").is_file()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "print('npm warn old', 'npm error code E404', sep='\\n', file=sys.stderr); sys.exit(1)",
            r"must fetch @iconify-json/noto@1\.2\.9, but failed: npm error code E404$",
        ),
        ("import time; time.sleep(60)", r"must fetch @iconify-json/noto@1\.2\.9, but did not in 0\.5 seconds"),
        (None, "`npm` must be on the PATH, to download packages, but is not"),
    ],
)
def test_a_download_that_fails_names_the_package_and_the_reason(tmp_path, monkeypatch, code, message):
    monkeypatch.setattr(emoji_packages, "DOWNLOAD_SECONDS", 0.5 if code and "sleep" in code else 60)
    if code is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        fake_npm(tmp_path, monkeypatch, code)
    with pytest.raises(ValueError, match=message):
        download_packages(tmp_path)


@pytest.mark.parametrize(
    ("character", "expected"), [("😀", "1f600"), ("❤️", "2764"), ("#️⃣", "0023-20e3"), ("👩‍🚀", "1f469-200d-1f680")]
)
def test_code_points_have_four_digits_or_more_and_no_variation_selectors(character, expected):
    assert code_points(character) == expected


LEFT = {"parent": "left", "hFlip": True}


@pytest.mark.parametrize(
    ("icon_set", "expected"),
    [  # code points that a set states go before names, which match whatever their spelling
        (set_of("cat", characters={CAT_FACE: "cat"}), {CAT_FACE: Drawing("cat")}),
        (set_of("Cat-Face"), {CAT_FACE: Drawing("Cat-Face")}),
        # a name is that of CLDR before it is a short name; one that two emoji share matches neither
        (set_of("cat"), {CAT: Drawing("cat")}),
        (set_of("puss"), {CAT_FACE: Drawing("puss")}),
        (set_of("pet"), {}),
        # a drawing is taken for one emoji only, by its own name or by an alias, which may mirror but not turn it
        (set_of("cat", "catface"), {CAT: Drawing("cat"), CAT_FACE: Drawing("catface")}),
        (set_of("cat", aliases={"cat-face": {"parent": "cat"}}), {CAT: Drawing("cat")}),
        (set_of("kitten", aliases={"cat-face": {"parent": "kitten"}}), {CAT_FACE: Drawing("kitten")}),
        (set_of("left", aliases={"backhand-index-pointing-right": LEFT}), {POINTING: Drawing("left", mirrored=True)}),
        (set_of("kitten", aliases={"cat": {"parent": "kitten", "rotate": 1}}), {}),
        # exceptions go before all names, and may rule a drawing out
        (set_of("cat", "catside", vendor="fxemoji"), {CAT_FACE: Drawing("cat"), CAT: Drawing("catside")}),
        (set_of("window", vendor="fxemoji"), {}),
        (set_of("window"), {WINDOW: Drawing("window")}),
    ],
)
def test_icons_are_matched_by_code_points_and_names(icon_set, expected):
    assert EXCEPTIONS["fxemoji"]["cat"] == "🐱"
    assert match_icons(icon_set, EMOJI, known_names(EMOJI, [icon_set])) == expected


def test_a_set_with_code_points_lends_its_names():
    icon_set = set_of("mouser")
    lender = set_of("tabby", characters={CAT: "tabby"}, aliases={"mouser": {"parent": "tabby"}})
    assert match_icons(icon_set, EMOJI, known_names(EMOJI, [icon_set, lender])) == {CAT: Drawing("mouser")}


def render(body, *, mirrored=False, **sizes):
    icon_set = IconSet("noto", {}, {"icon": {"body": body, **sizes}}, {}, {}, SIZES)
    return np.asarray(render_icon(icon_set, "icon", mirrored=mirrored))


def test_a_drawing_is_laid_on_white_at_96_pixels_black_without_a_color_and_may_be_mirrored():
    pixels = render('<rect width="8" height="16" fill="#f00"/>')
    assert pixels.shape == (96, 96, 3)
    assert (pixels[:, :48] == [255, 0, 0]).all()
    assert (pixels[:, 48:] == 255).all()
    assert (render('<rect width="16" height="16" fill="currentColor"/>') == 0).all()
    body = '<path fill="#0a0" d="M0 0h8v4h-6v12h-2z"/>'
    assert np.array_equal(render(body, mirrored=True), render(body)[:, ::-1])


def test_the_size_of_an_icon_goes_before_that_of_its_set_and_what_is_not_square_is_centered():
    pixels = render('<rect x="2" y="4" width="32" height="16"/>', left=2, top=4, width=32, height=16)
    assert (pixels[24:72] == 0).all()
    assert (pixels[[*range(24), *range(72, 96)]] == 255).all()


@pytest.mark.parametrize("width", [0, -1, "16", float("nan"), float("inf")])
def test_a_size_that_is_none_is_an_error(width):
    with pytest.raises(ValueError, match="The drawing 'icon' of noto must have a positive size"):
        render("<g/>", width=width)


def svg(body):
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {names}>{body}</svg>"


def test_references_within_the_file_are_allowed():
    check_svg(svg("<path fill=\"url(#a)\" d='M0 0h1'/><path fill=\"url('#a')\" d='M0 0h1'/><use href='#a'/>"))
    check_svg(svg('<use xlink:href="#a"/><g style="filter:url(#a)"/>'))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<image href="/etc/passwd"/>', "shapes, gradients and filters only, but has .*image"),
        ("<script>1</script>", "but has .*script"),
        ("<style>@import 'x'</style>", "but has .*style"),
        ("<text>a</text>", "but has .*text"),
        ("<foreignObject/>", "but has .*foreignObject"),
        ('<g><g xmlns="http://www.w3.org/1999/xhtml"/></g>', "but has .*xhtml"),
        ('<use href="http://a/b.svg#c"/>', "only to parts of itself, but has href="),
        ('<use href=" #a"/>', "only to parts of itself"),
        ('<use xlink:href="data:image/svg+xml,x"/>', "only to parts of itself, but has .*href="),
        ('<path fill="URL( /a.svg#b)"/>', "only to parts of itself, but has fill="),
        ('<path style="fill:url(&quot;file:///a#b&quot;)"/>', "only to parts of itself, but has style="),
        ('<path style="fill:u\\72l(a)"/>', "only to parts of itself, but has style="),
        ('<!DOCTYPE a [<!ENTITY b "c">]>', "must be one element, but has a declaration"),
        ("<?a b?>", "must be one element, but has a declaration"),
        ("</svg><svg>", "must be XML, but is not"),
        ("<g>" * 64 + "</g>" * 64, "must nest at most 64 elements"),
        (" " * 2**20, "at most 1048576 characters"),
    ],
)
def test_what_could_reach_out_or_take_for_ever_is_refused(body, message):
    with pytest.raises(ValueError, match=message):
        check_svg(svg(body))
    with pytest.raises(ValueError, match=f"The drawing 'icon' of noto cannot be used: .*{message}"):
        render(body)


def test_a_drawing_that_repeats_itself_without_end_is_refused():
    groups = "".join(f'<g id="a{level}">{f"""<use href="#a{level - 1}"/>""" * 10}</g>' for level in range(1, 12))
    with pytest.raises(ValueError, match="The drawing 'icon' of noto cannot be used"):
        render(f'<defs><g id="a0"><rect width="1" height="1"/></g>{groups}</defs><use href="#a11"/>')
