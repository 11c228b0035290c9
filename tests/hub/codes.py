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
from tiny_commands import done, refusal

from modeling_crh.search import HammingIndex


@pytest.fixture
def codes_folder(crh, tiny_checkpoint, image_folder, tmp_path):
    done(crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "codes"))
    return tmp_path / "codes"


def test_codes_go_up_as_a_data_set_and_load_and_stream(crh, codes_folder, image_folder, remote_files):
    local = pq.read_table(codes_folder / "codes-00000.parquet")
    pushed = done(crh("push", codes_folder, "ada/codes", "--type", "dataset", "--model", "ada/tiny", "--json"))
    assert pushed["type"] == "dataset"
    files = remote_files("ada/codes", "dataset")
    assert set(files) == {".gitattributes", "README.md", "codes-00000.parquet"}
    assert not any(str(image_folder).encode() in content for content in files.values())
    rows = load_dataset("ada/codes", split="train")
    assert (rows.column_names, rows["path"][0]) == (local.column_names, "bright/00.png")
    streamed = load_dataset("ada/codes", split="train", streaming=True)
    assert rows["code"][:] == [row["code"] for row in streamed] == local["code"].to_pylist()


def test_an_index_goes_up_as_codes_and_pushed_codes_are_indexed(
    crh, codes_folder, image_folder, remote_files, tmp_path
):
    crh("index", codes_folder, "--out", tmp_path / "photos.crh")
    done(crh("push", tmp_path / "photos.crh", "ada/photos", "--type", "dataset", "--model", "ada/tiny"))
    assert not any(str(image_folder).encode() in content for content in remote_files("ada/photos", "dataset").values())
    done(crh("index", "ada/photos", "--out", tmp_path / "again.crh"))
    first, again = HammingIndex.load(tmp_path / "photos.crh"), HammingIndex.load(tmp_path / "again.crh")
    np.testing.assert_array_equal(again.packed, first.packed)
    assert (again.model, again.records([0])[0]["path"]) == ("ada/tiny", "bright/00.png")
    again.push_to_hub("ada/drafts", revision="draft", private=True)
    third = HammingIndex.from_pretrained("ada/drafts", revision="draft", kind="ivf")
    np.testing.assert_array_equal(third.packed, first.packed)
    assert (third.kind, third.records([59])) == ("ivf", again.records([59]))
    said = refusal(crh("index", "ada/none-such", "--out", tmp_path / "none.crh"))
    assert "or the Hub id of codes, but 'ada/none-such' is none" in said


def test_a_push_of_fewer_shards_leaves_none_of_the_earlier_ones(
    crh, codes_folder, tiny_checkpoint, image_folder, tmp_path, remote_files
):
    done(crh("encode", tiny_checkpoint, image_folder, "--out", tmp_path / "shards", "--shard-size", 25))
    for folder, shards in ((tmp_path / "shards", 3), (codes_folder, 1)):
        done(crh("push", folder, "ada/shards", "--type", "dataset"))
        files = {name for name in remote_files("ada/shards", "dataset") if name.endswith("t")}
        assert files == {f"codes-{number:05d}.parquet" for number in range(shards)}
        assert load_dataset("ada/shards", split="train")["id"][:] == list(range(60))


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
    assert done(crh(*command, "--json"))["items"] == 60
    streamed, local = pq.read_table(tmp_path / "streamed"), pq.read_table(codes_folder)
    assert streamed.select(["code", "label"]).to_pylist() == local.select(["code", "label"]).to_pylist()
    (tmp_path / "streamed" / "codes-00001.parquet").unlink()
    done(crh(*command))
    assert pq.read_table(tmp_path / "streamed").equals(streamed)
    api.delete_file("train-2.parquet", "ada/images", repo_type="dataset")
    assert "`source` must be 'ada/images' as it was when" in refusal(crh(*command))
    said = refusal(crh("encode", tiny_checkpoint, "ada/nothing", "--out", tmp_path / "nothing"))
    assert "must be a folder, a table or a dataset that can be read, but 'ada/nothing' is not" in said


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
    said = refusal(crh("encode", tiny_checkpoint, name, "--out", tmp_path / "codes"))
    assert (server.asked, f"its {file} names '" in said) == ([], True), said


def test_codes_name_the_revision_of_a_model_on_the_hub(crh, tiny_checkpoint, image_folder, tmp_path, api):
    done(crh("push", tiny_checkpoint, "ada/encoder"))
    done(crh("encode", "ada/encoder", image_folder, "--out", tmp_path / "codes"))
    metadata = pq.read_schema(tmp_path / "codes" / "codes-00000.parquet").metadata
    commit = api.model_info("ada/encoder").sha.encode()
    assert {b"model": b"ada/encoder", b"revision": commit, b"num_bits": b"16"}.items() <= metadata.items()


def test_the_example_of_the_card_runs(crh, codes_folder):
    crh("push", codes_folder, "ada/codes-2", "--type", "dataset")
    card = DatasetCard.load("ada/codes-2")
    card.validate()
    assert "60 codes of 16 bits, one per row" in card.text  # and no model, which is a folder of this machine
    (example,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(example, {})
    nearest = eval(printed.getvalue())
    assert nearest[0] == ("bright/00.png", 0)
    codes = np.stack([np.frombuffer(code, np.uint8) for code in pq.read_table(codes_folder)["code"].to_pylist()])
    distances = sorted(np.bitwise_count(codes ^ codes[0]).sum(1).tolist())
    assert [distance for _, distance in nearest] == distances[:10]
