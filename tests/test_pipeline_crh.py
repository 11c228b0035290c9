import base64
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Image
from tiny_inputs import CODE_FILES
from transformers import AutoImageProcessor, AutoTokenizer, BertModel, pipeline
from transformers.dynamic_module_utils import get_imports, get_relative_imports
from transformers.pipelines.pt_utils import KeyDataset

import modeling_crh
from modeling_crh import CRHModel, CRHPipeline
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.images import pixel_values

PACKAGE = Path(modeling_crh.__file__).parent


@pytest.fixture(scope="module")
def hashing(tiny_checkpoint):
    """The pipeline of the tiny ViT of 16 bits."""
    return pipeline("crh-hashing", model=str(tiny_checkpoint))


TEXTS = ["the cat sat on the mat", "a dog", "then the dog ran under a tree and slept", "cat", "a bird sang"]


@pytest.fixture
def images():
    """Five images of several sizes and modes."""
    generator = np.random.default_rng(0)
    shapes = [(16, 16), (20, 30), (9, 7), (16, 16), (40, 16)]
    pixels = [PIL.Image.fromarray(generator.integers(0, 256, (*shape, 4), dtype=np.uint8), "RGBA") for shape in shapes]
    return [image.convert(mode) for image, mode in zip(pixels, ["RGB", "RGBA", "L", "P", "RGB"], strict=True)]


@pytest.fixture
def paths(images, tmp_path):
    """The same five images as PNG files."""
    names = [str(tmp_path / f"{number}.png") for number in range(len(images))]
    for image, name in zip(images, names, strict=True):
        image.save(name)
    return names


def by_hand(folder, images):
    """Packed codes of images, each sent through image processor and model alone."""
    model, processor = CRHModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    logits = []
    for image in images:
        over_white = PIL.Image.new("RGBA", image.size, "white")
        over_white.alpha_composite(image.convert("RGBA"))
        logits.append(model(**processor(over_white.convert("RGB"), return_tensors="pt")).hash_logits)
    return pack_codes(binarize(torch.cat(logits))).numpy()


def codes_of(results):
    results = list(results)  # of a generator they come one by one
    assert all(list(result) == ["code"] for result in results)
    return np.stack([result["code"] for result in results])


def test_the_formats_hold_the_same_bits(hashing, images):
    packed, bits, digits = (hashing(images[1], code_format=name)["code"] for name in ("packed", "bits", "hex"))
    assert (packed.shape, packed.dtype) == ((2,), np.uint8)
    assert (bits.shape, bits.dtype) == ((16,), np.uint8)
    assert np.array_equal(np.packbits(bits), packed)
    assert digits == f"{packed[0]:02x}{packed[1]:02x}"
    assert np.array_equal(hashing(images[1])["code"], packed)


def test_the_codes_are_those_of_processor_and_model_called_by_hand(hashing, images, tiny_checkpoint):
    expected = by_hand(tiny_checkpoint, images)
    assert np.array_equal(codes_of(hashing(images)), expected)
    assert len(np.unique(expected, axis=0)) == len(images)


def test_a_single_image_of_any_kind_gives_a_single_dict(hashing, images, paths):
    expected = hashing(images)[2]["code"]
    content = Path(paths[2]).read_bytes()
    pixels = np.asarray(images[2].convert("RGB"))
    for source in (images[2], paths[2], Path(paths[2]), content, base64.b64encode(content).decode(), pixels):
        result = hashing(source)
        assert list(result) == ["code"]
        assert np.array_equal(result["code"], expected)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_way_to_hand_over_images_gives_the_same_codes_in_their_order(hashing, images, paths, batch_size):
    expected = codes_of(hashing(images))
    dataset = Dataset.from_dict({"image": paths, "name": paths}, features=None).cast_column("image", Image())
    ways = {
        "images": images,
        "paths": paths,
        "both in a tuple": (images[0], *paths[1:]),
        "generator": (path for path in paths),
        "KeyDataset": KeyDataset(dataset, "image"),
        "column": dataset["image"],
        "column of paths": dataset["name"],
    }
    assert len(hashing(images[:1])) == 1  # a list stays a list
    assert hashing([]) == []
    for name, way in ways.items():
        assert np.array_equal(codes_of(hashing(way, batch_size=batch_size)), expected), name


@pytest.mark.parametrize("height", [1, 3])
def test_an_image_as_high_as_there_are_colours_is_not_taken_for_channels(hashing, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, 40, 3), dtype=np.uint8)
    upright = pixel_values(hashing.image_processor, [torch.from_numpy(pixels).permute(2, 0, 1)])
    expected = pack_codes(hashing.model.encode(pixel_values=upright))[0]
    assert hashing(PIL.Image.fromarray(pixels))["code"].tolist() == expected.tolist()


