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

BY_BITS = "Hits are ordered by their distance in bits."


@pytest.fixture
def done(crh):
    """Run a command that must succeed; gives its standard output, parsed where it is asked for as JSON."""

    def run(*arguments):
        code, output, errors = crh(*arguments)
        assert code == 0, errors
        return json.loads(output) if "--json" in arguments else output

    return run


@pytest.fixture
def hits(done):
    """What each query of a search finds."""
    return lambda *arguments: [result["hits"] for result in done("search", *arguments, "--json")["results"]]


@pytest.fixture
def refused(crh):
    """Check that a command ends with one sentence."""

    def check(arguments, message):
        code, output, errors = crh(*arguments)
        assert (code, output) == (2, "")
        assert message in errors
        assert "Traceback" not in errors

    return check


@pytest.fixture
def dark(image_folder):
    """One of the images of the index."""
    return image_folder / "dark" / "03.png"


def read_csv(file):
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def test_index_writes_what_encode_wrote(done, encoded, tiny_checkpoint, tmp_path):
    file, table = tmp_path / "index.crh", tmp_path / "codes.lance"
    summary = {"items": 60, "num_bits": 16, "kind": "flat", "model": str(tiny_checkpoint)}
    found = done("index", encoded, "--out", file, "--json")
    assert found == {"index": str(file), "bytes": file.stat().st_size} | summary
    assert done("index", encoded, "--out", table, "--json") == {"index": str(table), "version": 1} | summary
    for source, out in ((encoded / "codes-00000.parquet", file), (encoded, table)):
        output = done("index", source, "--out", out, "--kind", "ivf", "--model", "org/name")
        assert output == f"60 codes of 16 bits, ivf, in {out}\n"
    assert HammingIndex.load(file).model == LanceIndex(table).model == "org/name"
    assert LanceIndex(table).at(1).model == str(tiny_checkpoint)


def test_a_file_of_codes_needs_no_lancedb(done, encoded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "modeling_crh.search.lance_index", None)  # as where LanceDB is not installed
    file = tmp_path / "index.crh"
    for command in (["index", encoded, "--out", file], ["search", file, "00ff"], ["dedupe", file, "--radius", 0]):
        done(*command)


def test_index_replaces_an_index_and_nothing_else(refused, encoded, tmp_path):
    before = (encoded / "codes-00000.parquet").read_bytes()
    for out in (encoded / "codes-00000.parquet", encoded, tmp_path / "nowhere" / "index"):
        refused(["index", encoded, "--out", out], "`out` must be a new file in a folder that exists, or an older index")
    assert (encoded / "codes-00000.parquet").read_bytes() == before


def test_search_finds_an_image_itself(done, index_path, tiny_checkpoint, dark):
    found = done("search", index_path, dark, "--model", tiny_checkpoint, "-k", 60, "--no-rerank", "--json")
    assert (found["num_bits"], found["kind"], found["model"]) == (16, "flat", str(tiny_checkpoint))
    (result,) = found["results"]
    assert result["query"] == str(dark)
    distances = [hit["distance"] for hit in result["hits"]]
    assert distances == sorted(distances)
    assert [hit["rank"] for hit in result["hits"]] == list(range(1, 61))
    assert str(dark) in [hit["path"] for hit in result["hits"] if hit["distance"] == 0]


def test_a_folder_is_all_of_its_images_and_a_code_needs_no_model(done, hits, index_path, tiny_checkpoint, dark):
    results = done("search", index_path, dark.parent, "--model", tiny_checkpoint, "-k", 1, "--json")["results"]
    assert [result["query"] for result in results] == [str(dark.parent / f"{n:02d}.png") for n in range(20)]
    assert hits(index_path, results[3]["code"].upper(), "-k", 1) == [results[3]["hits"]]


