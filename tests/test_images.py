import base64
import pickle

import numpy as np
import PIL.Image
import pytest
from transformers import CLIPImageProcessor

from modeling_crh.images import UnreadableImageError, needed_side, read_image, to_rgb


@pytest.fixture
def write(tmp_path):
    """Save an image in the format of its name, and give its path."""

    def save(image, name, **settings):
        path = tmp_path / name
        image.save(path, **settings)
        return path

    return save


def random_image(mode="RGB", size=(5, 4)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return PIL.Image.fromarray(pixels, "RGBA").convert(mode)


def test_pixels_come_as_rows_of_rgb():
    image = PIL.Image.new("RGB", (3, 2))
    image.putpixel((2, 1), (10, 20, 30))
    pixels = read_image(image)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 3), np.uint8)
    assert pixels[1, 2].tolist() == [10, 20, 30]
    assert pixels.sum() == 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_read_upright(write, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, 16:] = 255  # white in the upper right quarter
    turn = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    turn |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # what the camera did, against the clock
    stored = PIL.Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(PIL.Image.Transpose[turn[orientation]])
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = orientation
    pixels = read_image(write(stored, "photo.jpg", quality=95, exif=exif))
    assert np.array_equal(pixels > 127, upright > 127)


def transparent_image():
    image = PIL.Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # a fifth of black
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (transparent_image(), [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]),
        (random_image("L"), np.repeat(np.asarray(random_image("L"))[:, :, None], 3, axis=2)),
        (random_image("RGB"), np.asarray(random_image("RGB"))),
    ],
    ids=["transparency is laid over white", "gray is the same in every channel", "colours"],
)
def test_an_image_is_read_alike_from_memory_and_from_its_file(image, expected, write):
    path = write(image, "image.png")
    for source in (image, path, str(path), PIL.Image.open(path), path.read_bytes()):
        assert np.array_equal(read_image(source), expected)


