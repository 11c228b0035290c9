import csv
import json

import numpy as np
import PIL.Image
import pytest

from modeling_crh.search import HammingIndex


def test_index_writes_what_encode_wrote(crh, encoded, tiny_checkpoint, tmp_path):
    out = tmp_path / "index.crh"
    code, output, errors = crh("index", encoded, "--out", out, "--json")
    assert code == 0, errors
    assert json.loads(output) == {
        "index": str(out),
        "items": 60,
        "num_bits": 16,
        "kind": "flat",
        "model": str(tiny_checkpoint),
        "bytes": out.stat().st_size,
    }
    assert len(HammingIndex.load(out)) == 60
    code, output, _ = crh(
        "index", encoded / "codes-00000.parquet", "--out", out, "--kind", "hnsw", "--model", "org/name"
    )
    assert (code, output) == (0, f"60 codes of 16 bits, hnsw, in {out}\n")
    assert HammingIndex.load(out).model == "org/name"


def test_index_replaces_an_index_and_nothing_else(crh, encoded, tmp_path):
    before = (encoded / "codes-00000.parquet").read_bytes()
    for out in (encoded / "codes-00000.parquet", encoded, tmp_path / "nowhere" / "index"):
        code, output, errors = crh("index", encoded, "--out", out)
        assert (code, output) == (2, "")
        assert "`out` must be a new file in a folder that exists, or an older index, but got" in errors
    assert (encoded / "codes-00000.parquet").read_bytes() == before


def test_search_finds_an_image_itself(crh, index_path, tiny_checkpoint, image_folder):
    query = image_folder / "dark" / "03.png"
    code, output, errors = crh("search", index_path, query, "--model", tiny_checkpoint, "-k", 60, "--json")
    assert code == 0, errors
    found = json.loads(output)
    assert (found["num_bits"], found["kind"], found["model"]) == (16, "flat", str(tiny_checkpoint))
    (result,) = found["results"]
    assert result["query"] == str(query)
    distances = [hit["distance"] for hit in result["hits"]]
    assert distances == sorted(distances)
    assert [hit["rank"] for hit in result["hits"]] == list(range(1, 61))
    assert str(query) in [hit["path"] for hit in result["hits"] if hit["distance"] == 0]


def test_a_folder_is_all_of_its_images_and_a_code_needs_no_model(crh, index_path, tiny_checkpoint, image_folder):
    code, output, _ = crh("search", index_path, image_folder / "dark", "--model", tiny_checkpoint, "-k", 1, "--json")
    assert code == 0
    results = json.loads(output)["results"]
    assert [result["query"] for result in results] == [str(image_folder / "dark" / f"{n:02d}.png") for n in range(20)]
    code, output, _ = crh("search", index_path, results[3]["code"].upper(), "-k", 1, "--json")
    assert code == 0
    assert json.loads(output)["results"][0]["hits"] == results[3]["hits"]


def test_a_radius_with_k_is_the_nearest_within_it(crh, index_path):
    def distances(*options):
        code, output, errors = crh("search", index_path, "0f0f", "--json", *options)
        assert code == 0, errors
        return [hit["distance"] for hit in json.loads(output)["results"][0]["hits"]]

    everything = distances("-k", 60)
    assert distances() == everything[:10]
    radius = everything[30]
    assert distances("--radius", radius) == [near for near in everything if near <= radius]
    assert distances("--radius", radius, "-k", 3) == everything[:3]
    assert distances("--radius", everything[0], "-k", 60) == [near for near in everything if near == everything[0]]
    assert distances("--radius", 16) == everything


