import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from transformers import ViTImageProcessor

from modeling_crh import encoding
from modeling_crh.codes import binarize, pack_codes, unpack_codes
from modeling_crh.data import ImageDataset
from modeling_crh.data.columns import canonical_features
from modeling_crh.encoding import CODES_NAME, encode_batches, encode_items, write_codes

PROCESSOR = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)
PATHS = [f"images/{number}.png" for number in range(7)]
SINGLE = [2, 0, 1, 1, 0, 2, 2]
MULTI = [[0, 2], [], [1], [2, 1, 0], [0], [1], [2]]


@pytest.fixture
def make_images():
    """Seven seeded images with the given labels and names of classes."""

    def make(labels, names=("ant", "bee", "cow"), multi_label=False):
        pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
        features = canonical_features(list(names), multi_label=multi_label)
        columns = {"image": [PIL.Image.fromarray(image) for image in pixels], "label": labels}
        return ImageDataset(Dataset.from_dict(columns, features=features), PROCESSOR)

    return make


@pytest.fixture
def model(telling_model):
    """A ViT of 16 bits."""
    return telling_model()


def by_hand(model, images):
    pixels = torch.stack([sample["pixel_values"] for sample in images])
    with torch.no_grad():
        return binarize(model(pixel_values=pixels).hash_logits)


def test_codes_are_those_of_the_model(model, make_images):
    images = make_images(SINGLE)
    encoded = encode_items(model, images)
    assert encoded.codes.dtype == torch.int8
    assert torch.equal(encoded.codes, by_hand(model, images))
    assert len(encoded.codes.unique(dim=0)) == 7
    assert torch.equal(encoded.labels, torch.tensor(SINGLE))
    assert encoded.label_names == ["ant", "bee", "cow"]


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (256, [7])])
def test_batches_come_in_the_order_of_the_images(model, make_images, batch_size, sizes):
    images = make_images(SINGLE)
    batches = list(encode_batches(model.train(), images, batch_size=batch_size))
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), by_hand(model.eval(), images))


def test_a_worker_process_decodes_the_same(model, make_images):
    images = make_images(SINGLE)
    parallel = encode_items(model, images, batch_size=2, num_workers=1)
    assert torch.equal(parallel.codes, encode_items(model, images, batch_size=2).codes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_encodes_too(model, make_images, dtype):
    codes = encode_items(model.to(dtype), make_images(SINGLE)).codes
    assert (codes.shape, codes.dtype) == ((7, 16), torch.int8)


@pytest.mark.parametrize("batch_size", [3, 256])
def test_the_file_holds_id_path_code_and_label_in_their_order(model, make_images, tmp_path, batch_size):
    images = make_images(SINGLE)
    path = write_codes(model, images, PATHS, tmp_path / "out", model_name="org/tiny", batch_size=batch_size)
    assert path == tmp_path / "out" / CODES_NAME
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == pa.schema(
        [("id", pa.int64()), ("path", pa.string()), ("code", pa.binary(2)), ("label", pa.string())]
    )
    assert table.schema.metadata == {b"model": b"org/tiny", b"num_bits": b"16"}
    assert table["id"].to_pylist() == list(range(7))
    assert table["path"].to_pylist() == PATHS
    assert table["label"].to_pylist() == ["cow", "ant", "bee", "bee", "ant", "cow", "cow"]
    packed = np.frombuffer(b"".join(table["code"].to_pylist()), np.uint8).reshape(7, 2)
    assert np.array_equal(packed, pack_codes(by_hand(model, images)).numpy())
    assert torch.equal(unpack_codes(torch.tensor(packed)), by_hand(model, images))
    assert [file.name for file in path.parent.iterdir()] == [CODES_NAME]


def test_several_labels_are_a_list_of_names(model, make_images, tmp_path):
    path = write_codes(model, make_images(MULTI, multi_label=True), PATHS, tmp_path, model_name="m", batch_size=2)
    table = pq.read_table(path)
    assert table.schema.field("label").type == pa.list_(pa.string())
    names = ["ant", "bee", "cow"]
    assert table["label"].to_pylist() == [[names[label] for label in sorted(row)] for row in MULTI]


def test_without_classes_there_is_no_label_column(model, make_images, tmp_path):
    images = make_images([[]] * 7, names=[], multi_label=True)
    table = pq.read_table(write_codes(model, images, PATHS, tmp_path, model_name="m"))
    assert table.column_names == ["id", "path", "code"]
    assert table.num_rows == 7


def test_an_existing_file_is_refused_and_left_alone(model, make_images, tmp_path):
    (tmp_path / CODES_NAME).write_bytes(b"earlier work")
    with pytest.raises(ValueError, match=rf"`folder` must hold no {CODES_NAME} yet, but '.*' does"):
        write_codes(model, make_images(SINGLE), PATHS, tmp_path, model_name="m")
    assert (tmp_path / CODES_NAME).read_bytes() == b"earlier work"


def test_paths_that_do_not_match_the_images_are_an_error(model, make_images, tmp_path):
    with pytest.raises(ValueError, match="`paths` must have one entry an item, but got 6 for 7 items"):
        write_codes(model, make_images(SINGLE), PATHS[:6], tmp_path / "out", model_name="m")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_no_file_and_the_next_run_succeeds(model, make_images, tmp_path, monkeypatch, error):
    def fail_in_the_second_batch(*arguments, **settings):
        yield from list(encode_batches(*arguments, **settings))[:1]
        raise error("interrupted")

    images = make_images(SINGLE)
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "encode_batches", fail_in_the_second_batch)
        with pytest.raises(error, match="interrupted"):
            write_codes(model, images, PATHS, tmp_path, model_name="m", batch_size=3)
    assert list(tmp_path.iterdir()) == []
    assert pq.read_table(write_codes(model, images, PATHS, tmp_path, model_name="m")).num_rows == 7


def test_the_file_is_not_there_before_it_is_complete(model, make_images, tmp_path, monkeypatch):
    seen = []

    def look(*arguments, **settings):
        for batch in encode_batches(*arguments, **settings):
            seen.append((tmp_path / CODES_NAME).exists())
            yield batch

    monkeypatch.setattr(encoding, "encode_batches", look)
    write_codes(model, make_images(SINGLE), PATHS, tmp_path, model_name="m", batch_size=2)
    assert seen == [False] * 4
    assert (tmp_path / CODES_NAME).exists()
