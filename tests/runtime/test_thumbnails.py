import base64
import io
import os

import PIL.Image
import pytest

from modeling_crh.runtime.html import Thumbnail, make_thumbnail, thumbnail_within


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    PIL.Image.new("RGB", (20, 10), "red").save(folder / "inner" / "red.png")
    PIL.Image.new("RGB", (600, 300), "blue").save(folder / "blue.png")
    PIL.Image.new("RGB", (20, 10), "green").save(tmp_path / "secret.png")
    return folder


def opened(thumbnail):
    return PIL.Image.open(io.BytesIO(base64.b64decode(thumbnail.uri.partition(",")[2])))


def test_a_small_picture_stays_as_it_is_and_a_large_one_becomes_small(root):
    small, large = make_thumbnail(root / "inner" / "red.png"), make_thumbnail(root / "blue.png")
    assert small.sharp
    assert not large.sharp
    assert opened(small).getpixel((0, 0)) == (255, 0, 0)
    assert opened(large).size == (200, 100)


def test_paths_within_the_root_are_shown_absolute_or_not_and_by_a_root_that_is_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    for folder in (root, tmp_path / "link"):
        for path in ("inner/red.png", str(root / "inner" / "red.png"), "inner/../blue.png"):
            assert thumbnail_within(folder, path).uri.startswith("data:image/")


OUT = "../secret.png inner/../../secret.png /etc/passwd out/secret.png out.png {root}/../secret.png {root}-2/a.png"


@pytest.mark.parametrize("path", OUT.split())
def test_whatever_leads_out_of_the_root_or_lies_beside_it_is_refused(root, tmp_path, path):
    (root / "out").symlink_to(tmp_path)
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "images-2").mkdir()
    thumbnail = thumbnail_within(root, path.format(root=root))
    assert (thumbnail.uri, thumbnail.fault) == ("", "outside of the image root")


def test_what_is_no_picture_is_named(root):
    assert thumbnail_within(root, None) == Thumbnail()
    (root / "text.png").write_text("no picture")
    os.mkfifo(root / "pipe.png")
    (root / "circle").symlink_to("circle")
    assert thumbnail_within(root, "text.png").fault == "cannot be read"
    others = ["pipe.png", "nowhere.png", "", "inner", "circle", "zero\0byte", "long" * 2000, "http://localhost/a.png"]
    assert {(one.uri, one.fault) for one in (thumbnail_within(root, path) for path in others)} == {("", "not there")}