def test_a_person_sees_a_table(crh, index_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, output, _ = crh("search", index_path, "0000", "ffff", "-k", 2)
    assert code == 0
    assert output.count("0000") == 1
    assert "bits" in output
    assert "bright/" in output or "dark/" in output or "striped/" in output


def test_a_radius_may_find_nothing(crh, tmp_path):
    HammingIndex(np.zeros((2, 2), np.uint8)).save(tmp_path / "index")
    code, output, _ = crh("search", tmp_path / "index", "0001", "--radius", 0)
    assert code == 0
    assert "nothing found" in output
    code, output, _ = crh("search", tmp_path / "index", "0001", "--radius", 0, "--json")
    assert json.loads(output)["results"] == [{"query": "0001", "code": "0001", "hits": []}]


def test_what_an_index_says_cannot_steer_the_terminal(crh, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    index = HammingIndex(np.zeros((2, 2), np.uint8), paths=["[red]\x1b[2Jpath\u202e", "b"], labels=["[bold]x", "y"])
    index.save(tmp_path / "index")
    for command in (("search", tmp_path / "index", "0000"), ("dedupe", tmp_path / "index", "--radius", 0)):
        code, output, _ = crh(*command)
        assert code == 0
        assert "[red]\N{REPLACEMENT CHARACTER}[2Jpath\N{REPLACEMENT CHARACTER}" in output
        assert "\x1b[2J" not in output


def test_the_page_holds_pictures_and_nothing_that_runs(crh, index_path, tiny_checkpoint, image_folder, tmp_path):
    page = tmp_path / "page.html"
    query = ["search", index_path, image_folder / "dark" / "03.png", "--model", tiny_checkpoint, "--html", page]
    code, _, errors = crh(*query)
    assert (code, errors) == (0, "")
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 1  # the query's
    code, output, errors = crh(*query, "--image-root", image_folder, "--json")
    assert (code, errors) == (0, "")
    assert json.loads(output)["html"] == str(page)
    assert page.read_text().count("data:image/png;base64,") == 11
    code, _, errors = crh(*query, "-k", 60, "--image-root", image_folder / "dark")
    assert code == 0
    assert page.read_text().count("data:image/png;base64,") == 21
    assert "Left 40 pictures of the database out of the page: outside of the image root." in errors


def test_another_model_is_refused_by_both_names(crh, index_path, tiny_checkpoint, image_folder):
    code, output, errors = crh("search", index_path, image_folder / "dark", "--model", "org/other")
    assert (code, output) == (2, "")
    assert f"that made the codes of the index, '{tiny_checkpoint}', but got 'org/other'." in errors

    assert crh("search", index_path, "0000", "--model", "org/other")[0] == 2


def test_the_same_model_by_another_path_is_welcome(crh, index_path, tiny_checkpoint, image_folder, monkeypatch):
    monkeypatch.chdir(tiny_checkpoint.parent)
    query = image_folder / "dark" / "03.png"
    assert crh("search", index_path, query, "--model", f"./{tiny_checkpoint.name}/")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0000", "--image-root", "."], "`image_root` must be given with `html` only, but got '.' without."),
        (
            ["000"],
            "`query` must be an image file, a folder of images or a code of 4 hexadecimal digits, but got '000'.",
        ),
        (["0000", "-k", "0"], "`k` must be a whole number, 1 or larger, but got 0."),
        (["0000", "--radius", "17"], "`radius` must be a whole number of bits from 0 to 16, but got 17."),
        (["0000", "-k", "1", "--radius", "-1"], "`radius` must be a whole number of bits from 0 to 16, but got -1."),
        (["0000", "--html", "p.html", "--image-root", "nowhere"], "`image_root` must be a folder, but got 'nowhere'."),
        (["picture.png"], "`model` must be given to search by an image, such as 'picture.png'."),
        (["folder"], "`query` must hold at least one image file, but the folder 'folder' holds none."),
    ],
)
def test_bad_queries_get_one_sentence(crh, index_path, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PIL.Image.new("RGB", (4, 4)).save("picture.png")
    (tmp_path / "folder").mkdir()
    code, output, errors = crh("search", index_path, *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("command", [["search", "index", "0000"], ["dedupe", "index", "--radius", "1"]])
@pytest.mark.parametrize("content", [None, b"other", b"CRHINDEX\1\0\0\0 and so on"])
def test_what_is_no_index_gets_one_sentence(crh, command, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "index").write_bytes(content)
    code, output, errors = crh(*command)
    assert (code, output) == (2, "")
    assert "`path` must be" in errors
    assert "Traceback" not in errors


def test_dedupe_lists_groups_as_a_table_json_and_csv(crh, tmp_path):
    packed = np.array([[0, 0], [255, 255], [0, 1], [255, 255], [15, 15]], np.uint8)
    labels = [["a", "b"], ["c"], [], ["c"], ["d"]]
    HammingIndex(packed, ids=list("vwxyz"), labels=labels, paths=[f"{n}.png" for n in range(5)]).save(
        tmp_path / "index"
    )
    code, output, _ = crh("dedupe", tmp_path / "index", "--radius", 1, "--json", "--out", tmp_path / "groups.csv")
    assert code == 0
    found = json.loads(output)
    assert [[record["id"] for record in group] for group in found.pop("groups")] == [["v", "x"], ["w", "y"]]
    assert found == {
        "radius": 1,
        "items": 5,
        "num_groups": 2,
        "duplicates": 2,
        "index": str(tmp_path / "index"),
        "out": str(tmp_path / "groups.csv"),
    }
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
    assert "1 groups; 1 of 5 items to spare" in output
    assert crh("dedupe", tmp_path / "index", "--radius", 17)[0] == 2