def test_a_table_finds_what_the_file_finds(done, hits, index_path, table_uri, tiny_checkpoint, dark):
    query = [dark.parent, "0f0f", "--model", tiny_checkpoint]
    for options in ([], ["--radius", 3]):
        assert hits(table_uri, *query, *options) == hits(index_path, *query, *options)
    one, other = (done("dedupe", uri, "--radius", 1, "--json")["groups"] for uri in (table_uri, index_path))
    assert one == other


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
    assert [hit["label"] for hit in found] == ["dark"] * 10
    for index, condition, message in (
        (index_path, "label = 'dark'", '`where` must be given with a table (NAME.lance) only, but got "label ='),
        (table_uri, "labels = 'dark'", "`where` must be a condition on the table, but \"labels = 'dark'\" is not"),
    ):
        refused(["search", index, "0f0f", "--where", condition], message)


@pytest.mark.parametrize("database", ["index_path", "table_uri"])
def test_hits_of_an_image_are_ordered_by_its_hash_logits_unless_it_is_told_otherwise(
    hits, refused, request, database, index_path, tiny_checkpoint, dark, encoder
):
    index = request.getfixturevalue(database)
    query = [dark, "--model", tiny_checkpoint, "-k", 60]
    (found,), (plain,) = hits(index, *query), hits(index, *query, "--no-rerank")
    assert hits(index, *query, "--rerank") == [found]
    assert [hit["id"] for hit in found] != [hit["id"] for hit in plain]
    assert [hit["distance"] for hit in plain] == sorted(hit["distance"] for hit in found)
    logits = query_logits(find_queries([str(dark)], 16), 16, encoder)
    codes = unpack_codes(torch.from_numpy(HammingIndex.load(index_path).packed)).float()
    similarity = (codes @ logits[0])[[hit["id"] for hit in found]]
    assert (similarity[:-1] >= similarity[1:] - 1e-4).all()
    message = "`query` must be an input of the model to have hash logits, but '0f0f' is a code."
    refused(["search", index, "0f0f", "--rerank"], message)
    refused(["search", index, *query, "--rerank", "--radius", 3], "`radius` must not be given with re-ranking")


def test_a_code_beside_an_image_and_a_radius_are_ordered_by_bits(done, hits, index_path, tiny_checkpoint, dark):
    model = ["--model", tiny_checkpoint]
    mixed = done("search", index_path, "0f0f", dark, "00ff", *model, "--json")["results"]
    assert [result["order"] for result in mixed] == ["bits", "logits", "bits"]
    assert [mixed[0]["hits"], mixed[2]["hits"]] == hits(index_path, "0f0f", "00ff")
    assert [mixed[1]["hits"]] == hits(index_path, dark, *model)
    near = [index_path, dark, *model, "--radius", 4, "-k", 5]
    assert hits(*near) == hits(*near, "--no-rerank")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["IMAGE"], "Hits are ordered by the dot product of their codes with the hash logits of the query, not by bi"),
        (["IMAGE", "0f0f"], "not by bits; those of codes, by their distance in bits."),
        *((options, BY_BITS) for options in (["IMAGE", "--no-rerank"], ["IMAGE", "--radius", "4"], ["0f0f"])),
    ],
)
def test_the_table_and_the_page_say_once_how_hits_are_ordered(
    done, index_path, tiny_checkpoint, dark, tmp_path, options, sentence
):
    given = [dark if option == "IMAGE" else option for option in options]
    page = tmp_path / "page.html"
    output = done("search", index_path, *given, "--model", tiny_checkpoint, "--html", page)
    for text in (output, page.read_text()):
        assert text.count("Hits are ordered by") == 1
        assert sentence in text


