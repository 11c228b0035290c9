"""`crh index`, `search` and `dedupe`, with a file over FAISS and with a table of LanceDB."""

import csv
import json
import sys

import numpy as np
import PIL.Image
import pytest
import torch

from modeling_crh.codes import pack_codes, unpack_codes
from modeling_crh.encoding.loading import load_checkpoint, load_model
from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex
from modeling_crh.search.queries import find_queries, query_logits
from modeling_crh.training.recipe import Recipe
from modeling_crh.training.run import train


@pytest.fixture
def hits(crh):
    """What each query of a search finds."""

    def find(*arguments):
        code, output, errors = crh("search", *arguments, "--json")
        assert code == 0, errors
        return [result["hits"] for result in json.loads(output)["results"]]

    return find


@pytest.fixture
def refused(crh):
    """Check that a command ends with one sentence."""

    def check(arguments, message):
        code, output, errors = crh(*arguments)
        assert (code, output) == (2, "")
        assert message in errors
        assert "Traceback" not in errors

    return check


def test_index_writes_what_encode_wrote(crh, encoded, tiny_checkpoint, tmp_path):
    file, table = tmp_path / "index.crh", tmp_path / "codes.lance"
    summary = {"items": 60, "num_bits": 16, "kind": "flat", "model": str(tiny_checkpoint)}
    code, output, errors = crh("index", encoded, "--out", file, "--json")
    assert code == 0, errors
    assert json.loads(output) == {"index": str(file), "bytes": file.stat().st_size} | summary
    assert (
        json.loads(crh("index", encoded, "--out", table, "--json")[1]) == {"index": str(table), "version": 1} | summary
    )
    shard = encoded / "codes-00000.parquet"
    code, output, _ = crh("index", shard, "--out", file, "--kind", "ivf", "--model", "org/name")
    assert (code, output) == (0, f"60 codes of 16 bits, ivf, in {file}\n")
    assert HammingIndex.load(file).model == "org/name"
    code, output, _ = crh("index", encoded, "--out", table, "--kind", "ivf", "--model", "org/name")
    assert (code, output) == (0, f"60 codes of 16 bits, ivf, in {table}\n")
    assert (LanceIndex(table).model, LanceIndex(table).at(1).model) == ("org/name", str(tiny_checkpoint))


def test_a_file_of_codes_needs_no_lancedb(crh, encoded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "modeling_crh.search.lance_index", None)  # as where LanceDB is not installed
    file = tmp_path / "index.crh"
    for command in (["index", encoded, "--out", file], ["search", file, "00ff"], ["dedupe", file, "--radius", 0]):
        code, _, errors = crh(*command)
        assert code == 0, errors


def test_index_replaces_an_index_and_nothing_else(refused, encoded, tmp_path):
    before = (encoded / "codes-00000.parquet").read_bytes()
    for out in (encoded / "codes-00000.parquet", encoded, tmp_path / "nowhere" / "index"):
        refused(["index", encoded, "--out", out], "`out` must be a new file in a folder that exists, or an older index")
    assert (encoded / "codes-00000.parquet").read_bytes() == before


def test_search_finds_an_image_itself(crh, index_path, tiny_checkpoint, image_folder):
    query = image_folder / "dark" / "03.png"
    options = ["--model", tiny_checkpoint, "-k", 60, "--no-rerank", "--json"]
    code, output, errors = crh("search", index_path, query, *options)
    assert code == 0, errors
    found = json.loads(output)
    assert (found["num_bits"], found["kind"], found["model"]) == (16, "flat", str(tiny_checkpoint))
    (result,) = found["results"]
    assert result["query"] == str(query)
    distances = [hit["distance"] for hit in result["hits"]]
    assert distances == sorted(distances)
    assert [hit["rank"] for hit in result["hits"]] == list(range(1, 61))
    assert str(query) in [hit["path"] for hit in result["hits"] if hit["distance"] == 0]


