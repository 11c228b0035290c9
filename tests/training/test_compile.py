import shutil

import pytest
import torch

from modeling_crh.codes import binarize

SLOW = pytest.mark.slow


def _inputs(name):
    generator = torch.Generator().manual_seed(0)
    if name is None:
        return {"features": torch.randn(5, 4, generator=generator)}
    if name == "bert":
        mask = torch.ones(5, 9, dtype=torch.int64)
        mask[3, 4:] = 0
        return {"input_ids": torch.randint(50, (5, 9), generator=generator), "attention_mask": mask}
    return {"pixel_values": torch.randn(5, 3, 16, 16, generator=generator)}


def _codes_of_both(model, compiled, inputs):
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
    expected, found = _codes_of_both(model, torch.compile(model, backend="aot_eager", fullgraph=True), _inputs(name))
    assert torch.equal(found, expected)
    assert len(expected.unique(dim=0)) > 1


@SLOW
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default back end compiles C++")
def test_the_default_back_end_gives_the_same_codes(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = tiny_model(None, hash_head="mlp", hash_head_hidden_size=8, initializer_range=1.0)
    expected, found = _codes_of_both(model, torch.compile(model, fullgraph=True), _inputs(None))
    assert torch.equal(found, expected)