def test_texts_find_texts(done, hits, refused, text_checkpoint, tmp_path):
    texts = ["the cat sat on the mat", "a dog ran under a tree", "the dog slept"]
    (tmp_path / "texts.csv").write_text("\n".join(["text,key", *(f"{text},row {text[-3:]}" for text in texts)]) + "\n")
    source, index, model = tmp_path / "texts.csv", tmp_path / "texts.crh", ["--model", text_checkpoint]
    column = ["--text-column", "text"]
    done("encode", text_checkpoint, source, *column, "--id-column", "key", "--out", tmp_path / "codes")
    done("index", tmp_path / "codes", "--out", index)
    assert [result[0]["id"] for result in hits(index, source, *column, *model)] == ["row mat", "row ree", "row ept"]
    (tmp_path / "blank.csv").write_text("text\na cat\n  \n")
    refused(["search", index, tmp_path / "blank.csv", *column, *model], "blank.csv is not")
    for more in ([], ["--rerank"]):
        results = hits(index, *model, "--text", texts[1], "--text", texts[2], *more)
        assert [(found[0]["id"], found[0]["distance"]) for found in results] == [("row ree", 0), ("row ept", 0)]
    refused(["search", index, "--text", "a cat"], "`model` must be given to search by texts, such as 'a cat'.")


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
    done, hits, refused, words_run, index_path, table_uri, tiny_checkpoint, text_checkpoint, dark, tmp_path
):
    centers = load_model(tiny_checkpoint).centers
    index = HammingIndex(pack_codes(centers), labels=["cat", "dog", "tree"], model=str(tiny_checkpoint))
    index.save(tmp_path / "centers.crh")
    words = ["--text", "a dog ran", "--text", "the tree", "--model", words_run]
    found = hits(tmp_path / "centers.crh", *words, "-k", 1, "--rerank")
    assert [result[0]["label"] for result in found] == ["dog", "tree"]
    for database in (index_path, table_uri):
        done("search", database, *words)
    message = f"`model` must be the one that made the codes of the index, {str(tiny_checkpoint)!r}, but got"
    refused(["search", index_path, "--text", "a dog", "--model", text_checkpoint], message)
    done("encode", words_run, words_run.parent / "words.csv", "--text-column", "text", "--out", tmp_path / "codes")
    done("index", tmp_path / "codes", "--out", tmp_path / "words.crh")
    done("search", tmp_path / "words.crh", dark, "--model", tiny_checkpoint)
    gone = HammingIndex(np.zeros((1, 2), np.uint8), model=str(tmp_path / "gone"))
    gone.save(tmp_path / "gone.crh")
    refused(["search", tmp_path / "gone.crh", *words], f"but '{tmp_path / 'gone'}' is not")


def test_a_person_sees_a_table(done, index_path, tmp_path):
    output = done("search", index_path, "0000", "ffff", "-k", 2)
    assert output.count("0000") == 1
    assert "bits" in output
    assert "bright/" in output or "dark/" in output or "striped/" in output
    HammingIndex(np.zeros((2, 2), np.uint8)).save(tmp_path / "index")
    nothing = ["search", tmp_path / "index", "0001", "--radius", 0]
    assert "nothing found" in done(*nothing)
    assert done(*nothing, "--json")["results"] == [{"query": "0001", "code": "0001", "order": "bits", "hits": []}]


def test_a_file_gets_each_row_of_a_table_as_one_line_unless_columns_says_how_wide_lines_are(
    done, tmp_path, monkeypatch
):
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "/".join(["a folder of a long name"] * 20)
    HammingIndex(np.zeros((2, 2), np.uint8), paths=[path, "b"]).save(tmp_path / "index")
    for command in (("search", tmp_path / "index", "0000"), ("dedupe", tmp_path / "index", "--radius", 0)):
        assert path in done(*command)
    monkeypatch.setenv("COLUMNS", "80")
    assert path not in done("search", tmp_path / "index", "0000")


