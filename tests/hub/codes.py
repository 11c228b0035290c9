"""Codes on the Hub, as data sets; collected by test_hub.py, in whose process the Hub is a loopback one."""

import contextlib
import io
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from huggingface_hub import DatasetCard

from modeling_crh.search import HammingIndex


@pytest.fixture
def codes_folder(crh, tiny_checkpoint, image_folder, tmp_path):
    code, _, errors = crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes")
    assert code == 0, errors
    return tmp_path / "codes"


def test_codes_go_up_as_a_data_set_and_load_and_stream(crh, codes_folder, image_folder, remote_files):
    local = pq.read_table(codes_folder / "codes-00000.parquet")
    code, output, errors = crh("push", codes_folder, "ada/codes", "--type", "dataset", "--model", "ada/tiny", "--json")
    assert code == 0, errors
    assert json.loads(output)["type"] == "dataset"
    files = remote_files("ada/codes", "dataset")
    assert set(files) == {".gitattributes", "README.md", "codes-00000.parquet"}
    assert not any(str(image_folder).encode() in content for content in files.values())
    rows = load_dataset("ada/codes", split="train")
    assert rows.column_names == local.column_names
    assert rows["code"][:] == local["code"].to_pylist()
    assert rows["path"][0] == "bright/00.png"
    streamed = list(load_dataset("ada/codes", split="train", streaming=True))
    assert [row["code"] for row in streamed] == local["code"].to_pylist()


def test_an_index_goes_up_as_codes_and_pushed_codes_are_indexed(
    crh, codes_folder, image_folder, remote_files, tmp_path
):
    crh("index", codes_folder, "--out", tmp_path / "photos.crh")
    code, _, errors = crh("push", tmp_path / "photos.crh", "ada/photos", "--type", "dataset", "--model", "ada/tiny")
    assert code == 0, errors
    assert not any(str(image_folder).encode() in content for content in remote_files("ada/photos", "dataset").values())
    code, _, errors = crh("index", "ada/photos", "--out", tmp_path / "again.crh")
    assert code == 0, errors
    first, again = HammingIndex.load(tmp_path / "photos.crh"), HammingIndex.load(tmp_path / "again.crh")
    np.testing.assert_array_equal(again.packed, first.packed)
    assert (again.model, again.records([0])[0]["path"]) == ("ada/tiny", "bright/00.png")
    again.push_to_hub("ada/drafts", revision="draft", private=True)
    third = HammingIndex.from_pretrained("ada/drafts", revision="draft", kind="ivf")
    np.testing.assert_array_equal(third.packed, first.packed)
    assert (third.kind, third.records([59])) == ("ivf", again.records([59]))
    code, _, errors = crh("index", "ada/none-such", "--out", tmp_path / "none.crh")
    assert (code, "or the Hub id of codes, but 'ada/none-such' is none" in errors) == (2, True)


def test_a_push_of_fewer_shards_leaves_none_of_the_earlier_ones(
    crh, codes_folder, tiny_checkpoint, image_folder, tmp_path, remote_files
):
    code, _, errors = crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "shards", "--shard-size", 25)
    assert code == 0, errors
    for folder, shards in ((tmp_path / "shards", 3), (codes_folder, 1)):
        assert crh("push", folder, "ada/shards", "--type", "dataset")[0] == 0
        files = remote_files("ada/shards", "dataset")
        assert [name for name in sorted(files) if name.endswith("t")] == [
            f"codes-{number:05d}.parquet" for number in range(shards)
        ]
        rows = load_dataset("ada/shards", split="train")
        assert rows["id"][:] == list(range(60))