def test_a_model_and_a_processor_may_be_given_loaded(hashing, images, tiny_checkpoint):
    model, processor = CRHModel.from_pretrained(tiny_checkpoint), AutoImageProcessor.from_pretrained(tiny_checkpoint)
    loaded = pipeline("crh-hashing", model=model, image_processor=processor, code_format="hex")
    assert isinstance(loaded, CRHPipeline)
    assert loaded(images) == hashing(images, code_format="hex")
    assert np.array_equal(loaded(images[0], code_format="packed")["code"], hashing(images[0])["code"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_agrees_on_most_bits(hashing, images, tiny_model, tiny_checkpoint, dtype):
    half = pipeline("crh-hashing", model=str(tiny_checkpoint), dtype=dtype)
    assert half.model.dtype == dtype
    bits, exact = (codes_of(pipe(images, code_format="bits")) for pipe in (half, hashing))
    assert (bits == exact).mean() > 0.9
    settings = {"model": tiny_model("resnet").to(dtype), "image_processor": hashing.image_processor}  # convolutions
    assert codes_of(pipeline("crh-hashing", **settings)(images)).shape == (5, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code_format": "binary"}, "`code_format` must be 'packed', 'bits' or 'hex', but got 'binary'"),
        ({"top_k": 3}, r"takes `batch_size`, `code_format` and `num_bits`, but got \['top_k'\]"),
    ],
)
def test_a_setting_that_does_not_exist_is_an_error(hashing, images, tiny_checkpoint, settings, message):
    with pytest.raises(ValueError, match=message):
        hashing(images[0], **settings)
    with pytest.raises(ValueError, match=message):
        pipeline("crh-hashing", model=str(tiny_checkpoint), **settings)


def test_an_image_that_cannot_be_read_is_an_error_that_names_it(hashing, paths, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for inputs, message in (
        ([paths[0], str(tmp_path / "text.png")], r"must be a complete image, but .*text\.png is not: no known image"),
        (str(tmp_path / "missing.png"), r"missing\.png is not: .*No such file"),
        (PIL.Image.new("RGB", (0, 0)), "is not: it has no pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            hashing(inputs)


@pytest.mark.parametrize("inputs", [None, 5, 1.5, bytearray(b"content"), {"image": "a.png"}, [[]]])
def test_what_is_no_image_is_an_error_that_shows_none_of_its_content(hashing, inputs):
    kind = type(inputs[0] if isinstance(inputs, list) else inputs).__name__
    with pytest.raises(ValueError, match=f"^`image` must be a path, a URL, .* or an array, but got {kind}\\.$"):
        hashing(inputs)


def test_texts_have_the_codes_of_tokenizer_and_model_called_by_hand(text_checkpoint):
    model, tokenizer = CRHModel.from_pretrained(text_checkpoint), AutoTokenizer.from_pretrained(text_checkpoint)
    logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).hash_logits for text in TEXTS])
    expected = pack_codes(binarize(logits)).numpy()
    assert len(np.unique(expected, axis=0)) == len(TEXTS)
    hashing = pipeline("crh-hashing", model=str(text_checkpoint))
    for batch_size in (1, 2, 5):  # with padding from 2 on
        assert np.array_equal(codes_of(hashing(TEXTS, batch_size=batch_size)), expected)
    assert np.array_equal(hashing(TEXTS[2])["code"], expected[2])
    assert np.array_equal(codes_of(hashing((text for text in TEXTS), batch_size=3)), expected)


def test_a_saved_pipeline_of_texts_comes_back_the_same_and_cuts_what_is_too_long(text_checkpoint, tmp_path):
    hashing = pipeline("crh-hashing", model=str(text_checkpoint), code_format="hex")
    hashing.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}
    assert pipeline("crh-hashing", model=str(tmp_path), code_format="hex")(TEXTS) == hashing(TEXTS)
    assert hashing("cat " * 100) == hashing("cat " * 32)


@pytest.mark.parametrize("inputs", [None, 5, "", " ", [["cat"]], b"cat", PIL.Image.new("RGB", (4, 4))])
def test_what_is_no_text_is_an_error(text_checkpoint, inputs):
    with pytest.raises(ValueError, match="`text` must be a string that is not empty, but got"):
        pipeline("crh-hashing", model=str(text_checkpoint))(inputs)


def test_a_local_checkpoint_is_loaded_without_a_word_to_a_server_or_to_the_user(tiny_checkpoint, monkeypatch, caplog):
    for name in ("socket.socket.connect", "socket.getaddrinfo"):
        monkeypatch.setattr(name, Mock(side_effect=AssertionError("a server was asked")))
    assert pipeline("crh-hashing", model=str(tiny_checkpoint)).tokenizer is None
    assert caplog.records == []


def test_a_model_that_the_pipeline_cannot_run_is_an_error(tiny_model, tiny_backbone, tmp_path):
    with pytest.raises(ValueError, match="`model` must be a CRHModel, but got BertModel"):
        pipeline("crh-hashing", model=BertModel(tiny_backbone("bert")))
    with pytest.raises(ValueError, match="`model` must be a CRHModel, but got str"):
        CRHPipeline("org/name")
    with pytest.raises(ValueError, match="`model` must read images, sounds or texts, but reads `features`"):
        pipeline("crh-hashing", model=tiny_model(None))
    for backbone, missing in [("vit", "image_processor"), ("bert", "tokenizer")]:
        tiny_model(backbone).save_pretrained(tmp_path / backbone)
        with pytest.raises(ValueError, match=f"`{missing}` must be given, or saved with the model, but is missing"):
            pipeline("crh-hashing", model=str(tmp_path / backbone))


def test_a_saved_pipeline_comes_back_the_same_with_its_code_beside_it(hashing, images, tmp_path):
    hashing.save_pretrained(tmp_path)
    names = {"config.json", "model.safetensors", "preprocessor_config.json", *CODE_FILES}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in CODE_FILES:
        source = (PACKAGE / name).read_text()
        assert (tmp_path / name).read_text() == source
        assert "modeling_crh" not in get_imports(PACKAGE / name), name
        assert {f"{found}.py" for found in get_relative_imports(PACKAGE / name)} <= set(CODE_FILES), name
    for task in ("crh-hashing", None):  # in the package without trust, and without the name of the task
        loaded = pipeline(task, model=str(tmp_path))
        assert type(loaded) is CRHPipeline
        assert np.array_equal(codes_of(loaded(images)), codes_of(hashing(images)))


def test_without_a_model_the_one_that_ships_is_used():
    hashing = pipeline("crh-hashing")
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8))
    assert hashing.model.config.num_bits == 64
    assert hashing(image)["code"].shape == (8,)
