import os
import sys

import emoji_packages
import pytest
from builders.npm_packages import write_package
from emoji_packages import PACKAGES, VENDORS, download_packages, package_path, read_icon_set, read_json

NOTO = "@iconify-json/noto"


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Put a program called npm in front of all others, which runs this Python code with the package as `package`."""

    def make(code):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "npm"
        program.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\npackage = sys.argv[2]\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return make


def test_the_file_of_a_package_is_called_as_npm_calls_it(tmp_path):
    assert package_path(tmp_path, NOTO).name == f"iconify-json-noto-{VENDORS['noto']}.tgz"
    assert package_path(tmp_path, "unicode-emoji-json").name == "unicode-emoji-json-0.9.0.tgz"


def test_an_icon_set_has_no_hidden_icons_and_no_aliases_of_them(tmp_path):
    icons = {"cat": {"body": "<g/>"}, "old": {"body": "<g/>", "hidden": True}}
    aliases = {"puss": {"parent": "cat"}, "older": {"parent": "old"}}
    files = {"icons.json": {"icons": icons, "aliases": aliases, "width": 36}, "info.json": {"name": "Noto"}}
    write_package(tmp_path, NOTO, files | {"chars.json": {"1f408": "cat"}})
    icon_set = read_icon_set(tmp_path, "noto")
    assert list(icon_set.icons) == ["cat"]
    assert icon_set.aliases == {"puss": {"parent": "cat"}}
    assert icon_set.sizes == {"left": 0, "top": 0, "width": 36, "height": 16}
    assert icon_set.characters == {"1f408": "cat"}


@pytest.mark.parametrize("icons", [[], {}, {"icons": []}, {"icons": {"cat": 1}}])
def test_a_package_that_is_no_icon_set_is_an_error_that_names_it(tmp_path, icons):
    write_package(tmp_path, NOTO, {"icons.json": icons, "info.json": {}, "chars.json": {}})
    with pytest.raises(ValueError, match=r"iconify-json-noto-.*\.tgz must be an icon set"):
        read_icon_set(tmp_path, "noto")


def test_a_missing_package_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"`packages_dir` must hold iconify-json-noto-.*\.tgz"):
        read_json(tmp_path, NOTO, "icons.json")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "a sound icons.json"),
        ({"icons.json": b"no json"}, "a sound icons.json"),
        ({"icons.json": b"[" + b"1," * 50 + b"1]"}, "must be a file of at most 64 bytes, but has 103"),
    ],
)
def test_a_damaged_or_huge_file_is_an_error(tmp_path, monkeypatch, files, message):
    monkeypatch.setattr(emoji_packages, "MAX_MEMBER_BYTES", 64)
    write_package(tmp_path, NOTO, files)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path, NOTO, "icons.json")


def test_a_package_that_is_cut_short_is_an_error(tmp_path):
    write_package(tmp_path, NOTO, {"icons.json": {"icons": {str(number): hash(str(number)) for number in range(99)}}})
    path = package_path(tmp_path, NOTO)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"must be a package with a sound icons\.json"):
        read_json(tmp_path, NOTO, "icons.json")


def test_every_package_is_fetched_in_its_version(tmp_path, fake_npm):
    fake_npm(
        "name = package.rpartition('@')[0].removeprefix('@').replace('/', '-')\n"
        "version = package.rpartition('@')[2]\n"
        "Path(sys.argv[-1], f'{name}-{version}.tgz').touch()"
    )
    download_packages(tmp_path)
    assert all(package_path(tmp_path, name).is_file() for name in PACKAGES)


def test_a_failed_download_names_the_package_and_the_reason(tmp_path, fake_npm):
    fake_npm("print('npm warn old', 'npm error code E404', sep='\\n', file=sys.stderr); sys.exit(1)")
    with pytest.raises(ValueError, match=r"must fetch @iconify-json/noto@1\.2\.9, but failed: npm error code E404$"):
        download_packages(tmp_path)


def test_a_download_that_hangs_is_an_error(tmp_path, fake_npm, monkeypatch):
    fake_npm("import time; time.sleep(60)")
    monkeypatch.setattr(emoji_packages, "DOWNLOAD_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"must fetch @iconify-json/noto@1\.2\.9, but did not in 0\.5 seconds"):
        download_packages(tmp_path)


def test_without_npm_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="`npm` must be on the PATH, to download the drawings, but is not"):
        download_packages(tmp_path)
