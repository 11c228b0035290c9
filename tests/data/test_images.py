import contextlib
import io

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image
from transformers import ViTImageProcessor

from modeling_crh.data.images import check_images, decode_image, without_decoding


def dataset_of(*values):
    return Dataset.from_dict({"image": list(values)}, features=Features({"image": Image()}))


def encode(image, image_format="PNG", **settings):
    file = io.BytesIO()
    image.save(file, image_format, **settings)
    return file.getvalue()


def bad_files(folder, write_image):
    """One file of each kind that a user's folder may hold."""
    whole = write_image(folder / "whole.jpg").read_bytes()
    (folder / "text.png").write_text("not an image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "short.jpg").write_bytes(whole[: len(whole) - 40])
    (folder / "header.jpg").write_bytes(whole[:200])
    return [folder / name for name in ("text.png", "empty.png", "short.jpg", "header.jpg")]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_decoded_as_the_image_processor_decodes_it(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels, "RGBA")
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    value = {"bytes": encode(image, "TIFF"), "path": None}
    processor = ViTImageProcessor(do_convert_rgb=True, do_resize=False)
    by_hand = processor(PIL.Image.open(io.BytesIO(value["bytes"])), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(processor(decode_image(value, "row 0"), return_tensors="pt")["pixel_values"][0], by_hand)


def test_transparency_is_laid_over_white():
    value = {"bytes": encode(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 0))), "path": None}
    assert decode_image(value, "row 0").unique().tolist() == [255]


def test_the_exif_orientation_is_applied():
    upright = PIL.Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4) * 30)
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise
    stored = upright.transpose(PIL.Image.Transpose.ROTATE_90)
    decoded = decode_image({"bytes": encode(stored, exif=exif), "path": None}, "row 0")
    assert torch.equal(decoded[0], torch.from_numpy(np.asarray(upright).copy()))


def test_good_images_pass_unchanged(tmp_path, write_image):
    dataset = dataset_of(*(str(write_image(tmp_path / f"{seed}.png", seed)) for seed in range(3)))
    checked, bad = check_images(dataset)
    assert checked is dataset
    assert bad == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "text.png is not: no known image format"),
        (1, "empty.png is not: no known image format"),
        (2, "short.jpg is not: .*truncated"),
        (3, "header.jpg is not: "),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path, write_image, number, message):
    dataset = dataset_of(str(write_image(tmp_path / "good.png")), str(bad_files(tmp_path, write_image)[number]))
    with pytest.raises(ValueError, match=f"`image` must be a complete image, but .*{message}"):
        check_images(dataset)
    with pytest.raises(ValueError, match=message):
        decode_image(without_decoding(dataset)[1]["image"], "row 1")


def test_bad_files_are_left_out_and_listed_where_asked_for(tmp_path, write_image):
    bad_paths = [str(path) for path in bad_files(tmp_path, write_image)]
    good = [str(write_image(tmp_path / f"{seed}.png", seed)) for seed in range(2)]
    checked, bad = check_images(dataset_of(good[0], *bad_paths, good[1]), skip_bad_images=True)
    assert [value["path"] for value in without_decoding(checked)["image"]] == good
    assert [image.path for image in bad] == bad_paths
    assert all(image.reason for image in bad)


def test_a_decompression_bomb_is_an_error(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 39)  # the image has 80
    path = write_image(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png is not: .*decompression bomb"):
        check_images(dataset_of(str(path)))


def test_an_image_without_a_file_is_named_by_its_row():
    good = encode(PIL.Image.new("RGB", (2, 2)))
    with pytest.raises(ValueError, match="row 1 is not: no known image format"):
        check_images(dataset_of(good, b"nothing"))
    with pytest.raises(ValueError, match="row 2 is not: it is missing"):
        check_images(dataset_of(good, good, None))


def test_no_image_that_can_be_decoded_is_an_error(tmp_path, write_image):
    with pytest.raises(ValueError, match="at least one image that can be decoded, but holds none of 4"):
        check_images(dataset_of(*map(str, bad_files(tmp_path, write_image))), skip_bad_images=True)


def test_rows_are_numbered_across_batches():
    good = encode(PIL.Image.new("RGB", (1, 1)))
    checked, bad = check_images(dataset_of(*[good] * 300, b"nothing", *[good] * 5), skip_bad_images=True)
    assert [image.path for image in bad] == ["row 300"]
    assert len(checked) == 305


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some of the damage first
def test_damaged_bytes_never_raise_anything_but_a_value_error():
    generator = np.random.default_rng(0)
    image = PIL.Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    for image_format in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encode(image, image_format)
        for _ in range(60):
            damaged = bytearray(whole[: generator.integers(1, len(whole))])
            damaged[generator.integers(len(damaged))] = generator.integers(256)
            with contextlib.suppress(ValueError):
                decode_image({"bytes": bytes(damaged), "path": None}, "row 0")
