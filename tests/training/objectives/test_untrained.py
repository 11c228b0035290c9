import sys

import numpy as np
import pytest
import torch
from tiny_runs import VIT, Clusters, tiny_trainer

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.metrics import retrieval_figures
from modeling_crh.training.objectives.untrained import UNTRAINED, collect_features, fit_untrained


def model_of(num_bits, num_features=16, **fields):
    config = CRHConfig(backbone_config=None, num_features=num_features, num_labels=3, num_bits=num_bits, **fields)
    return CRHModel(config).eval()


@pytest.fixture
def features():
    """200 correlated features of width 16, away from the origin."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(200, 16, generator=generator) @ torch.randn(16, 16, generator=generator)
    return mixed + torch.linspace(-3, 3, 16)


def bits_of_faiss(name, num_bits, features, seed):
    """Codes as FAISS itself makes them, `(N, K)` bool."""
    faiss = pytest.importorskip("faiss")
    if name == "lsh":
        index = faiss.IndexLSH(16, num_bits, True, False)
        index.rrot.init(seed)
        return np.unpackbits(index.sa_encode(features.numpy()), axis=1, bitorder="little").astype(bool)
    transform = faiss.ITQTransform(16, num_bits, True)
    transform.itq.seed = seed
    transform.train(features.numpy())
    return transform.apply(features.numpy()) > 0


def test_the_sign_of_a_feature_is_its_bit(features):
    model = model_of(16)
    fit_untrained("sign", model, features)
    assert torch.equal(model.encode(features=features) > 0, features >= 0)


@pytest.mark.parametrize(("name", "num_bits"), [("lsh", 8), ("lsh", 16), ("lsh", 32), ("itq", 8), ("itq", 16)])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_head_makes_the_codes_of_faiss(name, num_bits, seed, features):
    expected = bits_of_faiss(name, num_bits, features, seed)
    model = model_of(num_bits)
    fit_untrained(name, model, features, seed)
    assert np.array_equal(model.encode(features=features).numpy() > 0, expected)


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_fitted_model_finds_items_of_its_classes(name, tmp_path):
    pytest.importorskip("faiss")
    model, items = model_of(8, num_features=8), Clusters(200)
    fit_untrained(name, model, items.values)
    codes = model.encode(features=items.values)
    assert retrieval_figures(codes, codes, items.labels, items.labels, leave_one_out=True)["map"] > 0.5
    model.save_pretrained(tmp_path)
    assert torch.equal(CRHModel.from_pretrained(tmp_path).encode(features=items.values), codes)


def test_features_are_those_that_the_head_reads(tmp_path):
    items = Clusters(30)
    assert torch.equal(collect_features(model_of(8, num_features=8), items, batch_size=7), items.values)
    model, images = tiny_trainer(tmp_path, VIT).model, Clusters(10, (3, 8, 8))
    features = collect_features(model, images, batch_size=4)
    assert features.shape == (10, 16)
    torch.testing.assert_close(model.hash_head(features), model(pixel_values=images.values).hash_logits)


@pytest.mark.parametrize(
    ("name", "num_bits", "fields", "rows", "message"),
    [
        ("pca", 8, {}, 200, r"`name` must be one of sign, lsh, itq, but got 'pca'"),
        ("lsh", 8, {"hash_head": "mlp"}, 200, r"`hash_head` must be linear .* for lsh, but got a Sequential"),
        ("itq", 8, {"hash_head_batch_norm": True}, 200, r"`hash_head` must be linear and without batch norm for itq"),
        ("sign", 8, {}, 200, r"`num_bits` must be the number of features for sign, 16, but got 8"),
        ("itq", 24, {}, 200, r"`num_bits` must be at most F and .* for itq, .* but got 24 for N=200 and F=16"),
        ("itq", 8, {}, 8, r"must be at most F and less than N for itq, .* but got 8 for N=8 and F=16"),
        ("sign", 16, {}, 0, r"`features` must be \(N, 16\), .* but got shape \(0, 16\)"),
    ],
)
def test_what_a_method_cannot_be_fitted_to_is_an_error(name, num_bits, fields, rows, message, features):
    with pytest.raises(ValueError, match=message):
        fit_untrained(name, model_of(num_bits, **fields), features[:rows])


@pytest.mark.parametrize("name", ["lsh", "itq"])
def test_without_faiss_the_error_says_what_installs_it(name, features, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs faiss; run `pip install 'modeling-crh\[search\]'`"):
        fit_untrained(name, model_of(8), features)