def test_a_folder_is_all_of_its_images_and_a_code_needs_no_model(crh, hits, index_path, tiny_checkpoint, image_folder):
    code, output, _ = crh("search", index_path, image_folder / "dark", "--model", tiny_checkpoint, "-k", 1, "--json")
    assert code == 0
    results = json.loads(output)["results"]
    assert [result["query"] for result in results] == [str(image_folder / "dark" / f"{n:02d}.png") for n in range(20)]
    assert hits(index_path, results[3]["code"].upper(), "-k", 1) == [results[3]["hits"]]


def test_a_table_finds_what_the_file_finds(crh, hits, index_path, table_uri, tiny_checkpoint, image_folder):
    query = [image_folder / "dark", "0f0f", "--model", tiny_checkpoint]
    assert hits(table_uri, *query) == hits(index_path, *query)
    assert hits(table_uri, *query, "--radius", 3) == hits(index_path, *query, "--radius", 3)
    outputs = [crh("dedupe", uri, "--radius", 1, "--json")[1] for uri in (table_uri, index_path)]
    assert json.loads(outputs[0])["groups"] == json.loads(outputs[1])["groups"]


def test_a_radius_with_k_is_the_nearest_within_it(hits, index_path):
    def distances(*options):
        return [hit["distance"] for hit in hits(index_path, "0f0f", *options)[0]]

    everything = distances("-k", 60)
    assert distances() == everything[:10]
    radius = everything[30]
    assert distances("--radius", radius) == [near for near in everything if near <= radius]
    assert distances("--radius", radius, "-k", 3) == everything[:3]
    assert distances("--radius", everything[0], "-k", 60) == [near for near in everything if near == everything[0]]
    assert distances("--radius", 16) == everything


def test_a_condition_chooses_items_of_a_table(hits, refused, table_uri, index_path):
    (found,) = hits(table_uri, "0f0f", "-k", 60, "--where", "label = 'dark' AND id % 2 = 0")
    assert len(found) == 10
    assert {hit["label"] for hit in found} == {"dark"}
    message = "`where` must be given with a table (NAME.lance) only, but got \"label = 'dark'\"."
    refused(["search", index_path, "0f0f", "--where", "label = 'dark'"], message)
    message = "`where` must be a condition on the table, but \"labels = 'dark'\" is not"
    refused(["search", table_uri, "0f0f", "--where", "labels = 'dark'"], message)


@pytest.mark.parametrize("database", ["index_path", "table_uri"])
def test_hits_of_an_image_are_ordered_by_its_hash_logits_unless_it_is_told_otherwise(
    hits, refused, request, database, index_path, tiny_checkpoint, image_folder, encoder
):
    index = request.getfixturevalue(database)
    query = [image_folder / "dark" / "03.png", "--model", tiny_checkpoint, "-k", 60]
    (found,), (plain,) = hits(index, *query), hits(index, *query, "--no-rerank")
    assert hits(index, *query, "--rerank") == [found]
    assert [hit["id"] for hit in found] != [hit["id"] for hit in plain]
    assert [hit["distance"] for hit in plain] == sorted(hit["distance"] for hit in found)
    logits = query_logits(find_queries([str(query[0])], 16), 16, encoder)
    codes = unpack_codes(torch.from_numpy(HammingIndex.load(index_path).packed)).float()
    similarity = (codes @ logits[0])[[hit["id"] for hit in found]]
    assert (similarity[:-1] >= similarity[1:] - 1e-4).all()
    message = "`query` must be an input of the model to have hash logits, but '0f0f' is a code."
    refused(["search", index, "0f0f", "--rerank"], message)
    refused(["search", index, *query, "--rerank", "--radius", 3], "`radius` must not be given with re-ranking")


