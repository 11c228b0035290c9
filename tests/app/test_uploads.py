import base64

import numpy as np
import PIL.Image
import pytest
from tiny_data import image_bytes

from modeling_crh.app import finder
from modeling_crh.app.finder import MAX_BYTES, read_upload

PIXELS = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
NO_IMAGE = "This file is no image that can be read: it must be PNG, JPEG, WebP, GIF, AVIF or BMP."
IMAGE = PIL.Image.fromarray(PIXELS)


def encoded(image, kind="PNG", **settings):
    """An image as the page sends it."""
    return base64.b64encode(image_bytes(image, kind, **settings)).decode()


def sentence(content, size=None):
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_upload(content, size)
    (text,) = str(caught.value).splitlines()
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP", "GIF", "AVIF"])
def test_an_image_is_read_as_it_is(kind):
    pixels = read_upload(encoded(IMAGE, kind))
    assert pixels.shape == PIXELS.shape
    assert kind not in ("PNG", "BMP") or np.array_equal(pixels, PIXELS)


def test_a_turned_photograph_stands_upright_and_what_is_transparent_is_white():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = read_upload(encoded(IMAGE, "JPEG", exif=exif))
    assert turned.shape == (9, 8, 3)
    assert (read_upload(encoded(PIL.Image.new("RGBA", (2, 2)))) == 255).all()


@pytest.mark.parametrize("content", [None, 7, ["a"], {"path": "/etc/passwd"}, "/etc/passwd", "&&&&", "a", ""])
def test_what_is_no_content_is_no_image(content):
    assert sentence(content) in ("No image has arrived.", sentence("AAAA"))


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0"]
    + [image_bytes(IMAGE, kind) for kind in ("TIFF", "ICO", "PPM", "TGA", "PCX", "EPS")],
    ids=lambda data: str(data[:8]),
)
def test_what_is_no_image_or_of_a_kind_that_no_browser_shows_gets_one_sentence(data):
    assert sentence(base64.b64encode(data).decode()) == NO_IMAGE


def test_an_image_that_is_cut_short_gets_one_sentence():
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for kind in ("PNG", "JPEG"):
        content = image_bytes(noise, kind)
        cut = base64.b64encode(content[: len(content) // 2]).decode()
        assert sentence(cut) == "This image cannot be read: its file is damaged or not complete."


def test_too_many_bytes_are_not_decoded_whatever_is_said_of_them(monkeypatch):
    monkeypatch.setattr(finder.base64, "b64decode", lambda *_, **__: pytest.fail("it was decoded"))
    for content, size in ((None, MAX_BYTES + 1), ("A" * (MAX_BYTES * 4 // 3 + 4), None), ("A" * 20_000_000, 12)):
        assert sentence(content, size) == "An image may have 10 MB at most, but this file has more."


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_too_many_pixels_are_not_decoded(monkeypatch, side):
    content = encoded(PIL.Image.new("1", (side, side)))
    assert len(content) < 100_000
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    assert sentence(content).startswith("An image may have 50 million pixels at most")


def test_a_strip_that_a_processor_would_blow_up_is_not_decoded(monkeypatch):
    assert read_upload(encoded(PIL.Image.new("RGB", (20, 1)))).shape == (1, 20, 3)
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    for size in ((21, 1), (1, 5000), (400_000, 100)):
        assert "may be 20 times as long as it is wide at most" in sentence(encoded(PIL.Image.new("1", size)))