def test_a_palette_is_looked_up_and_its_transparent_colour_is_white(write):
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read_image(write(image, "palette.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read_image(write(image, "hole.png", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    image = random_image("P")
    assert image.palette.mode == "RGBA"
    assert np.array_equal(read_image(image), read_image(write(image, "random.png")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_has_three_channels(mode):
    assert read_image(random_image(mode)).shape == (4, 5, 3)


def test_a_url_is_read_even_where_it_has_moved_and_what_the_server_does_not_have_is_an_error(write, server):
    image = random_image()
    page = write(image, "image.png").with_name("page.html")
    for address in (f"{server.url}/image.png", f"{server.url}/moved/image.png"):
        assert np.array_equal(read_image(address), np.asarray(image))
    with pytest.raises(ValueError, match=r"`image` must be .* but http://.*/no\.png is not: the server answered 404"):
        read_image(f"{server.url}/no.png")
    page.write_text("<html></html>")
    with pytest.raises(ValueError, match=r"page\.html is not: no known image format"):
        read_image(f"{server.url}/page.html")


@pytest.mark.parametrize("address", ["http://", "http://127.0.0.1:1/x.png", "http://127.0.0.1:port/x.png"])
def test_a_server_that_cannot_be_reached_is_an_error(server, address):
    with pytest.raises(ValueError, match=f"but {address} is not: the server could not be reached: "):
        read_image(address)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp"])
def test_a_file_that_is_cut_short_is_an_error(write, suffix):
    path = write(random_image(size=(40, 40)), f"short.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"`image` must be a complete image, but .*short\.{suffix} is not: \w"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "No such file or directory"),
        ("a.png", b"", "no known image format"),
        ("a.png", b"just text", "no known image format"),
        ("a.png", b"\x89PNG\r\n\x1a\n", ""),
        (".", None, "it is a folder"),
        ("a\0.png", None, ""),
        ("x" * 300, None, ""),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_image_is_an_error(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for source in (path, str(path)):
        with pytest.raises(
            UnreadableImageError, match=f"^`image` must be a complete image, but .* is not: .*{message}"
        ):
            read_image(source)


@pytest.mark.parametrize("name", ["file:///no/such.png", "abc://x.png", "x" * 100_000], ids=["file", "scheme", "long"])
def test_a_name_that_leads_nowhere_is_an_error_which_is_short(name):
    with pytest.raises(UnreadableImageError, match="`image` must be a complete image") as raised:
        read_image(name)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("source", [None, 5, 1.5, [b"bytes"], {"bytes": b""}, bytearray(b"x")])
def test_another_kind_of_source_is_an_error_that_shows_none_of_its_content(source):
    kinds = "a path, a URL, bytes, base64 text, a PIL image or an array"
    with pytest.raises(ValueError, match=f"^`image` must be {kinds}, but got {type(source).__name__}\\.$"):
        read_image(source)


def test_base64_and_arrays_are_images_too(write):
    image = random_image(size=(9, 8))
    text, pixels = base64.b64encode(write(image, "image.png").read_bytes()).decode(), np.asarray(image)
    for source in (text, f"data:image/png;base64,{text}", "\n".join([text[:76], text[76:]]), pixels):
        assert np.array_equal(read_image(source), pixels)
    gray = np.asarray(random_image("L", (9, 8)))
    for source in (gray, gray[None], gray[:, :, None]):
        assert np.array_equal(read_image(source), np.repeat(gray[:, :, None], 3, axis=2))
    for text in ("data:image/png;base64,%%%", "iVBOR" * 20):
        with pytest.raises(ValueError, match=r"base64 text is damaged|no known image format"):
            read_image(text)
    for shape in ((4,), (2, 2, 2, 3), (5, 4, 2), (0, 4, 3)):
        with pytest.raises(ValueError, match=r"`image` must be \(H, W\), \(H, W, C\) or .* pixels, but got shape"):
            read_image(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="`image` must hold numbers, but got <U1"):
        read_image(np.array([["a"]]))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.uint32, np.float16, np.float64]
)
@pytest.mark.parametrize("white", [1.0, 255, 65535])
def test_every_kind_of_number_gives_the_pixels_of_eight_bits(write, dtype, white):
    ramp = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (4, 1))
    kind = np.dtype(dtype).kind
    top = white if kind == "f" else np.iinfo(dtype).max
    if (kind != "f" and white == 1) or top < white or (dtype, white) in ((np.uint16, 255), (np.float16, 65535)):
        return
    pixels = (ramp.astype(np.float64) * (white / 255)).astype(dtype)
    assert np.abs(read_image(pixels)[:, :, 0].astype(int) - ramp).max() <= 1
    if dtype == np.uint16:
        saved = PIL.Image.fromarray(pixels)
        for name in ("16.png", "16.tiff"):
            assert np.array_equal(read_image(write(saved, name))[:, :, 0], ramp)
    if dtype in (np.int32, np.float64) and white != 255:
        saved = PIL.Image.fromarray(pixels.astype({np.int32: np.int32, np.float64: np.float32}[dtype]))
        assert np.abs(read_image(write(saved, "saved.tiff"))[:, :, 0].astype(int) - ramp).max() <= 1


@pytest.mark.parametrize("pixels", [[[-1.0, 0.5]], [[float("nan"), 0.5]], [[float("inf"), 0.5]]])
def test_pixels_that_are_no_brightness_are_an_error(pixels):
    with pytest.raises(UnreadableImageError, match="its pixels must be finite and not negative"):
        read_image(np.array(pixels))


def test_photos_of_phones_are_read_and_documents_are_not(write, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image = PIL.Image.new("RGB", (64, 48), (200, 30, 60))
    pixels = read_image(write(image, "photo.heic", quality=95))
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - [200, 30, 60]).max() < 8
    for kind in ("pdf", "eps"):
        with pytest.raises(UnreadableImageError, match="no known image format"):
            read_image(write(image, f"paper.{kind}"))


def test_an_error_is_the_same_when_another_process_has_raised_it():
    error = UnreadableImageError("its end is missing", "a.png")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == (str(error), "its end is missing")


@pytest.mark.parametrize("size", [(0, 0), (0, 3), (3, 0)])
def test_an_image_without_pixels_is_an_error(size):
    with pytest.raises(ValueError, match=f"is not: it has no pixels: its size is {size[0]} x {size[1]}"):
        read_image(PIL.Image.new("RGB", size))


def test_an_image_of_too_many_pixels_is_an_error(write, monkeypatch):
    path = write(random_image(), "bomb.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 9)  # the image has 20
    with pytest.raises(ValueError, match=r"bomb\.png is not: .*decompression bomb"):
        read_image(path)


@pytest.fixture
def photo(tmp_path):
    """A JPEG file of 1200 x 800 pixels, lying on its side."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels).resize((1200, 800), PIL.Image.Resampling.BICUBIC)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    return tmp_path / "photo.jpg"


@pytest.mark.parametrize(("least", "scale"), [(None, 1), (801, 1), (400, 2), (399, 2), (200, 4), (32, 8), (1, 8)])
def test_a_large_jpeg_is_decoded_at_the_scale_that_is_needed(least, scale, photo):
    whole, small = read_image(photo), read_image(photo, least)
    assert small.shape == (1200 // scale, 800 // scale, 3)
    expected = np.asarray(PIL.Image.fromarray(whole).reduce(scale), np.int16)
    assert np.abs(small.astype(np.int16) - expected).mean() < 2
    for source in (str(photo), photo.read_bytes(), PIL.Image.open(photo)):
        np.testing.assert_array_equal(read_image(source, least), small)


def test_an_opened_jpeg_is_left_as_it_was(photo):
    image = PIL.Image.open(photo)
    read_image(image, 100)
    assert image.size == (1200, 800)
    np.testing.assert_array_equal(to_rgb(image), read_image(photo))
    assert read_image(image, 100).shape == (1200, 800, 3)  # all of it has been decoded


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"size": {"height": 20, "width": 30}}, 60),
        ({"size": {"shortest_edge": 224}}, 448),
        ({"size": {"shortest_edge": 224, "longest_edge": 500}}, None),
        ({"size": {"shortest_edge": 224}, "do_resize": False}, None),
    ],
)
def test_a_processor_needs_twice_the_side_that_it_resizes_to(settings, side):
    assert needed_side(CLIPImageProcessor(**settings)) == side
