"""Precision and compilation of the commands that encode."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import pipeline

from modeling_crh.encoding import Encoder, encoder
from modeling_crh.search import HammingIndex, index_codes
from modeling_crh.search.lance_index import LanceIndex


@pytest.fixture
def fast_bfloat16(monkeypatch):
    """A machine that multiplies bfloat16 itself."""
    monkeypatch.setattr(encoder, "multiplies_bfloat16", lambda device: True)


def equal_bits(one, other):
    return 1 - np.bitwise_count(one ^ other).sum() / (8 * one.size)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_codes_of_another_precision_differ_by_few_bits(dtype, tiny_checkpoint, image_folder):
    files = sorted(image_folder.rglob("*.png"))
    whole, half = (Encoder.load(tiny_checkpoint, dtype=name).packed(files) for name in ("float32", dtype))
    assert 0.95 < equal_bits(whole, half) <= 1
    hashing = pipeline("crh-hashing", model=str(tiny_checkpoint), dtype=dtype, trust_remote_code=False)
    np.testing.assert_array_equal([item["code"] for item in hashing([str(file) for file in files])], half)


@pytest.mark.usefixtures("fast_bfloat16")
def test_auto_takes_bfloat16_where_it_is_fast_and_says_so(tiny_checkpoint, capsys, monkeypatch):
    assert Encoder.load(tiny_checkpoint, dtype="auto").dtype == "bfloat16"
    assert "Computing in bfloat16, floats of 16 bits that this processor is fast at." in capsys.readouterr().err
    assert Encoder.load(tiny_checkpoint).dtype == Encoder.load(tiny_checkpoint, dtype="float32").dtype == "float32"
    assert "Computing" not in capsys.readouterr().err
    monkeypatch.setattr(encoder, "multiplies_bfloat16", lambda device: False)
    assert Encoder.load(tiny_checkpoint, dtype="auto").dtype == "float32"


@pytest.mark.usefixtures("fast_bfloat16")
def test_codes_and_indexes_record_their_precision_and_queries_take_it(crh, tiny_checkpoint, image_folder, tmp_path):
    assert crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes")[0] == 0
    assert pq.read_schema(tmp_path / "codes" / "codes-00000.parquet").metadata[b"dtype"] == b"bfloat16"
    assert crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "exact", "--dtype", "float32")[0] == 0
    index_codes(tmp_path / "codes").save(tmp_path / "half.crh")
    assert HammingIndex.load(tmp_path / "half.crh").dtype == "bfloat16"
    assert crh("index", tmp_path / "exact", "--out", tmp_path / "exact.lance")[0] == 0
    assert LanceIndex(tmp_path / "exact.lance").in_memory().dtype == "float32"
    query = sorted(image_folder.rglob("*.png"))[3]
    for index in ("half.crh", "exact.lance"):  # `auto` is bfloat16 here, but the codes of the table are of float32
        code, output, errors = crh("search", tmp_path / index, query, "--model", tiny_checkpoint, "--json")
        assert code == 0, errors
        assert json.loads(output)["results"][0]["hits"][0]["distance"] == 0


@pytest.mark.usefixtures("fast_bfloat16")
def test_a_folder_of_codes_keeps_its_precision(crh, tiny_checkpoint, image_folder, tmp_path, monkeypatch):
    run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--shard-size", "20"]
    assert crh(*run)[0] == 0
    (tmp_path / "codes" / "codes-00001.parquet").unlink()
    monkeypatch.setattr(encoder, "multiplies_bfloat16", lambda device: False)
    assert crh(*run)[0] == 0  # another machine goes on
    assert index_codes(tmp_path / "codes").dtype == "bfloat16"
    code, _, errors = crh(*run, "--dtype", "float32")
    assert code == 2
    assert "`dtype` must be 'bfloat16' as it was when" in errors


@pytest.mark.usefixtures("fast_bfloat16")
def test_features_and_figures_take_a_precision(crh, tiny_checkpoint, image_folder, tmp_path):
    for dtype in ("auto", "float32"):
        options = ["--out", tmp_path / dtype, "--dtype", dtype]
        assert crh("features", tiny_checkpoint, image_folder, *options)[0] == 0
    half, whole = (pq.read_table(tmp_path / dtype / "features.parquet")["features"] for dtype in ("auto", "float32"))
    assert half.type == whole.type
    assert half != whole
    np.testing.assert_allclose(half.to_pylist(), whole.to_pylist(), atol=0.3)
    evaluation = ["evaluate", tiny_checkpoint, "--dataset", image_folder, "--json"]
    figures = [json.loads(crh(*evaluation, *more)[1])["map"] for more in ([], ["--dtype", "bfloat16"])]
    assert figures[0] == pytest.approx(figures[1], abs=0.05)


def test_an_encoder_is_compiled_when_it_is_asked_for(tiny_checkpoint, image_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model: compiled.append(type(model).__name__))
    Encoder.load(tiny_checkpoint)
    assert compiled == []
    Encoder.load(tiny_checkpoint, compiled=True)
    assert compiled == ["CRHModel"]
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"`compile` needs a C\+\+ compiler on a CPU, .* no no-such-compiler"):
        Encoder.load(tiny_checkpoint, compiled=True)
