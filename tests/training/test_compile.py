import shutil

import pytest
import torch
from tiny_inputs import inputs_of

from modeling_crh.codes import binarize

SLOW = pytest.mark.slow


def codes_of_both(name, model, compiled):
    inputs = inputs_of(name, size=9)
    if name == "bert":
        inputs["attention_mask"] = torch.ones(9, 7, dtype=torch.int64)
        inputs["attention_mask"][3, 4:] = 0
    torch._dynamo.reset()
    with torch.inference_mode():
        return binarize(model(**inputs).hash_logits), binarize(compiled(**inputs).hash_logits)


@pytest.mark.parametrize(
    "name", [None, "bert", *(pytest.param(name, marks=SLOW) for name in ("vit", "dinov2", "resnet"))]
)
def test_a_compiled_model_is_one_graph_and_gives_the_same_codes(tiny_model, name):
    model = tiny_model(name, initializer_range=1.0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(weight.numel()))
    expected, found = codes_of_both(name, model, torch.compile(model, backend="aot_eager", fullgraph=True))
    assert torch.equal(found, expected)
    assert len(expected.unique(dim=0)) > 1


@SLOW
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default back end compiles C++")
def test_the_default_back_end_gives_the_same_codes(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = tiny_model(None, hash_head="mlp", hash_head_hidden_size=8, initializer_range=1.0)
    expected, found = codes_of_both(None, model, torch.compile(model, fullgraph=True))
    assert torch.equal(found, expected)
