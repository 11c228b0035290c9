import base64

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import pipeline

from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import BadRow, Row, open_source, prepare_dataset
from modeling_crh.encoding import Encoder, ImageDataset, encode_items, encode_source, run_batches
from modeling_crh.encoding.inputs import input_batches
from modeling_crh.images import needed_side, read_image


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint):
    return Encoder.load(tiny_checkpoint, batch_size=3, num_workers=0)


@pytest.fixture
def files(tmp_path):
    """Seven images of several sizes and modes; the last RGB one is a large JPEG."""
    generator = np.random.default_rng(0)
    paths = []
    for number, mode in enumerate(["RGB", "L", "RGBA", "P", "CMYK", "RGB", "1"]):
        pixels = generator.integers(0, 256, (12 + number, 20, 3), dtype=np.uint8)
        image = PIL.Image.fromarray(pixels).convert(mode)
        image = image.resize((400, 300)) if number == 5 else image
        paths.append(tmp_path / "photos" / f"{number}.{'jpg' if mode == 'CMYK' or number == 5 else 'png'}")
        paths[-1].parent.mkdir(exist_ok=True)
        image.save(paths[-1])
    return paths


@pytest.fixture
def items(encoder, files):
    """The images as a dataset with labels, one of them missing."""
    rows = {"image": list(map(str, files)), "label": ["b", "a", None] * 2 + ["a"]}
    return ImageDataset(prepare_dataset(Dataset.from_dict(rows)), encoder.processor)


def inputs_by_hand(encoder, files):
    pixels = [read_image(file, needed_side(encoder.processor)) for file in files]
    return torch.cat([encoder.processor(image, return_tensors="pt")["pixel_values"] for image in pixels])


def by_hand(encoder, files):
    with torch.no_grad():
        return encoder.model(pixel_values=inputs_by_hand(encoder, files)).hash_logits


def code_rows(encoder, files, folder, **settings):
    encoded = encode_source(encoder, open_source(files[0].parent), folder, model_name="m", **settings)
    return np.stack([np.frombuffer(row, np.uint8) for row in pq.read_table(encoded.folder)["code"].to_pylist()])


def test_every_path_from_images_to_codes_gives_the_same_codes(encoder, files, items, tmp_path, tiny_checkpoint):
    expected = pack_codes(binarize(by_hand(encoder, files))).numpy()
    assert len({code.tobytes() for code in expected}) > 4
    assert np.array_equal(encoder.packed(files), expected)
    for number, (batch_size, workers) in enumerate([(1, 0), (64, 0), (2, 2), (3, 1)]):
        other = Encoder.load(tiny_checkpoint, batch_size=batch_size, num_workers=workers)
        assert np.array_equal(other.packed(files), expected)
        assert np.array_equal(code_rows(other, files, tmp_path / f"codes {number}", shard_size=4), expected)
    for batch_size, workers in [(2, 0), (7, 0), (3, 1)]:
        encoded = encode_items(encoder.model, items, batch_size=batch_size, num_workers=workers)
        assert np.array_equal(pack_codes(encoded.codes).numpy(), expected)
        assert (encoded.labels.tolist(), encoded.label_names) == ([1, 0, -100, 1, 0, -100, 0], ["a", "b"])
    hashing = pipeline("crh-hashing", model=str(tiny_checkpoint), batch_size=3, code_format="packed")
    assert np.array_equal([output["code"] for output in hashing(list(map(str, files)))], expected)


def test_an_image_is_the_same_from_a_path_bytes_base64_an_array_and_pillow(encoder, files):
    pixels = read_image(files[0])
    text = base64.b64encode(files[0].read_bytes()).decode()
    sources = [files[0], str(files[0]), files[0].read_bytes(), text, f"data:image/png;base64,{text}", pixels]
    sources += [PIL.Image.open(files[0]), pixels.transpose(2, 0, 1)]
    sources += [pixels.astype(np.float32) / 255, pixels.astype(int)]
    codes = encoder.packed(sources)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, np.repeat(codes[:1], len(sources), axis=0))


def test_hash_logits_are_float32_on_the_cpu_and_none_for_no_items(encoder, files):
    logits = encoder.hash_logits(files)
    assert (logits.shape, logits.dtype, logits.device.type) == ((7, 16), torch.float32, "cpu")
    assert torch.allclose(logits, by_hand(encoder, files), atol=1e-5)
    assert encoder.hash_logits([]).shape == (0, 16)
    assert encoder.packed([]).shape == (0, 2)
    assert (encoder.reads, encoder.num_bits) == ("image", 16)


