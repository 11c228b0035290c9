"""`crh index`, `search` and `dedupe` with a table of LanceDB, and what a search may order and choose by."""

import json

import numpy as np
import pytest
import torch

from modeling_crh import cli
from modeling_crh.codes import unpack_codes
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.search.queries import find_queries, query_logits


@pytest.fixture(scope="session")
def table_uri(encoded):
    """The table of the codes of 60 images."""
    cli.index(encoded, str(encoded / "table.lance"))
    return str(encoded / "table.lance")


def hits(crh, *arguments):
    code, output, errors = crh("search", *arguments, "--json")
    assert code == 0, errors
    return [result["hits"] for result in json.loads(output)["results"]]


def test_index_writes_a_table_where_the_name_says_so(crh, encoded, tiny_checkpoint, tmp_path):
    uri = tmp_path / "codes.lance"
    code, output, errors = crh("index", encoded, "--out", uri, "--json")
    assert code == 0, errors
    assert json.loads(output) == {
        "index": str(uri),
        "items": 60,
        "num_bits": 16,
        "kind": "flat",
        "model": str(tiny_checkpoint),
        "version": 1,
    }
    code, output, _ = crh("index", encoded, "--out", uri, "--kind", "ivf", "--model", "org/name")
    assert (code, output) == (0, f"60 codes of 16 bits, ivf, in {uri}\n")
    assert LanceIndex(uri).model == "org/name"
    assert LanceIndex(uri).at(1).model == str(tiny_checkpoint)


def test_a_table_finds_what_the_file_finds(crh, index_path, table_uri, tiny_checkpoint, image_folder):
    query = [image_folder / "dark", "0f0f", "--model", tiny_checkpoint]
    assert hits(crh, table_uri, *query) == hits(crh, index_path, *query)
    assert hits(crh, table_uri, *query, "--radius", 3) == hits(crh, index_path, *query, "--radius", 3)
    outputs = [crh("dedupe", uri, "--radius", 1, "--json")[1] for uri in (table_uri, index_path)]
    assert json.loads(outputs[0])["groups"] == json.loads(outputs[1])["groups"]


def test_a_condition_chooses_items_of_a_table(crh, table_uri, index_path):
    (found,) = hits(crh, table_uri, "0f0f", "-k", 60, "--where", "label = 'dark' AND id % 2 = 0")
    assert len(found) == 10
    assert {hit["label"] for hit in found} == {"dark"}
    for uri, condition, message in (
        (
            index_path,
            "label = 'dark'",
            "`where` must be given with a table (NAME.lance) only, but got \"label = 'dark'\".",
        ),
        (table_uri, "labels = 'dark'", "`where` must be a condition on the table, but \"labels = 'dark'\" is not"),
    ):
        code, output, errors = crh("search", uri, "0f0f", "--where", condition)
        assert (code, output) == (2, "")
        assert message in errors


def test_a_page_is_written_of_a_table(crh, table_uri, image_folder, tmp_path):
    page = tmp_path / "page.html"
    assert crh("search", table_uri, "0f0f", "--html", page, "--image-root", image_folder)[0] == 0
    assert page.read_text().count("data:image/png;base64,") == 10


def test_reranking_orders_the_nearest_by_the_hash_logits(crh, index_path, table_uri, tiny_checkpoint, image_folder):
    query = [image_folder / "dark" / "03.png", "--model", tiny_checkpoint, "-k", 60]
    (plain,) = hits(crh, index_path, *query)
    (found,) = hits(crh, index_path, *query, "--rerank")
    assert hits(crh, table_uri, *query, "--rerank") == [found]
    assert [hit["id"] for hit in found] != [hit["id"] for hit in plain]
    model, processor = load_checkpoint(tiny_checkpoint)
    logits = query_logits(find_queries([str(query[0])], 16), 16, model, processor)
    codes = unpack_codes(torch.from_numpy(HammingIndex.load(index_path).packed)).float()
    similarity = (codes @ logits[0])[[hit["id"] for hit in found]]
    assert (similarity[:-1] >= similarity[1:] - 1e-4).all()
    for arguments, message in (
        (["0f0f", "--rerank"], "`query` must be an image or a text to have hash logits, but '0f0f' is a code."),
        ([*query, "--rerank", "--radius", 3], "`radius` must not be given with re-ranking"),
    ):
        code, output, errors = crh("search", index_path, *arguments)
        assert (code, output) == (2, "")
        assert message in errors


def test_texts_find_texts(crh, text_checkpoint, tmp_path):
    texts = ["the cat sat on the mat", "a dog ran under a tree", "the dog slept"]
    (tmp_path / "texts.csv").write_text("\n".join(["text", *texts]) + "\n")
    source = [tmp_path / "texts.csv", "--text-column", "text"]
    assert crh("encode", text_checkpoint, *source, "--out", tmp_path / "codes")[0] == 0
    assert crh("index", tmp_path / "codes", "--out", tmp_path / "texts.crh")[0] == 0
    query = [tmp_path / "texts.crh", "--model", text_checkpoint, "--text", texts[1], "--text", texts[2]]
    for more in ([], ["--rerank"]):
        found = hits(crh, *query, *more)
        assert [(result[0]["id"], result[0]["distance"]) for result in found] == [(1, 0), (2, 0)]
    code, output, errors = crh("search", tmp_path / "texts.crh", "--text", "a cat")
    assert (code, output) == (2, "")
    assert "`model` must be given to search by a text, such as 'a cat'." in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "a.crh"], "`query` must be given, or `text`, but both are missing."),
        (["search", "s3://bucket", "00"], "`uri` must be FOLDER/NAME.lance"),
        (["search", "nothing.lance", "00"], "`uri` must be a table of codes, but there is no folder 'nothing.lance'."),
        (["dedupe", "nothing.lance", "--radius", "1"], "`uri` must be a table of codes, but there is no folder"),
        (["index", "codes", "--out", "a.crh", "--append"], "`append` must be given with a table (NAME.lance) only"),
        (["index", "codes", "--out", "a.lance", "--kind", "hnsw"], "`kind` must be auto, flat or ivf for a table"),
        (["index", "codes", "--out", "a.lance"], "`codes` must be a parquet file, or a folder that holds some"),
        (["index", "codes", "--out", "nowhere/a.lance"], "`uri` must be in a folder that exists, but got"),
        (["index", "codes", "--out", "a.lance", "--append"], "`uri` must be a table of codes, but there is no folder"),
    ],
)
def test_bad_input_gets_one_sentence(crh, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    HammingIndex(np.zeros((2, 1), np.uint8)).save("a.crh")
    before = sorted(tmp_path.iterdir())
    code, output, errors = crh(*arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert sorted(tmp_path.iterdir()) == before


def test_an_image_model_is_refused_for_a_text(crh, index_path, tiny_checkpoint):
    code, output, errors = crh("search", index_path, "--text", "a cat", "--model", tiny_checkpoint)
    assert (code, output) == (2, "")
    assert "`model` must read texts, but reads `pixel_values`." in errors
