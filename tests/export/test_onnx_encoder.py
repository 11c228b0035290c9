"""`crh encode --engine onnx`: codes in int8 by ONNX Runtime."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from packaging.version import Version
from tiny_data import write_pictures

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source
from modeling_crh.export import onnx_encoder
from modeling_crh.export.onnx_encoder import OnnxEncoder
from modeling_crh.search import HammingIndex, index_codes

ROOT = Path(__file__).parents[2]


def codes_of(folder):
    """Packed codes `(N, K / 8)` of a folder, in the order of the rows."""
    return np.stack([np.frombuffer(code, np.uint8) for code in pq.read_table(folder)["code"].to_pylist()])


def graphs_of(folder):
    return sorted(folder.glob(".int8-*.onnx"))


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint, image_folder, tmp_path_factory):
    """Folder of the codes of 60 images, in shards of 20."""
    folder = tmp_path_factory.mktemp("encoded") / "codes"
    source = open_source(image_folder)
    encode_source(OnnxEncoder.load(tiny_checkpoint), source, folder, model_name=str(tiny_checkpoint), shard_size=20)
    return folder


def test_codes_in_int8_are_nearly_those_of_torch_and_say_so(crh, tiny_checkpoint, image_folder, encoded, tmp_path):
    run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--shard-size", "20"]
    code, _, errors = crh(*run, "--engine", "onnx", "--batch-size", "7")
    assert code == 0, errors
    np.testing.assert_array_equal(codes_of(tmp_path / "codes"), codes_of(encoded))
    assert "Computing in int8 by ONNX Runtime: " in errors
    exact = Encoder.load(tiny_checkpoint, dtype="float32").packed(sorted(image_folder.rglob("*.png")))
    equal = 1 - np.unpackbits(codes_of(encoded) ^ exact).mean()
    assert 0.95 < equal <= 1
    assert len(np.unique(codes_of(encoded), axis=0)) > 3


def test_codes_and_index_record_int8_and_queries_are_computed_by_torch(
    crh, tiny_checkpoint, image_folder, encoded, tmp_path
):
    assert pq.read_schema(encoded / "codes-00000.parquet").metadata[b"dtype"] == b"int8"
    index_codes(encoded).save(tmp_path / "int8.crh")
    assert HammingIndex.load(tmp_path / "int8.crh").dtype == "int8"
    query = sorted(image_folder.rglob("*.png"))[3]
    code, output, errors = crh("search", tmp_path / "int8.crh", query, "--model", tiny_checkpoint, "--json")
    assert code == 0, errors
    assert json.loads(output)["results"][0]["hits"][0]["distance"] <= 2


def test_a_run_goes_on_with_the_graph_that_it_began_with(
    crh, tiny_checkpoint, image_folder, encoded, tmp_path, monkeypatch
):
    run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--shard-size", "20"]
    compute, batches = OnnxEncoder.batch_logits, []

    def interrupted_in_the_fourth_batch(encoder, batch):
        batches.append(1)
        if len(batches) == 4:
            raise KeyboardInterrupt
        return compute(encoder, batch)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "batch_logits", interrupted_in_the_fourth_batch)
        assert crh(*run, "--engine", "onnx", "--batch-size", "10")[0] == 130
    assert len(list((tmp_path / "codes").glob("*.parquet"))) == 1
    (graph,) = graphs_of(tmp_path / "codes")
    before = graph.read_bytes()
    monkeypatch.delattr(onnx_encoder, "exported_graph")  # there is no need of another graph
    code, _, errors = crh(*run, "--engine", "onnx")
    assert code == 0, errors
    assert graph.read_bytes() == before
    np.testing.assert_array_equal(codes_of(tmp_path / "codes"), codes_of(encoded))


@pytest.mark.slow
def test_a_run_that_is_killed_and_goes_on_gives_the_bits_of_one_that_is_not(
    crh, tiny_checkpoint, image_folder, encoded, tmp_path
):
    run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--shard-size", "20"]
    run = [*map(str, run), "--engine", "onnx", "--batch-size", "10"]
    killed = f"""
import os, signal, sys
from modeling_crh import cli
from modeling_crh.export.onnx_encoder import OnnxEncoder
compute, batches = OnnxEncoder.batch_logits, []
def batch_logits(encoder, batch):
    batches.append(1)
    if len(batches) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(encoder, batch)
OnnxEncoder.batch_logits = batch_logits
sys.argv = ["crh", *{run!r}]
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", killed], cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(list((tmp_path / "codes").glob("*.parquet"))) == 1
    assert crh(*run)[0] == 0
    np.testing.assert_array_equal(codes_of(tmp_path / "codes"), codes_of(encoded))


