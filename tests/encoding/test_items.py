import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset
from transformers import ViTImageProcessor

from modeling_crh.codes import binarize
from modeling_crh.data.columns import canonical_features
from modeling_crh.encoding import ImageDataset, encode_batches, encode_items

PROCESSOR = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)
SINGLE = [2, 0, 1, 1, 0, 2, 2]


@pytest.fixture
def make_images():
    """Seven seeded images with the given labels."""

    def make(labels):
        pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
        features = canonical_features(["ant", "bee", "cow"])
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