def test_texts_and_features_are_encoded_too(text_checkpoint, tiny_model):
    texts = Encoder.load(text_checkpoint, batch_size=2)
    found = texts.hash_logits(["the cat sat", "a dog ran under the tree", "cat"])
    assert (texts.reads, found.shape) == ("text", (3, 64))
    with torch.no_grad():
        by_hand = texts.model(**texts.processor(["cat"], return_tensors="pt")).hash_logits
    assert torch.allclose(found[2:], by_hand, atol=1e-5)
    features = Encoder(tiny_model(None), None, batch_size=5)
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with torch.no_grad():
        expected = features.model(features=torch.from_numpy(values)).hash_logits
    for items in (values, values.tolist(), torch.from_numpy(values), np.stack([values, -values], axis=1)):
        assert torch.equal(features.hash_logits(items), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("reads", "items", "message"),
    [
        ("image", [np.zeros((4, 4), np.uint8)] * 3 + [b"no image"], "item 3 is not: no known image format.$"),
        ("image", ["/no/such.png"], "/no/such.png is not: No such file or directory.$"),
        ("image", [None], "item 0 is not: it is missing.$"),
        ("image", [5], "`image` must be a path, a URL, bytes, .*, but got int"),
        ("image", [np.zeros(4)], r"`image` must be \(H, W\), \(H, W, C\) or \(C, H, W\) pixels, but got shape \(4,\)"),
        ("image", "photo.png", "`items` must be a list, but got one str: put it into a list"),
        ("text", ["the cat", " "], "item 1 is not: its text is empty.$"),
        ("text", [b"the cat"], "`text` must be a string, but item 0 has b'the cat'"),
        ("features", [[1.0, 2, 3, float("nan")]], "item 0 is not: its features are not finite.$"),
        ("features", [[1.0], [1.0, 2.0]], r"`features` must hold as many numbers in every row, but hold \[1, 2\]"),
        ("features", [["x"]], "`features` must hold numbers of one shape, but item 0 does not"),
        ("features", [[]], r"`features` must hold \(F,\) or \(V, F\) numbers a row, but item 0 has \(0,\)"),
    ],
)
def test_an_item_that_cannot_be_encoded_is_named(
    reads, items, message, num_workers, tiny_checkpoint, text_checkpoint, tiny_model
):
    settings = {"batch_size": 1, "num_workers": num_workers}
    make = {
        "image": lambda: Encoder.load(tiny_checkpoint, **settings),
        "text": lambda: Encoder.load(text_checkpoint, **settings),
        "features": lambda: Encoder(tiny_model(None), None, batch_size=2, num_workers=num_workers),
    }
    with pytest.raises(ValueError, match=message):
        make[reads]().hash_logits(items)


def test_a_failure_of_the_machine_is_not_a_bad_item(encoder, files, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    with pytest.raises(PermissionError, match=r"0\.png"):
        encoder.hash_logits(files)
    batches = encoder.batches([(0, open_source(files[0].parent).rows())], skip_bad=True)
    with pytest.raises(PermissionError, match=r"0\.png"):
        encoder.batch_logits(next(batches))


def test_a_batch_is_of_one_shard_and_bad_rows_are_left_out_of_it(encoder, files):
    contents = [file.read_bytes() for file in files]
    contents[1:1] = [b"nothing"]
    contents[6:6] = [b"nothing", contents[0][:60]]
    rows = [Row(number, f"row {number}", "a", {"bytes": each, "path": None}) for number, each in enumerate(contents)]
    for workers in (0, 2):
        shards = [(4, iter(rows[:5])), (7, iter(rows[5:]))]
        settings = {"batch_size": 2, "num_workers": workers, "skip_bad": True}
        batches = list(input_batches(shards, "image", encoder.processor, **settings))
        assert [batch.shard for batch in batches] == [4, 4, 4, 7, 7, 7]
        assert [[row.id for row in batch.rows] for batch in batches] == [[0], [2, 3], [4], [5], [8], [9]]
        assert [[number for number, _ in batch.left_out] for batch in batches] == [[1], [], [], [6], [7], []]
        assert batches[0].left_out[0][1].reason == "no known image format"
        assert batches[0].rows[0] == rows[0]._replace(value=None)
        kept = torch.cat([batch.inputs["pixel_values"] for batch in batches])
        assert torch.equal(kept, inputs_by_hand(encoder, files))


def test_a_batch_of_bad_rows_alone_has_no_inputs(encoder):
    rows = [Row(0, "row 0", None, None), Row(1, "row 1", None, {"bytes": None, "path": None})]
    (batch,) = input_batches([(0, iter(rows))], "image", encoder.processor, batch_size=2, skip_bad=True)
    assert (batch.rows, batch.inputs) == ([], {})
    assert [bad for _, bad in batch.left_out] == [BadRow(f"row {row}", "it is missing") for row in range(2)]
    assert encoder.batch_logits(batch).shape == (0, 16)


def test_outputs_of_batches_are_what_a_function_makes_of_the_inputs(encoder, items):
    means = run_batches(encoder.model, DataLoader(items, batch_size=3), lambda pixel_values: pixel_values.double())
    assert [(len(batch), batch.dtype) for batch in means] == [(size, torch.float32) for size in (3, 3, 1)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_encodes_too(telling_model, encoder, files, items, dtype):
    half = Encoder(telling_model().to(dtype), encoder.processor)
    assert half.hash_logits(files).dtype == torch.float32
    assert encode_items(half.model, items).codes.dtype == torch.int8


def test_a_model_in_training_mode_encodes_without_dropout(telling_model, encoder, files):
    model = telling_model().train()
    assert torch.equal(Encoder(model, encoder.processor, batch_size=3).hash_logits(files), encoder.hash_logits(files))