def test_a_data_set_is_streamed_and_encoded(crh, tiny_checkpoint, image_folder, codes_folder, tmp_path, api):
    features = Features({"image": Image(), "label": ClassLabel(names=["bright", "dark", "striped"])})
    columns = {"image": sorted(map(str, image_folder.rglob("*.png"))), "label": [row // 20 for row in range(60)]}
    images = Dataset.from_dict(columns, features=features)
    api.create_repo("ada/images", repo_type="dataset")
    for number in range(3):
        file = tmp_path / f"train-{number}.parquet"
        images.select(range(20 * number, 20 * number + 20)).to_parquet(file)
        api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id="ada/images", repo_type="dataset")
    command = ["encode", tiny_checkpoint, "ada/images", "--out", tmp_path / "streamed", "--shard-size", 25]
    code, output, errors = crh(*command, "--json")
    assert code == 0, errors
    assert json.loads(output)["items"] == 60
    streamed, local = pq.read_table(tmp_path / "streamed"), pq.read_table(codes_folder)
    assert streamed["code"].to_pylist() == local["code"].to_pylist()
    assert streamed["label"].to_pylist() == local["label"].to_pylist()
    (tmp_path / "streamed" / "codes-00001.parquet").unlink()
    assert crh(*command)[0] == 0
    assert pq.read_table(tmp_path / "streamed").equals(streamed)
    api.delete_file("train-2.parquet", "ada/images", repo_type="dataset")
    code, _, errors = crh(*command)
    assert code == 2
    assert "`source` must be 'ada/images' as it was when" in errors
    code, _, errors = crh("encode", tiny_checkpoint, "ada/nothing", "--out", tmp_path / "nothing")
    assert code == 2
    assert "must be a folder, a table or a dataset that can be read, but 'ada/nothing' is not" in errors


@pytest.mark.parametrize("form", ["URL", ["data/*", "URL"], [{"split": "train", "path": ["zip://a.json::URL"]}]])
@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_a_data_set_whose_card_names_another_server_asks_it_nothing(
    form, file, crh, api, server, tiny_checkpoint, tmp_path
):
    name = f"ada/elsewhere-{len(str(form))}-{len(file)}"
    api.create_repo(name, repo_type="dataset")
    data_files = json.loads(json.dumps(form).replace("URL", f"{server.url}/a.json"))
    metadata = json.dumps({"configs": [{"config_name": "default", "data_files": data_files}]})
    content = f"---\n{metadata}\n---\n" if file == "README.md" else metadata
    for path, text in ((file, content), ("a.json", '{"image": "a.png"}')):
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=path, repo_id=name, repo_type="dataset")
    code, _, errors = crh("encode", tiny_checkpoint, name, "--out", tmp_path / "codes")
    assert (code, server.asked) == (2, []), errors
    assert f"its {file} names '" in errors


def test_codes_name_the_revision_of_a_model_on_the_hub(crh, tiny_checkpoint, image_folder, tmp_path, api):
    assert crh("push", tiny_checkpoint, "ada/encoder")[0] == 0
    code, _, errors = crh("encode", "ada/encoder", image_folder, "--out", tmp_path / "codes")
    assert code == 0, errors
    metadata = pq.read_schema(tmp_path / "codes" / "codes-00000.parquet").metadata
    commit = api.model_info("ada/encoder").sha
    assert {b"model": b"ada/encoder", b"revision": commit.encode(), b"num_bits": b"16"}.items() <= metadata.items()


def test_the_example_of_the_card_runs(crh, codes_folder):
    crh("push", codes_folder, "ada/codes-2", "--type", "dataset")
    card = DatasetCard.load("ada/codes-2")
    card.validate()
    assert "60 codes of 16 bits, one per row" in card.text  # and no model, which is a folder of this machine
    (example,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, {})
    nearest = eval(printed.getvalue())
    assert nearest[0] == ("bright/00.png", 0)
    table = pq.read_table(codes_folder / "codes-00000.parquet")
    codes = np.stack([np.frombuffer(code, np.uint8) for code in table["code"].to_pylist()])
    distances = sorted(int(np.unpackbits(codes[0] ^ code).sum()) for code in codes)
    assert [distance for _, distance in nearest] == distances[:10]


def test_names_that_would_control_a_terminal_are_shown_without(crh, codes_folder, tiny_model, tmp_path):
    hostile = "\x1b[2J\x1b]0;x\x07\r\u202e\n"
    codes, model = tmp_path / f"codes{hostile}", tmp_path / f"model{hostile}"
    codes_folder.rename(codes)
    names = {number: f"class {number}{hostile}" for number in range(3)}
    tiny_model(None, id2label=names, label2id={name: number for number, name in names.items()}).save_pretrained(model)
    (model / "recipe.yaml").write_text(f"dataset: {json.dumps(hostile)}\n")
    (model / "figures.json").write_text(json.dumps({hostile: 0.5}))
    for expected, *command in (
        (0, "push", codes, "ada/hostile-codes", "--type", "dataset"),
        (0, "push", codes, "ada/hostile-codes", "--type", "dataset", "--revision", hostile),
        (0, "push", model, "ada/hostile"),
        (0, "push", model, "ada/hostile", "--license", hostile),
        (0, "push", model, "ada/hostile", "--dry-run"),
        (2, "push", model, f"ada/{hostile}"),
    ):
        code, output, errors = crh(*command)
        assert {mark for mark in output + errors if not mark.isprintable()} <= {"\n"}, (command, errors)
        assert "Traceback" not in errors
        assert (code, "[2J" in output) == (expected, expected == 0), (command, errors)
