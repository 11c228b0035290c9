"""What fuzzing has found, one case each."""

import hashlib
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
from huggingface_hub.errors import StrictDataclassError
from tiny_data import image_bytes

from modeling_crh import CRHConfig
from modeling_crh.images import UnreadableImageError, read_image, read_pixels
from modeling_crh.search import HammingIndex
from modeling_crh.training.recipe import Recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id2label": 3}, "id2label.* 3"),
        ({"label2id": "x"}, "label2id.* 'x'"),
        ({"id2label": {"0": "a", "2x": "b"}}, r"`id2label` must have the keys 0 to C-1, but got \['0', '2x'\]"),
        ({"id2label": {0: "a", 2: "b"}}, r"`id2label` must have the keys 0 to C-1, but got \[0, 2\]"),
        ({"backbone_config": {"model_type": ["vit"]}, "num_features": None}, "must have a `model_type`"),
    ],
)
def test_a_config_that_names_its_classes_in_another_way_is_an_error(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):  # transformers 5.5 checks types itself
        CRHConfig(**{"backbone_config": None, "num_features": 4} | fields)


def test_names_of_classes_come_in_the_order_of_their_ids():
    names = {"1": "b", "10": "k", **{str(label): "x" for label in range(2, 10)}, "0": "a"}
    config = CRHConfig(backbone_config=None, num_features=4, id2label=names)
    assert list(config.id2label.values()) == ["a", "b", *["x"] * 8, "k"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_labels": 10**12}, r"`num_labels` must be .* at most 10000000, but got 1000000000000"),
        ({"num_labels": 3, "num_bits": 10**12, "head_dim": 10**12 - 1}, "`head_dim` must divide"),
    ],
)
def test_very_many_classes_or_bits_are_refused_at_once(fields, message):
    with pytest.raises(ValueError, match=message):
        CRHConfig(backbone_config=None, num_features=4, **fields)
    config = CRHConfig(backbone_config=None, num_features=4, num_labels=3, num_bits=10**12, head_dim=10**12)
    assert config.num_heads == 1


MANY = [f"  a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 10)}]" for row in range(1, 9)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: x\nmodel: &a {b: *a}", "a recipe holds at most 10000 values"),
        ("\n".join(["dataset: x", "model:", "  a0: &a0 [x, x]", *MANY]), "a recipe holds at most 10000 values"),
        ("\n".join(["dataset: x", "model:", "  0: &a0 [x, x]", *MANY]), "a recipe holds at most 10000 values"),
        ("[" * 5000, "`recipe` must be a readable YAML file"),
        ("dataset: 2026-13-45", "`recipe` must be a readable YAML file"),
    ],
)
def test_yaml_that_has_no_end_is_refused(text, message, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Recipe.load(tmp_path / "recipe.yaml")


def test_an_index_whose_header_names_an_endless_part_is_refused(tmp_path):
    path = tmp_path / "index.crh"
    HammingIndex(np.zeros((3, 1), np.uint8)).save(path)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 44)
    for text in (content[48 : 48 + length].replace(b'"codes": 3', b'"codes": 1' + 30 * b"0"), b"[" * 100_000):
        body = struct.pack("<I", len(text)) + text + content[48 + length :]
        path.write_bytes(content[:12] + hashlib.sha256(body).digest() + body)
        with pytest.raises(ValueError, match=r"`path` must be an index, but the header of .* is wrong"):
            HammingIndex.load(path)


def claiming(kind, width, height):
    """A file of 4 x 4 pixels that says it has others."""
    data = bytearray(image_bytes(PIL.Image.new("RGBA" if kind == "WEBP" else "L", (4, 4)), kind, lossless=True))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    else:
        assert data[12:16] == b"VP8L"
        data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("side", [16_000, 10_000, 4_097])  # only the first are too many for Pillow
def test_a_small_file_that_claims_very_many_pixels_is_refused_before_they_are_made(kind, side, tmp_path, monkeypatch):
    content = claiming(kind, side, side)
    (tmp_path / "bomb").write_bytes(content)
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda image: pytest.fail("its pixels are made"))
    with pytest.raises(ValueError, match=r" is not: "):
        read_image(tmp_path / "bomb")
    for value in ({"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "bomb")}):
        with pytest.raises(ValueError, match=r" is not: "):
            read_pixels(value, "row 0")


def test_a_white_image_is_none_that_claims_too_much(tmp_path):
    PIL.Image.new("1", (4200, 4200), 1).save(tmp_path / "white.png", optimize=True)
    assert read_image(tmp_path / "white.png").shape == (4200, 4200, 3)


def test_an_avif_image_that_does_not_decode_is_refused():
    generator = np.random.default_rng(0)
    file = image_bytes(PIL.Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "AVIF")
    refused = []
    for place, byte in zip(generator.integers(0, 500, 300), generator.integers(0, 256, 300), strict=True):
        content = bytearray(file)
        content[place] = byte
        try:
            read_image(bytes(content))
        except UnreadableImageError as error:
            refused.append(error.reason)
    assert any("Failed to decode" in reason for reason in refused)