def test_a_code_beside_an_image_and_a_radius_are_ordered_by_bits(crh, hits, index_path, tiny_checkpoint, image_folder):
    image, model = image_folder / "dark" / "03.png", ["--model", tiny_checkpoint]
    mixed = json.loads(crh("search", index_path, "0f0f", image, "00ff", *model, "--json")[1])["results"]
    assert [result["order"] for result in mixed] == ["bits", "logits", "bits"]
    assert [mixed[0]["hits"], mixed[2]["hits"]] == hits(index_path, "0f0f", "00ff")
    assert [mixed[1]["hits"]] == hits(index_path, image, *model)
    near = hits(index_path, image, *model, "--radius", 4, "-k", 5)
    assert near == hits(index_path, image, *model, "--radius", 4, "-k", 5, "--no-rerank")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["IMAGE"],
            "Hits are ordered by the dot product of their codes with the hash logits of the query, not by bits.",
        ),
        (["IMAGE", "0f0f"], "not by bits; those of codes, by their distance in bits."),
        (["IMAGE", "--no-rerank"], "Hits are ordered by their distance in bits."),
        (["IMAGE", "--radius", "4"], "Hits are ordered by their distance in bits."),
        (["0f0f"], "Hits are ordered by their distance in bits."),
    ],
)
def test_the_table_and_the_page_say_once_how_hits_are_ordered(
    crh, index_path, tiny_checkpoint, image_folder, tmp_path, options, sentence
):
    given = [image_folder / "dark" / "03.png" if option == "IMAGE" else option for option in options]
    page = tmp_path / "page.html"
    code, output, errors = crh("search", index_path, *given, "--model", tiny_checkpoint, "--html", page)
    assert code == 0, errors
    for text in (output, page.read_text()):
        assert text.count("Hits are ordered by") == 1
        assert sentence in text


def test_texts_find_texts(crh, hits, refused, text_checkpoint, tmp_path):
    texts = ["the cat sat on the mat", "a dog ran under a tree", "the dog slept"]
    (tmp_path / "texts.csv").write_text("\n".join(["text,key", *(f"{text},row {text[-3:]}" for text in texts)]) + "\n")
    source = [tmp_path / "texts.csv", "--text-column", "text", "--id-column", "key"]
    assert crh("encode", text_checkpoint, *source, "--out", tmp_path / "codes")[0] == 0
    assert crh("index", tmp_path / "codes", "--out", tmp_path / "texts.crh")[0] == 0
    query = [tmp_path / "texts.crh", "--model", text_checkpoint, "--text", texts[1], "--text", texts[2]]
    tables = [tmp_path / "texts.crh", tmp_path / "texts.csv", "--text-column", "text", "--model", text_checkpoint]
    assert [result[0]["id"] for result in hits(*tables)] == ["row mat", "row ree", "row ept"]
    (tmp_path / "blank.csv").write_text("text\na cat\n  \n")
    refused(["search", tables[0], tmp_path / "blank.csv", *tables[2:]], "blank.csv is not")
    for more in ([], ["--rerank"]):
        found = [(result[0]["id"], result[0]["distance"]) for result in hits(*query, *more)]
        assert found == [("row ree", 0), ("row ept", 0)]
    message = "`model` must be given to search by texts, such as 'a cat'."
    refused(["search", tmp_path / "texts.crh", "--text", "a cat"], message)


@pytest.fixture(scope="module")
def words_run(text_checkpoint, tiny_checkpoint, tmp_path_factory):
    """Folder of a run on texts, to the centers of the tiny checkpoint of images, and the folder of its backbone."""
    folder = tmp_path_factory.mktemp("words")
    model, tokenizer = load_checkpoint(text_checkpoint)
    model.backbone.save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    texts = ["the cat sat", "a dog ran", "the tree"]
    rows = [f"{text},LABEL_{number}" for number, text in enumerate(texts)] * 8
    (folder / "words.csv").write_text("\n".join(["text,label", *rows]))
    recipe = Recipe(
        dataset=str(folder / "words.csv"),
        text_column="text",
        backbone=str(folder / "bert"),
        centers_from=str(tiny_checkpoint),
        training={"num_train_epochs": 30, "learning_rate": 0.01, "load_best_model_at_end": False, "use_cpu": True},
    )
    train(recipe, folder / "run")
    return folder / "run"