def test_what_an_index_says_cannot_steer_the_terminal(done, tmp_path):
    index = HammingIndex(np.zeros((2, 2), np.uint8), paths=["[red]\x1b[2Jpath\u202e", "b"], labels=["[bold]x", "y"])
    index.save(tmp_path / "index")
    for command in (("search", tmp_path / "index", "0000"), ("dedupe", tmp_path / "index", "--radius", 0)):
        output = done(*command)
        assert "[red]\N{REPLACEMENT CHARACTER}[2Jpath\N{REPLACEMENT CHARACTER}" in output
        assert "\x1b[2J" not in output


def test_the_page_holds_pictures_and_nothing_that_runs(
    crh, index_path, table_uri, tiny_checkpoint, image_folder, dark, tmp_path
):
    page = tmp_path / "page.html"
    query = ["search", index_path, dark, "--model", tiny_checkpoint, "--html", page]

    def pictures(*arguments):
        code, output, errors = crh(*arguments)
        assert code == 0, errors
        return page.read_text().count("data:image/png;base64,"), output, errors

    assert pictures(*query)[0] == 1  # the query's
    shown, output, errors = pictures(*query, "--image-root", image_folder, "--json")
    assert (shown, json.loads(output)["html"], errors) == (11, str(page), "")
    shown, _, errors = pictures(*query, "-k", 60, "--image-root", dark.parent)
    assert shown == 21
    assert "Left 40 pictures of the database out of the page: outside of the image root." in errors
    assert pictures("search", table_uri, "0f0f", "--html", page, "--image-root", image_folder)[0] == 10


def test_dedupe_lists_groups_as_a_table_json_and_csv(crh, done, tmp_path):
    packed = np.array([[0, 0], [255, 255], [0, 1], [255, 255], [15, 15]], np.uint8)
    labels = [["a", "b"], ["c"], [], ["c"], ["d"]]
    index, out = tmp_path / "index", tmp_path / "groups.csv"
    HammingIndex(packed, ids=list("vwxyz"), labels=labels, paths=[f"{n}.png" for n in range(5)]).save(index)
    found = done("dedupe", index, "--radius", 1, "--json", "--out", out)
    assert [[record["id"] for record in group] for group in found.pop("groups")] == [["v", "x"], ["w", "y"]]
    counts = {"radius": 1, "items": 5, "num_groups": 2, "duplicates": 2}
    assert found == counts | {"index": str(index), "out": str(out)}
    assert read_csv(out) == [
        ["group", "id", "label", "path"],
        ["1", "v", "a; b", "0.png"],
        ["1", "x", "", "2.png"],
        ["2", "w", "c", "1.png"],
        ["2", "y", "c", "3.png"],
    ]
    output = done("dedupe", index, "--radius", 0)
    assert "1.png, 3.png" in output
    assert output.endswith("1 duplicate in 1 group among 5 items\n")
    assert crh("dedupe", index, "--radius", 17)[0] == 2