def test_codes_of_one_engine_are_not_continued_by_the_other(crh, tiny_checkpoint, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_crh.encoding.encoder.multiplies_bfloat16", lambda device: True)
    for first, other in (("onnx", "torch"), ("torch", "onnx")):
        run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / first]
        assert crh(*run, "--engine", first)[0] == 0
        code, _, errors = crh(*run, "--engine", other)
        assert code == 2
        assert f"`engine` must be '{first}' as it was when" in errors
        assert f"but got '{other}'; another run needs another `out`." in errors


def test_a_graph_that_is_missing_or_damaged_is_refused(tiny_checkpoint, image_folder, encoded, tmp_path):
    settings = {"model_name": str(tiny_checkpoint), "shard_size": 20}
    for change, message in (("missing", "`out` must hold the graph that made its codes"), ("cut", "cannot be read: ")):
        folder = tmp_path / change
        folder.mkdir()
        for file in encoded.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "codes-00001.parquet").unlink()
        (graph,) = graphs_of(folder)
        graph.unlink() if change == "missing" else graph.write_bytes(graph.read_bytes()[:1000])
        with pytest.raises(ValueError, match=message):
            encode_source(OnnxEncoder.load(tiny_checkpoint), open_source(image_folder), folder, **settings)


def test_another_source_makes_another_graph_and_bad_rows_give_no_ranges(tiny_checkpoint, image_folder, tmp_path):
    for number, name in enumerate(("one", "two")):
        files = write_pictures(tmp_path / name, 3 + number)
        files[0].write_bytes(b"no image")
        with pytest.raises(ValueError, match="Every row must be readable"):  # after the graph is made
            encode_source(
                OnnxEncoder.load(tiny_checkpoint), open_source(tmp_path / name), tmp_path / "c", model_name="m"
            )
    assert len(graphs_of(tmp_path / "c")) == 2


def test_a_source_without_a_readable_row_has_no_ranges(tiny_checkpoint, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    with pytest.raises(ValueError, match="`source` must hold images that can be read, to take ranges from, but none"):
        encode_source(
            OnnxEncoder.load(tiny_checkpoint), open_source(tmp_path / "photos"), tmp_path / "codes", model_name="m"
        )
    assert not (tmp_path / "codes").exists()


@pytest.mark.skipif(Version(torch.__version__) < Version("2.11"), reason="it exports no model of texts")
def test_texts_are_encoded_whatever_their_length(text_checkpoint, tmp_path):
    texts = ["the cat sat on the mat", "a dog ran under the tree and then slept", "cat", "a tree", "the dog then sat"]
    (tmp_path / "rows.csv").write_text("text\n" + "\n".join(texts))
    source = open_source(tmp_path / "rows.csv", text_column="text")
    encode_source(OnnxEncoder.load(text_checkpoint, batch_size=2), source, tmp_path / "codes", model_name="texts")
    exact = Encoder.load(text_checkpoint, dtype="float32").packed(texts)
    assert np.unpackbits(codes_of(tmp_path / "codes") ^ exact).mean() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "float32"], "`dtype` must be left out with `engine` 'onnx', which computes in int8, but got 'flo"),
        (["--compile"], "`compile` must be left out with `engine` 'onnx', which computes in int8, but got True."),
        (["--engine", "cuda"], "is not one of 'torch', 'onnx'"),
    ],
)
def test_options_that_do_not_fit_are_refused(crh, tiny_checkpoint, image_folder, tmp_path, options, message):
    run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--engine", "onnx"]
    code, _, errors = crh(*run, *options)
    assert code == 2
    assert message in " ".join(errors.replace("│", " ").split())
    assert not (tmp_path / "codes").exists()


def test_a_model_that_cannot_be_exported_is_refused(crh, tiny_model, tmp_path):
    tiny_model(None).save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"features": [1.0, 2.0, 3.0, 4.0]}\n')
    run = ["encode", tmp_path / "model", tmp_path / "rows.jsonl", "--features-column", "features"]
    code, _, errors = crh(*run, "--out", tmp_path / "codes", "--engine", "onnx")
    assert code == 2
    assert "Error: `engine` must be 'torch' for this model, which cannot be exported: " in errors
    assert not (tmp_path / "codes").exists()


def test_an_encoder_without_a_graph_encodes_nothing(tiny_checkpoint):
    with pytest.raises(ValueError, match="`encoder` must be used by `encode_source`, which gives it a graph, but"):
        OnnxEncoder.load(tiny_checkpoint).packed([np.zeros((16, 16), np.uint8)])


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_what_installs_it(
    crh, tiny_checkpoint, image_folder, tmp_path, monkeypatch, name
):
    monkeypatch.setitem(sys.modules, name, None)
    for module in ("graph", "onnx_export", "onnx_encoder"):
        monkeypatch.delitem(sys.modules, f"modeling_crh.export.{module}")
    code, _, errors = crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--engine", "onnx")
    assert code == 2
    assert f"needs {name}; run `pip install 'modeling-crh[onnx]'`" in errors
    assert os.listdir(tmp_path) == []