def test_words_find_the_codes_of_a_model_whose_centers_theirs_has(
    crh, refused, words_run, index_path, table_uri, tiny_checkpoint, text_checkpoint, image_folder, tmp_path
):
    centers = load_model(tiny_checkpoint).centers
    index = HammingIndex(pack_codes(centers), labels=["cat", "dog", "tree"], model=str(tiny_checkpoint))
    index.save(tmp_path / "centers.crh")
    words = ["--text", "a dog ran", "--text", "the tree", "--model", words_run]
    code, output, errors = crh("search", tmp_path / "centers.crh", *words, "-k", 1, "--rerank", "--json")
    assert code == 0, errors
    assert [result["hits"][0]["label"] for result in json.loads(output)["results"]] == ["dog", "tree"]
    for database in (index_path, table_uri):
        assert crh("search", database, *words)[0] == 0
    message = f"`model` must be the one that made the codes of the index, {str(tiny_checkpoint)!r}, but got"
    refused(["search", index_path, "--text", "a dog", "--model", text_checkpoint], message)
    options = ["--text-column", "text", "--out", tmp_path / "codes"]
    assert crh("encode", words_run, words_run.parent / "words.csv", *options)[0] == 0
    assert crh("index", tmp_path / "codes", "--out", tmp_path / "words.crh")[0] == 0
    image = image_folder / "dark" / "03.png"
    assert crh("search", tmp_path / "words.crh", image, "--model", tiny_checkpoint)[0] == 0
    gone = HammingIndex(np.zeros((1, 2), np.uint8), model=str(tmp_path / "gone"))
    gone.save(tmp_path / "gone.crh")
    refused(["search", tmp_path / "gone.crh", *words], f"but '{tmp_path / 'gone'}' is not")


def test_a_person_sees_a_table(crh, index_path, tmp_path):
    code, output, _ = crh("search", index_path, "0000", "ffff", "-k", 2)
    assert code == 0
    assert output.count("0000") == 1
    assert "bits" in output
    assert "bright/" in output or "dark/" in output or "striped/" in output
    HammingIndex(np.zeros((2, 2), np.uint8)).save(tmp_path / "index")
    assert "nothing found" in crh("search", tmp_path / "index", "0001", "--radius", 0)[1]
    output = crh("search", tmp_path / "index", "0001", "--radius", 0, "--json")[1]
    assert json.loads(output)["results"] == [{"query": "0001", "code": "0001", "order": "bits", "hits": []}]