def test_dedupe_says_which_item_of_a_group_to_keep_and_names_paths_below_the_image_root(done, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, size in zip(paths, (1, 3, 2), strict=True):
        path.write_bytes(bytes(size))
    HammingIndex(np.array([[0], [0], [255]], np.uint8), paths=list(map(str, paths))).save(tmp_path / "index")
    command = ["dedupe", tmp_path / "index", "--radius", 0, "--keep", "largest", "--image-root", tmp_path]
    (group,) = done(*command, "--json", "--out", tmp_path / "groups.csv")["groups"]
    assert [(record["path"], record["keep"]) for record in group] == [("a.png", False), ("b.png", True)]
    header, *rows = read_csv(tmp_path / "groups.csv")
    assert [(row[header.index("path")], row[header.index("keep")]) for row in rows] == [
        ("a.png", "no"),
        ("b.png", "yes"),
    ]
    assert "b.png" in done(*command)


def test_dedupe_with_another_index_lists_what_is_in_it_already(done, refused, tmp_path):
    HammingIndex(np.array([[0], [255], [7]], np.uint8), paths=["new/0", "new/1", "new/2"]).save(tmp_path / "new")
    HammingIndex(np.array([[15], [254], [254]], np.uint8), ids=[7, 8, 9]).save(tmp_path / "old")
    data = ("dedupe", tmp_path / "new", tmp_path / "old", "--radius", 1)
    found = done(*data, "--json", "--out", tmp_path / "found.csv")
    assert (found["duplicates"], found["items"]) == (2, 3)
    pairs = [(one["path"], one["distance"], one["of"]["id"]) for one in found["found"]]
    assert pairs == [("new/1", 1, 8), ("new/2", 1, 7)]
    assert read_csv(tmp_path / "found.csv")[1] == ["1", "", "new/1", "1", "8", "", ""]
    assert done(*data).endswith(f"2 duplicates of items in {tmp_path / 'old'} among 3 items\n")
    refused([*data, "--keep", "first"], "`keep` must be left out with a second index")
    same = ("dedupe", tmp_path / "new", f"{tmp_path}/./new", "--radius", 1)
    refused(same, "`other` must be another index, or be left out to find the duplicates within one, but got")
    refused([*data, "--image-root", tmp_path / "nowhere"], "`image_root` must be a folder, but got")


def test_search_names_paths_below_the_image_root(hits, index_path, image_folder):
    absolute, relative = hits(index_path, "0f0f"), hits(index_path, "0f0f", "--image-root", image_folder)
    assert [str(image_folder / hit["path"]) for hit in relative[0]] == [hit["path"] for hit in absolute[0]]
    assert not any(hit["path"].startswith("/") for hit in relative[0])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("search a.crh", "`query` must be given, or `text`, but both are missing."),
        ("search a.crh 0000 --model org/other", "that made the codes of the index, 'org/m', but got 'org/other';"),
        ("search a.crh 000", "code of 4 hexadecimal digits, but got '000', and there is no such file or folder."),
        ("search a.crh 0000 -k 0", "`k` must be a whole number, 1 or larger, but got 0."),
        ("search a.crh 0000 --radius 17", "`radius` must be a whole number of bits from 0 to 16, but got 17."),
        ("search a.crh 0000 -k 1 --radius -1", "`radius` must be a whole number of bits from 0 to 16, but got -1."),
        ("search a.crh 0000 --html p.html --image-root nowhere", "`image_root` must be a folder, but got"),
        ("search a.crh 0000 --image-root nowhere", "`image_root` must be a folder, but got"),
        ("search a.crh a.png", "`model` must be given to search by images, such as 'a.png'."),
        ("search a.crh folder", "must hold images, sounds or tables, but the folder 'folder' holds none."),
        ("search s3://bucket 00", "`uri` must be FOLDER/NAME.lance"),
        ("search nothing.lance 00", "`uri` must be a table of codes, but there is no folder 'nothing.lance'."),
        ("search nothing 0000", "`path` must be the file of an index, but there is no file 'nothing'."),
        ("search other 0000", "`path` must be the file of an index, but 'other' is another file."),
        ("search damaged 0000", "`path` must be an undamaged index, but the checksum of 'damaged' is wrong."),
        ("dedupe nothing --radius 1", "`path` must be the file of an index, but there is no file"),
        ("dedupe nothing.lance --radius 1", "`uri` must be a table of codes, but there is no folder"),
        ("index codes --out b.crh --append", "`append` must be given with a table (NAME.lance) only"),
        ("index codes --out b.lance", "`codes` must be a parquet file, or a folder that holds some"),
    ],
)
def test_bad_input_gets_one_sentence_and_writes_nothing(refused, command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    HammingIndex(np.zeros((2, 2), np.uint8), model="org/m").save("a.crh")
    PIL.Image.new("RGB", (4, 4)).save("a.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "damaged").write_bytes((tmp_path / "a.crh").read_bytes()[:-1])
    before = sorted(tmp_path.iterdir())
    refused(command.split(), message)
    assert sorted(tmp_path.iterdir()) == before
