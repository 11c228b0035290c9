"""`crh encode --engine onnx`: codes in int8 by ONNX Runtime."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from packaging.version import Version
from tiny_commands import done, refusal
from tiny_data import write_pictures

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source
from modeling_crh.export import onnx_encoder
from modeling_crh.export.onnx_encoder import OnnxEncoder
from modeling_crh.search import HammingIndex, index_codes


def codes_of(folder):
    """Packed codes `(N, K / 8)` of a folder, in the order of the rows."""
    return np.stack([np.frombuffer(code, np.uint8) for code in pq.read_table(folder)["code"].to_pylist()])


def graphs_of(folder):
    return sorted(folder.glob(".int8-*.onnx"))


def encode(checkpoint, source, folder, **settings):
    encode_source(OnnxEncoder.load(checkpoint, **settings), source, folder, model_name=str(checkpoint), shard_size=20)


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint, image_folder, tmp_path_factory):
    """Folder of the codes of 60 images, in shards of 20."""
    folder = tmp_path_factory.mktemp("encoded") / "codes"
    encode(tiny_checkpoint, open_source(image_folder), folder)
    return folder


@pytest.fixture
def command(tiny_checkpoint, image_folder, tmp_path):
    """The command that makes these codes in `codes`."""
    run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes", "--shard-size", "20"]
    return [*map(str, run), "--engine", "onnx"]


def test_codes_in_int8_are_nearly_those_of_torch_and_say_so(crh, command, tiny_checkpoint, image_folder, encoded):
    ended = crh(*command, "--batch-size", "7")
    done(ended)
    np.testing.assert_array_equal(codes_of(command[4]), codes_of(encoded))
    assert "Computing in int8 by ONNX Runtime: " in ended[2]
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
    found = done(crh("search", tmp_path / "int8.crh", query, "--model", tiny_checkpoint, "--json"))
    assert found["results"][0]["hits"][0]["distance"] <= 2


def test_a_run_goes_on_with_the_graph_that_it_began_with(crh, command, encoded, tmp_path, monkeypatch):
    compute, batches, left = OnnxEncoder.batch_logits, [], []

    def interrupted_in_the_fourth_batch(encoder, batch):
        batches.append(1)
        if len(batches) == 4:
            left.extend(graphs_of(tmp_path / "codes"))  # as if the run was killed here
            raise KeyboardInterrupt
        return compute(encoder, batch)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "batch_logits", interrupted_in_the_fourth_batch)
        assert crh(*command, "--batch-size", "10")[0] == 130
    assert len(list((tmp_path / "codes").glob("*.parquet"))) == 1
    (graph,) = left
    before = graph.read_bytes()
    monkeypatch.delattr(onnx_encoder, "exported_graph")  # there is no need of another graph
    done(crh(*command))
    assert graph.read_bytes() == before
    np.testing.assert_array_equal(codes_of(tmp_path / "codes"), codes_of(encoded))


def test_codes_of_one_engine_are_not_continued_by_the_other(crh, tiny_checkpoint, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_crh.encoding.encoder.multiplies_bfloat16", lambda device: True)
    for first, other in (("onnx", "torch"), ("torch", "onnx")):
        run = ["encode", tiny_checkpoint, image_folder, "--out", tmp_path / first]
        done(crh(*run, "--engine", first))
        said = refusal(crh(*run, "--engine", other))
        assert f"`engine` must be '{first}' as it was when" in said
        assert f"but got '{other}'; another run needs another `out`." in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "`out` must hold the graph that made its codes"),
        (lambda graph: graph.write_bytes(graph.read_bytes()[:1000]), "cannot be read: "),
    ],
    ids=["missing", "damaged"],
)
def test_a_missing_or_damaged_graph_is_refused(change, message, tiny_checkpoint, image_folder, encoded, tmp_path):
    folder = shutil.copytree(encoded, tmp_path / "codes")
    (folder / "codes-00001.parquet").unlink()
    change(*graphs_of(folder))
    with pytest.raises(ValueError, match=message):
        encode(tiny_checkpoint, open_source(image_folder), folder)


def test_another_source_makes_another_graph_and_bad_rows_give_no_ranges(tiny_checkpoint, tmp_path):
    for number, name in enumerate(("one", "two")):
        files = write_pictures(tmp_path / name, 3 + number)
        files[0].write_bytes(b"no image")
        with pytest.raises(ValueError, match="Every row must be readable"):  # after the graph is made
            encode(tiny_checkpoint, open_source(tmp_path / name), tmp_path / "codes")
    assert len(graphs_of(tmp_path / "codes")) == 2
    for file in files:
        file.write_bytes(b"no image")
    with pytest.raises(ValueError, match="`source` must hold images that can be read, to take ranges from, but none"):
        encode(tiny_checkpoint, open_source(tmp_path / "two"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(Version(torch.__version__) < Version("2.11"), reason="it exports no model of texts")
def test_texts_are_encoded_whatever_their_length(text_checkpoint, tmp_path):
    texts = ["the cat sat on the mat", "a dog ran under the tree and then slept", "cat", "a tree", "the dog then sat"]
    (tmp_path / "rows.csv").write_text("text\n" + "\n".join(texts))
    source = open_source(tmp_path / "rows.csv", text_column="text")
    encode(text_checkpoint, source, tmp_path / "codes", batch_size=2)
    exact = Encoder.load(text_checkpoint, dtype="float32").packed(texts)
    assert np.unpackbits(codes_of(tmp_path / "codes") ^ exact).mean() < 0.1


def test_a_model_that_cannot_be_exported_is_refused(crh, tiny_model, tmp_path):
    tiny_model(None).save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"features": [1.0, 2.0, 3.0, 4.0]}\n')
    run = ["encode", tmp_path / "model", tmp_path / "rows.jsonl", "--features-column", "features", "--engine", "onnx"]
    said = refusal(crh(*run, "--out", tmp_path / "codes"))
    assert "Error: `engine` must be 'torch' for this model, which cannot be exported: " in said
    assert not (tmp_path / "codes").exists()


def test_an_encoder_without_a_graph_encodes_nothing(tiny_checkpoint):
    with pytest.raises(ValueError, match="`encoder` must be used by `encode_source`, which gives it a graph, but"):
        OnnxEncoder.load(tiny_checkpoint).packed([np.zeros((16, 16), np.uint8)])


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_what_installs_it(crh, command, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    for module in ("graph", "onnx_export", "onnx_encoder"):
        monkeypatch.delitem(sys.modules, f"modeling_crh.export.{module}")
    assert f"Export needs {name}; run `pip install 'modeling-crh[onnx]'`" in refusal(crh(*command))
    assert os.listdir(tmp_path) == []
