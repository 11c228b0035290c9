"""Models whose first bits are codes by themselves: loss, codes of first bits, and indexes of them."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_inputs import inputs_of
from tiny_runs import random_batch
from transformers import AutoImageProcessor, pipeline

from modeling_crh.codes import binarize
from modeling_crh.encoding import EncodedItems
from modeling_crh.encoding.loading import cut_model
from modeling_crh.losses import crh_loss
from modeling_crh.training.evaluation import figures_of


@pytest.mark.parametrize("multi", [False, True])
def test_the_figures_have_the_map_of_every_prefix(multi):
    hash_logits, labels = random_batch(0, samples=30, num_bits=32, multi=multi)
    items = EncodedItems(codes=binarize(hash_logits), labels=labels.float() if multi else labels, label_names=["a"] * 4)
    figures = figures_of({"query": items, "database": items}, prefix_bits=[8, 16])
    for length in (8, 16):
        short = dataclasses.replace(items, codes=items.codes[:, :length])
        expected = figures_of({"query": short, "database": short})["map"]
        assert figures[f"map_{length}_bits"] == pytest.approx(expected)


@pytest.mark.parametrize("multi", [False, True])
def test_the_loss_adds_that_of_each_prefix_against_the_first_bits_of_the_centers(multi):
    hash_logits, labels = random_batch(0, num_labels=4, num_bits=32, multi=multi)
    centers = torch.where(torch.randn(4, 32, generator=torch.Generator().manual_seed(1)) >= 0, 1, -1)
    settings = {"scale": 5.0, "margin": 0.2}
    found = crh_loss(hash_logits, labels, centers, **settings, prefix_bits=[8, 16], prefix_weight=0.5)
    whole = crh_loss(hash_logits, labels, centers, **settings)
    parts = [
        crh_loss(hash_logits[:, :length], labels, centers[:, :length], **settings, quantization_weight=0)
        for length in (8, 16)
    ]
    assert found.item() == pytest.approx((whole + 0.5 * sum(parts)).item(), rel=1e-6)


@pytest.mark.parametrize("name", [None, "bert", "vit", "resnet"])
@pytest.mark.parametrize("head", [{}, {"hash_head": "mlp", "hash_head_batch_norm": True}])
@pytest.mark.parametrize("codebook", ["own", "shared"])
def test_the_first_bits_are_the_codes_of_a_model_that_was_cut(tiny_model, name, head, codebook):
    settings = head | {"codebook": codebook, "num_bits": 64, "prefix_bits": [16, 32]}
    model, inputs = tiny_model(name, **settings).train(False), inputs_of(name)
    whole = model.encode(**inputs)  # before the backbone is shared
    for length in (16, 32, 64):
        cut = cut_model(model, length)
        codes = whole[:, :length]
        assert torch.equal(cut.encode(**inputs), codes)
        assert torch.equal(model.encode(**inputs, num_bits=length), codes)
        assert torch.equal(cut.centers, model.centers[:, :length])
    assert cut_model(model, 32).config.prefix_bits == [16]
    assert cut_model(model, 64) is model


def test_lengths_that_a_model_is_not_trained_for_are_refused(tiny_model):
    message = "`num_bits` must be 16 or 64, which the model is trained for, but got 24"
    model = tiny_model(None, num_bits=64, prefix_bits=[16]).train(False)
    with pytest.raises(ValueError, match=message):
        model.encode(**inputs_of(None), num_bits=24)
    with pytest.raises(ValueError, match=message):
        cut_model(model, 24)
    with pytest.raises(ValueError, match="`num_bits` must be 64, which"):
        tiny_model(None, num_bits=64).encode(**inputs_of(None), num_bits=32)


def read_packed(folder):
    codes = [code.as_py() for file in sorted(folder.glob("*.parquet")) for code in pq.read_table(file)["code"]]
    return np.stack([np.frombuffer(code, np.uint8) for code in codes])


@pytest.fixture
def checkpoint(tiny_model, tiny_checkpoint, tmp_path):
    """The tiny checkpoint with 32 bits, of which the first 16 are codes by themselves."""
    tiny_model("vit", num_bits=32, prefix_bits=[16]).save_pretrained(tmp_path / "model")
    AutoImageProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_short_codes_are_encoded_indexed_and_searched_by_the_model_of_the_long_ones(
    crh, checkpoint, image_folder, tmp_path
):
    long, short = tmp_path / "long", tmp_path / "short"
    assert crh("encode", checkpoint, image_folder, "--out", long)[0] == 0
    assert crh("encode", checkpoint, image_folder, "--out", short, "--num-bits", 16)[0] == 0
    packed = [read_packed(folder) for folder in (long, short)]
    assert packed[0].shape[1] == 4
    assert np.array_equal(packed[1], packed[0][:, :2])
    picture = image_folder / "dark" / "03.png"
    hits = []
    for codes, options in ((long, ["--num-bits", 16]), (short, [])):
        crh("index", codes, "--out", tmp_path / "index.crh", *options)
        code, shown, errors = crh("search", tmp_path / "index.crh", picture, "--model", checkpoint, "--json")
        assert code == 0, errors
        hits.append(json.loads(shown))
    assert hits[0] == hits[1]
    hashing = pipeline("crh-hashing", model=str(checkpoint))
    assert np.array_equal(hashing(str(picture), num_bits=16)["code"], hashing(str(picture))["code"][:2])
    code, _, errors = crh("index", long, "--out", tmp_path / "index.crh", "--num-bits", 8)
    assert code == 2
    assert "`num_bits` must be 16 or 32, which the model is trained for, but got 8" in " ".join(errors.split())
