import shutil

import numpy as np
import pytest
import torch

from modeling_crh import CRHModel
from modeling_crh.encoding import Encoder
from modeling_crh.encoding.loading import find_revision, load_checkpoint
from modeling_crh.pipeline_crh import CRHPipeline
from modeling_crh.search import HammingIndex
from modeling_crh.search.queries import check_model, find_queries, load_encoder, query_logits, text_queries


@pytest.fixture(scope="module")
def text_encoder(text_checkpoint):
    return Encoder.load(text_checkpoint)


def index_of(num_bytes=2, **settings):
    return HammingIndex(np.zeros((1, num_bytes), np.uint8), **settings)


def test_what_is_there_as_a_file_is_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (source,) = find_queries(["00fF"], 16)
    assert (source.kind, source.value.tolist()) == ("code", [0, 255])
    (tmp_path / "00fF").write_bytes(b"")
    (source,) = find_queries(["00fF"], 16)
    assert (source.kind, source.value.name) == ("image", "00fF")


@pytest.mark.parametrize("query", ["", "00f", "00ff0", "00fg", "0x00", " 00ff", "nowhere.png", "long" * 2000])
def test_anything_else_is_an_error(query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="`query` must be an image or sound file, a folder of them, a table, the Hub id"
    ):
        find_queries([query], 16)


def test_a_folder_stands_for_the_images_that_a_dataset_of_it_has(tmp_path, write_image, capsys):
    for name in ("b/2.png", "b/deep/1.jpg", "a.png", ".hidden.png"):
        write_image(tmp_path / "queries" / name)
    write_image(tmp_path / "other" / "c.png")
    (tmp_path / "queries" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "queries" / "b" / "up").symlink_to(tmp_path / "queries")
    (tmp_path / "queries" / "notes.txt").write_text("text")
    found = find_queries([str(tmp_path / "queries")], 16)
    names = ["a.png", "b/2.png", "b/deep/1.jpg", "linked/c.png"]
    assert [source.name for source in found] == [str(tmp_path / "queries" / name) for name in names]
    told = " ".join(capsys.readouterr().err.split())
    for words in ("Passed over", ".txt files (1)", "hidden files and folders (1)", "links that lead back to a folder"):
        assert words in told


def test_hash_logits_are_those_of_the_model_and_of_a_code_its_bits_in_the_order_of_the_queries(encoder, image_folder):
    files = [str(image_folder / "dark" / "03.png"), str(image_folder / "bright" / "01.png")]
    first, code, second = find_queries([files[0], "00ff", files[1]], 16)
    images, bits = encoder.hash_logits([first.value, second.value]), torch.tensor([-1.0] * 8 + [1.0] * 8)
    expected = torch.stack([images[0], bits, images[1]])
    torch.testing.assert_close(query_logits([first, code, second], 16, encoder), expected)
    assert torch.equal(query_logits([code], 16), bits[None])
    assert query_logits([], 16).shape == (0, 16)
    pipeline = CRHPipeline(model=encoder.model, image_processor=encoder.processor, code_format="bits")
    assert [output["code"].tolist() for output in pipeline(files)] == (images >= 0).int().tolist()
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_queries_go_to_a_model_that_reads_them(encoder, text_encoder, image_folder, tiny_model, tmp_path):
    images, texts = find_queries([str(image_folder / "dark" / "03.png")], 16), text_queries(["a cat"])
    (tmp_path / "a.png").write_text("text")
    damaged = find_queries([str(tmp_path / "a.png")], 16)
    for sources, chosen, message in (
        (images, text_encoder, "`model` must read images, but reads texts"),
        (images, Encoder(tiny_model(None), None), "`model` must read images, but reads features"),
        (texts, encoder, "`model` must read texts, but reads images"),
        (texts, None, "`model` must be given to search by texts, such as 'a cat'"),
        (damaged, encoder, r"a\.png is not: no known image format"),
    ):
        with pytest.raises(ValueError, match=message):
            query_logits(sources, 16, chosen)
    with pytest.raises(ValueError, match="`text` must hold a word, but got ' '"):
        text_queries(["a cat", " "])


def test_the_model_is_that_of_the_index(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="`index` must name the model of its codes to be searched by 'org/model'"):
        check_model(index_of(), "org/model")
    check_model(index_of(model="org/model"), "org/model")
    with pytest.raises(ValueError, match="`model` must be the one that made the codes of the index, 'org/model', but"):
        check_model(index_of(model="org/model"), "org/other")
    monkeypatch.chdir(tiny_checkpoint.parent)
    with pytest.raises(ValueError, match="`model` must make codes of 32 bits, as the index holds, but makes 16"):
        load_encoder(index_of(4, model=str(tiny_checkpoint)), f"./{tiny_checkpoint.name}/")


def test_a_run_and_the_model_in_it_are_one(tmp_path):
    run, inner = tmp_path / "run", tmp_path / "run" / "model"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text("{}")
    check_model(index_of(model=str(run)), str(inner))
    check_model(index_of(model=str(inner)), str(run))


def test_a_folder_that_has_got_other_weights_since_is_refused(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    index = index_of(model=str(folder), revision=find_revision(str(folder)))
    load_encoder(index, str(folder))
    model = CRHModel.from_pretrained(folder)
    with torch.no_grad():
        next(model.hash_head.parameters()).add_(1)
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"must have the weights that made the codes of the index, but .* has others"):
        load_encoder(index, str(folder))


def test_another_commit_on_the_hub_is_said(tiny_checkpoint, monkeypatch, capsys):
    trained = load_checkpoint(tiny_checkpoint)
    monkeypatch.setattr("modeling_crh.search.queries.load_checkpoint", lambda name: trained)
    monkeypatch.setattr("modeling_crh.search.queries.find_revision", lambda name: "b" * 40)
    for made, is_said in (("a" * 40, True), ("b" * 40, False), ("", False)):
        load_encoder(index_of(model="org/model", revision=made), "org/model")
        assert ("org/model is at commit bbbbbbb, but made the codes at aaaaaaa" in capsys.readouterr().err) == is_said