def test_a_file_gets_each_row_of_a_table_as_one_line_unless_columns_says_how_wide_lines_are(crh, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "/".join(["a folder of a long name"] * 20)
    HammingIndex(np.zeros((2, 2), np.uint8), paths=[path, "b"]).save(tmp_path / "index")
    for command in (("search", tmp_path / "index", "0000"), ("dedupe", tmp_path / "index", "--radius", 0)):
        assert path in crh(*command)[1]
    monkeypatch.setenv("COLUMNS", "80")
    assert path not in crh("search", tmp_path / "index", "0000")[1]


def test_what_an_index_says_cannot_steer_the_terminal(crh, tmp_path):
    index = HammingIndex(np.zeros((2, 2), np.uint8), paths=["[red]\x1b[2Jpath\u202e", "b"], labels=["[bold]x", "y"])
    index.save(tmp_path / "index")
    for command in (("search", tmp_path / "index", "0000"), ("dedupe", tmp_path / "index", "--radius", 0)):
        code, output, _ = crh(*command)
        assert code == 0
        assert "[red]\N{REPLACEMENT CHARACTER}[2Jpath\N{REPLACEMENT CHARACTER}" in output
        assert "\x1b[2J" not in output


def test_the_page_holds_pictures_and_nothing_that_runs(
    crh, index_path, table_uri, tiny_checkpoint, image_folder, tmp_path
):
    page = tmp_path / "page.html"
    query = ["search", index_path, image_folder / "dark" / "03.png", "--model", tiny_checkpoint, "--html", page]

    def pictures(*arguments):
        code, output, errors = crh(*arguments)
        assert code == 0, errors
        return page.read_text().count("data:image/png;base64,"), output, errors

    assert pictures(*query)[0] == 1  # the query's
    shown, output, errors = pictures(*query, "--image-root", image_folder, "--json")
    assert (shown, json.loads(output)["html"], errors) == (11, str(page), "")
    shown, _, errors = pictures(*query, "-k", 60, "--image-root", image_folder / "dark")
    assert shown == 21
    assert "Left 40 pictures of the database out of the page: outside of the image root." in errors
    assert pictures("search", table_uri, "0f0f", "--html", page, "--image-root", image_folder)[0] == 10


def test_dedupe_lists_groups_as_a_table_json_and_csv(crh, tmp_path):
    packed = np.array([[0, 0], [255, 255], [0, 1], [255, 255], [15, 15]], np.uint8)
    labels = [["a", "b"], ["c"], [], ["c"], ["d"]]
    index = HammingIndex(packed, ids=list("vwxyz"), labels=labels, paths=[f"{n}.png" for n in range(5)])
    index.save(tmp_path / "index")
    code, output, _ = crh("dedupe", tmp_path / "index", "--radius", 1, "--json", "--out", tmp_path / "groups.csv")
    assert code == 0
    found = json.loads(output)
    assert [[record["id"] for record in group] for group in found.pop("groups")] == [["v", "x"], ["w", "y"]]
    counts = {"radius": 1, "items": 5, "num_groups": 2, "duplicates": 2}
    assert found == counts | {"index": str(tmp_path / "index"), "out": str(tmp_path / "groups.csv")}
    with (tmp_path / "groups.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["group", "id", "label", "path"],
            ["1", "v", "a; b", "0.png"],
            ["1", "x", "", "2.png"],
            ["2", "w", "c", "1.png"],
            ["2", "y", "c", "3.png"],
        ]
    code, output, _ = crh("dedupe", tmp_path / "index", "--radius", 0)
    assert code == 0
    assert "1.png, 3.png" in output
    assert output.endswith("1 duplicate in 1 group among 5 items\n")
    assert crh("dedupe", tmp_path / "index", "--radius", 17)[0] == 2


def test_dedupe_says_which_item_of_a_group_to_keep_and_names_paths_below_the_image_root(crh, tmp_path):
    for name, size in {"a.png": 1, "b.png": 3, "c.png": 2}.items():
        (tmp_path / name).write_bytes(bytes(size))
    packed = np.array([[0], [0], [255]], np.uint8)
    HammingIndex(packed, paths=[str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]).save(tmp_path / "index")
    options = ["--radius", 0, "--keep", "largest", "--image-root", tmp_path]
    code, output, errors = crh("dedupe", tmp_path / "index", *options, "--json", "--out", tmp_path / "groups.csv")
    assert code == 0, errors
    (group,) = json.loads(output)["groups"]
    assert [(record["path"], record["keep"]) for record in group] == [("a.png", False), ("b.png", True)]
    with (tmp_path / "groups.csv").open(newline="") as file:
        assert [(row["path"], row["keep"]) for row in csv.DictReader(file)] == [("a.png", "no"), ("b.png", "yes")]
    assert "b.png" in crh("dedupe", tmp_path / "index", *options)[1]


def test_dedupe_with_another_index_lists_what_is_in_it_already(crh, refused, tmp_path):
    HammingIndex(np.array([[0], [255], [7]], np.uint8), paths=["new/0", "new/1", "new/2"]).save(tmp_path / "new")
    HammingIndex(np.array([[15], [254], [254]], np.uint8), ids=[7, 8, 9]).save(tmp_path / "old")
    data = ("dedupe", tmp_path / "new", tmp_path / "old", "--radius", 1)
    code, output, errors = crh(*data, "--json", "--out", tmp_path / "found.csv")
    assert code == 0, errors
    found = json.loads(output)
    assert (found["duplicates"], found["items"]) == (2, 3)
    assert [(one["path"], one["distance"], one["of"]["id"]) for one in found["found"]] == [
        ("new/1", 1, 8),
        ("new/2", 1, 7),
    ]
    with (tmp_path / "found.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["1", "", "new/1", "1", "8", "", ""]
    code, output, _ = crh(*data)
    assert output.endswith(f"2 duplicates of items in {tmp_path / 'old'} among 3 items\n")
    refused([*data, "--keep", "first"], "`keep` must be left out with a second index")
    same = ("dedupe", tmp_path / "new", f"{tmp_path}/./new", "--radius", 1)
    refused(same, "`other` must be another index, or be left out to find the duplicates within one, but got")
    refused([*data, "--image-root", tmp_path / "nowhere"], "`image_root` must be a folder, but got")


def test_search_names_paths_below_the_image_root(hits, index_path, image_folder):
    absolute, relative = hits(index_path, "0f0f"), hits(index_path, "0f0f", "--image-root", image_folder)
    assert [str(image_folder / hit["path"]) for hit in relative[0]] == [hit["path"] for hit in absolute[0]]
    assert not any(hit["path"].startswith("/") for hit in relative[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.crh"], "`query` must be given, or `text`, but both are missing."),
        (["a.crh", "0000", "--model", "org/other"], "that made the codes of the index, 'org/m', but got 'org/other';"),
        (["a.crh", "000"], "or a code of 4 hexadecimal digits, but got '000', and there is no such file or folder."),
        (["a.crh", "0000", "-k", "0"], "`k` must be a whole number, 1 or larger, but got 0."),
        (["a.crh", "0000", "--radius", "17"], "`radius` must be a whole number of bits from 0 to 16, but got 17."),
        (["a.crh", "0000", "-k", "1", "--radius", "-1"], "`radius` must be a whole number of bits from 0 to 16, but"),
        (["a.crh", "0000", "--html", "p.html", "--image-root", "nowhere"], "`image_root` must be a folder, but got"),
        (["a.crh", "0000", "--image-root", "nowhere"], "`image_root` must be a folder, but got"),
        (["a.crh", "a.png"], "`model` must be given to search by images, such as 'a.png'."),
        (["a.crh", "folder"], "must hold images, sounds or tables, but the folder 'folder' holds none."),
        (["s3://bucket", "00"], "`uri` must be FOLDER/NAME.lance"),
        (["nothing.lance", "00"], "`uri` must be a table of codes, but there is no folder 'nothing.lance'."),
        (["nothing", "0000"], "`path` must be the file of an index, but there is no file 'nothing'."),
        (["other", "0000"], "`path` must be the file of an index, but 'other' is another file."),
        (["damaged", "0000"], "`path` must be an undamaged index, but the checksum of 'damaged' is wrong."),
    ],
)
def test_bad_queries_get_one_sentence(refused, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    HammingIndex(np.zeros((2, 2), np.uint8), model="org/m").save("a.crh")
    PIL.Image.new("RGB", (4, 4)).save("a.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "damaged").write_bytes((tmp_path / "a.crh").read_bytes()[:-1])
    refused(["search", *arguments], message)
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dedupe", "nothing", "--radius", "1"], "`path` must be the file of an index, but there is no file"),
        (["dedupe", "nothing.lance", "--radius", "1"], "`uri` must be a table of codes, but there is no folder"),
        (["index", "codes", "--out", "a.crh", "--append"], "`append` must be given with a table (NAME.lance) only"),
        (["index", "codes", "--out", "a.lance"], "`codes` must be a parquet file, or a folder that holds some"),
    ],
)
def test_bad_input_gets_one_sentence(refused, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(arguments, message)
    assert list(tmp_path.iterdir()) == []
